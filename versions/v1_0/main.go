// Command v1_0 is server version 1.0: the plain protocol of docs/protocol/1.0.md, one JSON object a frame, on
// the parts of runtime. The control plane starts it as `ua` and as `api`, and asks it to `describe` and `probe` itself.
package main

import (
	"net/http"

	"github.com/kmsctl/kms/runtime/api"
	"github.com/kmsctl/kms/runtime/instance"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/ua"
)

// version is the version that this build was written for.
const version = "1.0"

// label is set by the build: -ldflags "-X main.label=1.0.3".
var label = "1.0-dev"

func main() {
	instance.Main(instance.Build{
		Version:   version,
		Label:     label,
		SchemaMin: 2, // tenants.limits
		SchemaMax: store.Schema,
		Protocol:  func() ua.Protocol { return protocol{} },
		API:       func(p instance.APIParts) http.Handler { return api.Handler(p.Chat, p.Store, p.Version, p.Logger) },
		Probe:     runProbe,
	})
}
