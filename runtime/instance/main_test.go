package instance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/hub"
	"github.com/kmsctl/kms/runtime/plugin"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/ua"
)

// TestMain makes the test binary its own build.
func TestMain(m *testing.M) {
	if os.Getenv(plugin.Handshake.MagicCookieKey) != "" {
		Main(testBuild())
	}
	goleak.VerifyTestMain(m)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// testBuild speaks words: `login TOKEN`, `join CHANNEL`, `say CHANNEL TEXT`; what it hears it writes as `KIND CHANNEL TEXT`.
func testBuild() Build {
	return Build{
		Version: "9.0", Label: "9.0-test", SchemaMin: 1, SchemaMax: store.Schema,
		Protocol: func() ua.Protocol { return words{} },
		API:      testAPI,
		Probe: func(_ context.Context, t plugin.ProbeTarget) error {
			if t.Tenant != "_probe" {
				return errors.New("cannot log in: bad_token")
			}
			return nil
		},
	}
}

type words struct{}

func (words) Name() string   { return "9.0" }
func (words) Seamless() bool { return false }

func (words) Decode(frame []byte) ([]ua.Command, error) {
	w := strings.SplitN(string(frame), " ", 3)
	c := ua.Command{Verb: ua.Verb(w[0])}
	switch {
	case c.Verb == ua.Login && len(w) == 2:
		c.Token = w[1]
	case c.Verb == ua.Join && len(w) == 2:
		c.Channel = w[1]
	case c.Verb == ua.Say && len(w) == 3:
		c.Channel, c.Text = w[1], w[2]
	default:
		return nil, chat.Errorf(chat.CodeBadFrame, "no sense")
	}
	return []ua.Command{c}, nil
}

func (words) AppendReply(dst []byte, r ua.Reply) []byte {
	text := string(r.Kind) + " " + r.To.Channel
	if r.Err != nil {
		text = r.Err.Error()
	}
	return hub.AppendText(dst, []byte(text))
}

func (words) AppendBatch(dst []byte, batch []*envelope.Envelope) []byte {
	for _, e := range batch {
		dst = hub.AppendText(dst, []byte(e.Kind+" "+e.Channel+" "+e.Text))
	}
	return dst
}

// testAPI posts its body as a system message to the last element of the path.
func testAPI(p APIParts) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.Split(r.URL.Path, "/") // "", api, version, tenant, channel
		key, err := p.Chat.Key(r.Context(), path[3], r.Header.Get("X-Key"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err == nil {
			_, err = p.Chat.System(r.Context(), key.Tenant, path[4], "", "", "", string(body))
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
}

func TestRun_describesItself(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run(testBuild(), []string{"describe"}, nil, &out, &errs); code != 0 || errs.Len() > 0 {
		t.Fatalf("exit %d: %s", code, &errs)
	}
	var d plugin.Describe
	check(t, json.Unmarshal(out.Bytes(), &d))
	check(t, d.Check())
	if d.Version != "9.0" || d.SchemaMax != store.Schema || !slices.Equal(d.Roles, []string{"ua", "api"}) {
		t.Errorf("describes itself as %+v", d)
	}
}

func TestRun_exitsWithAReason(t *testing.T) {
	bare := Build{Version: "9.0", Label: "bare"}
	for name, tt := range map[string]struct {
		build  Build
		args   []string
		stdin  string
		code   int
		reason string
	}{
		"probe":           {testBuild(), []string{"probe"}, `{"tenant":"_probe"}`, 0, ""},
		"failing probe":   {testBuild(), []string{"probe"}, `{"tenant":"demo"}`, 1, "cannot log in: bad_token\n"},
		"no target":       {testBuild(), []string{"probe"}, ``, 1, "cannot read the probe's target"},
		"no probe":        {bare, []string{"probe"}, `{}`, 1, "has no probe"},
		"nothing":         {testBuild(), nil, ``, 2, "want one of: describe"},
		"unknown":         {testBuild(), []string{"destroy"}, ``, 2, `unknown command "destroy"`},
		"role it has not": {bare, []string{"ua"}, ``, 2, `unknown command "ua"`},
	} {
		var out, errs bytes.Buffer
		code := run(tt.build, tt.args, strings.NewReader(tt.stdin), &out, &errs)
		if code != tt.code || !strings.Contains(errs.String(), tt.reason) {
			t.Errorf("%s: exit %d and %q, want %d and %q", name, code, &errs, tt.code, tt.reason)
		}
	}
}
