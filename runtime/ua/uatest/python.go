package uatest

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/testkit"
)

// python is Debian's own, which its python3-websockets is for; another may come first in PATH.
const python = "/usr/bin/python3"

// RunPython runs a client script against w, as aki in the lobby: it was written from a protocol page, so the page is enough.
func (w *World) RunPython(t *testing.T, script string) {
	t.Helper()
	testkit.Need(t, python)
	if exec.Command(python, "-c", "import websockets").Run() != nil {
		if os.Getenv("KMS_TEST_REQUIRE") == "1" {
			t.Fatal("python3-websockets is not installed and KMS_TEST_REQUIRE=1")
		}
		t.Skip("python3-websockets is not installed")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, python, script, w.URL, Token("aki"), "lobby").CombinedOutput()
	if err != nil || string(out) != "ok\n" {
		t.Errorf("%v\n%s", err, out)
	}
}
