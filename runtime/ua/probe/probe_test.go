package probe_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/kmsctl/kms/runtime/plugin"
	"github.com/kmsctl/kms/runtime/ua/probe"
)

// startTLS serves an echo as UA and an API that answers status and body, as nginx would: one address, https.
func startTLS(t *testing.T, status int, body string) plugin.ProbeTarget {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/ua/1.0/_probe", func(w http.ResponseWriter, r *http.Request) {
		ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil || r.URL.Query().Get("u") != "pro be" {
			t.Error(r.URL, err)
			return
		}
		defer ws.Close()
		for {
			kind, data, err := ws.ReadMessage()
			if err != nil || ws.WriteMessage(kind, data) != nil {
				return
			}
		}
	})
	mux.HandleFunc("POST /api/1.0/_probe/channels/probe/messages", func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "Bearer key" {
			t.Errorf("Authorization: %q", got)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
	server := httptest.NewTLSServer(mux)
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return plugin.ProbeTarget{UA: server.URL, API: server.URL, Tenant: "_probe", User: "pro be", Key: "key", CA: string(ca)}
}

func echo(p *probe.Probe) error {
	frame := []byte(p.Nonce)
	if err := p.Send(frame); err != nil {
		return err
	}
	return p.Receive("echo", func(got []byte) (bool, error) { return bytes.Equal(got, frame), nil })
}

func TestRun_throughTLS(t *testing.T) {
	for want, api := range map[string]struct {
		status int
		body   string
	}{
		"":              {http.StatusCreated, `{"id":"x"}`},
		"401":           {http.StatusUnauthorized, `{"code":"bad_key"}`},
		"without an id": {http.StatusCreated, `{}`},
	} {
		target := startTLS(t, api.status, api.body)
		err := probe.Run(t.Context(), target, "1.0", echo)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", want, err)
		}
		target.CA = ""
		if err := probe.Run(t.Context(), target, "1.0", echo); err == nil {
			t.Error("an unknown certificate is trusted")
		}
	}
}

func TestRun_endsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	err := probe.Run(ctx, startTLS(t, http.StatusCreated, ""), "1.0", func(p *probe.Probe) error {
		return p.Receive("word", func([]byte) (bool, error) { return true, nil })
	})
	if err == nil || !strings.Contains(err.Error(), "no word") || time.Since(began) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}
