package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsctl/kms/controlplane/api"
	"github.com/kmsctl/kms/runtime/testkit"
)

// TestImport_losesNobodysChange plays a control plane whose list another admin changes between the reading and the writing.
func TestImport_losesNobodysChange(t *testing.T) {
	home := testkit.ShortDir(t)
	if err := os.Mkdir(filepath.Join(home, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(home, "run", "kms.sock"))
	if err != nil {
		t.Fatal(err)
	}
	var sent api.NGChange
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/tenants/demo/nglists/default/plan", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"tenant":"demo","list":"default","from":7,"to":8,"added":[{"word":"ばか","kind":"word","action":"reject","mode":"auto"}]}`)
	})
	mux.HandleFunc("PATCH /v1/tenants/demo/nglists/default", func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusConflict)
		io.WriteString(w, `{"kind":"failed","message":"changed in the meantime","hint":"run it again"}`)
	})
	srv := &http.Server{Handler: mux}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(l) }()
	defer func() { srv.Close(); <-done }()

	file := filepath.Join(t.TempDir(), "words.txt")
	if err := os.WriteFile(file, []byte("ばか\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	code := run([]string{"ngword", "import", "demo", file, "--home", home}, os.Stdin, io.Discard, &errs)
	if code != 1 || !strings.Contains(errs.String(), "hint: run it again") {
		t.Errorf("code %d: %s", code, errs.String())
	}
	if sent.Base == nil || *sent.Base != 7 || len(sent.Add) != 1 {
		t.Errorf("sent %+v", sent)
	}
}
