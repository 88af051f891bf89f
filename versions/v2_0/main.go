// Command v2_0 is server version 2.0: batched operations with acknowledgements and resume, docs/protocol/2.0.md, on
// the parts of runtime. The control plane starts it as `ua` and as `api`, and asks it to `describe` and `probe` itself.
package main

import (
	"net/http"
	"time"

	"github.com/kmsctl/kms/runtime/api"
	"github.com/kmsctl/kms/runtime/instance"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/ua"
)

// version is the version that this build was written for.
const version = "2.0"

// label is set by the build: -ldflags "-X main.label=2.0.3".
var label = "2.0-dev"

func main() {
	instance.Main(instance.Build{
		Version:   version,
		Label:     label,
		SchemaMin: 2, // tenants.limits
		SchemaMax: store.Schema,
		Protocol:  func() ua.Protocol { return protocol{now: time.Now} },
		API:       func(p instance.APIParts) http.Handler { return api.Handler(p.Chat, p.Store, p.Version, p.Logger) },
		Probe:     runProbe,
	})
}
