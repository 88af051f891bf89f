package uatest

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/plugin"
	"github.com/kmsctl/kms/runtime/testkit"
)

// APIKey is what the API of ProbeTarget takes.
const APIKey = "probe-key"

// ProbeTarget serves w's UA and the one API call of a probe on unix sockets, as a set does, and names them.
func (w *World) ProbeTarget(t testing.TB, version string) plugin.ProbeTarget {
	t.Helper()
	dir := testkit.ShortDir(t)
	api := http.NewServeMux()
	api.HandleFunc("POST /api/"+version+"/"+Tenant+"/channels/{channel}/messages", w.postMessage)
	return plugin.ProbeTarget{
		UA: serveUnix(t, filepath.Join(dir, "ua.sock"), w.Server), API: serveUnix(t, filepath.Join(dir, "api.sock"), api),
		Tenant: Tenant, Token: Token("aki"), Key: APIKey, Channel: "lobby", User: "aki",
	}
}

func serveUnix(t testing.TB, path string, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("unix", path)
	must(t, err)
	server := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // ends with Close
	}()
	t.Cleanup(func() {
		must(t, server.Close())
		<-done
	})
	return "unix:" + path
}

func (w *World) postMessage(rw http.ResponseWriter, r *http.Request) {
	if key, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); key != APIKey {
		http.Error(rw, `{"code":"bad_key","message":"unknown API key"}`, http.StatusUnauthorized)
		return
	}
	var body struct{ Text string }
	err := json.NewDecoder(r.Body).Decode(&body)
	if err == nil {
		var receipt any
		if receipt, err = w.system(r.Context(), r.PathValue("channel"), body.Text); err == nil {
			rw.WriteHeader(http.StatusCreated)
			err = json.NewEncoder(rw).Encode(receipt)
		}
	}
	if err != nil {
		http.Error(rw, chat.AsError(err).Error(), http.StatusBadRequest)
	}
}

func (w *World) system(ctx context.Context, channel, text string) (any, error) {
	r, err := w.Service.System(ctx, Tenant, channel, "", "", "", text)
	return map[string]any{"id": r.ID, "epoch": r.Epoch, "seq": r.Seq}, err
}
