package main

import (
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/ua"
	"github.com/kmsctl/kms/runtime/ua/uatest"
)

func TestProtocol_goldenSession(t *testing.T) {
	uatest.Start(t, protocol{now: time.Now}, ua.Options{}).Replay(t, "testdata/session.txt")
}

func TestProtocol_strangersClient(t *testing.T) {
	uatest.Start(t, testProtocol(), ua.Options{}).RunPython(t, "testdata/client.py")
}
