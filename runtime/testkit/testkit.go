// Package testkit gives tests the outside programs they need: an IRC server, a MySQL database, an address of their own, a short directory.
// What is missing on this machine skips the test with a plain reason, and fails it when KMS_TEST_REQUIRE=1, so that `make test`
// cannot pass with something left out. Only tests import it, and it imports no package of KMS but freeport.
package testkit

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/testkit/freeport"
)

// Need returns the absolute path of program, also when it sits in a directory for system programs that PATH leaves out.
func Need(t testing.TB, program string) string {
	t.Helper()
	if path, err := exec.LookPath(program); err == nil {
		if abs, err := filepath.Abs(path); err == nil {
			return abs
		}
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path
		}
	}
	missing(t, "%s is not installed", program)
	return ""
}

// missing skips the test, or fails it where the test may not be left out.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("KMS_TEST_REQUIRE") == "1" {
		t.Fatalf(format+" and KMS_TEST_REQUIRE=1", args...)
	}
	t.Skipf(format, args...)
}

// ShortDir returns a new directory whose path leaves room for a socket's name within sun_path's 107 bytes.
func ShortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "kms")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("cannot remove %q: %v", dir, err)
		}
	})
	return dir
}

// FreeAddr returns an address of 127.0.0.1 that is nobody else's until the test ends, as are the ports that many above it.
func FreeAddr(t testing.TB, above ...int) string {
	t.Helper()
	address, release, err := freeport.Claim(above...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return address
}

// Eventually waits until cond holds and fails the test when it does not within the given time. cond runs on the test's goroutine.
func Eventually(t testing.TB, within time.Duration, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for pause := time.Millisecond; !cond(); pause = min(2*pause, 50*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
		time.Sleep(pause)
	}
}
