package main

import (
	"testing"

	"github.com/kmsctl/kms/runtime/ua"
	"github.com/kmsctl/kms/runtime/ua/uatest"
)

func TestProtocol_goldenSession(t *testing.T) {
	uatest.Start(t, protocol{}, ua.Options{}).Replay(t, "testdata/session.txt")
}

func TestProtocol_strangersClient(t *testing.T) {
	uatest.Start(t, protocol{}, ua.Options{}).RunPython(t, "testdata/client.py")
}
