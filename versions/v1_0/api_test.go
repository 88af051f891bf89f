package main

import (
	"testing"

	"github.com/kmsctl/kms/runtime/api/apitest"
	"github.com/kmsctl/kms/runtime/ua"
	"github.com/kmsctl/kms/runtime/ua/uatest"
)

func TestProbe_passesOnTheRealAPI(t *testing.T) {
	w := uatest.Start(t, protocol{}, ua.Options{})
	target := w.ProbeTarget(t, version)
	target.API, target.Key = apitest.Start(t, w.Store, version).Addr, apitest.Key(t, w.Store, uatest.Tenant)
	if err := runProbe(t.Context(), target); err != nil {
		t.Error(err)
	}
}
