package main

import (
	"net/http"
	"testing"

	"github.com/kmsctl/kms/runtime/api/apitest"
	"github.com/kmsctl/kms/runtime/ua"
	"github.com/kmsctl/kms/runtime/ua/uatest"
)

func TestProbe_passesOnTheRealAPI(t *testing.T) {
	w := uatest.Start(t, testProtocol(), ua.Options{})
	target := w.ProbeTarget(t, version)
	target.API, target.Key = apitest.Start(t, w.Store, version).Addr, apitest.Key(t, w.Store, uatest.Tenant)
	if err := runProbe(t.Context(), target); err != nil {
		t.Error(err)
	}
}

func TestAPI_reachesClients(t *testing.T) {
	w := uatest.Start(t, testProtocol(), ua.Options{})
	server := apitest.Start(t, w.Store, version)
	bearer := "Authorization: Bearer " + apitest.Key(t, w.Store, uatest.Tenant)
	call := func(method, path, body string, want int) {
		t.Helper()
		if a := server.Call(t, method, "/api/"+version+"/"+uatest.Tenant+"/"+path, body, bearer); a.Status != want {
			t.Fatalf("%s %s answers %d %s", method, path, a.Status, a.Body)
		}
	}
	bob := w.Dial(t)
	bob.Send(`[{"op":"hello","token":"` + uatest.Token("bob") + `"},{"op":"sub","ch":"guild-7"}]`)
	bob.Until(`"not_member"`)
	call("PUT", "channels/guild-7/members/bob", "", http.StatusNoContent)
	bob.Send(`[{"op":"sub","ch":"guild-7"},{"op":"sub","ch":"lobby"}]`)
	bob.Until(`"subbed"`, `"guild-7"`)
	call("POST", "channels/guild-7/messages", `{"text":"おかえり","name":"KMS"}`, http.StatusCreated)
	bob.Until(`"おかえり"`, `"guild-7"`)
	call("DELETE", "channels/guild-7/members/bob", "", http.StatusNoContent)
	bob.Until(`"guild-7"`, `"not_member"`)
	call("PUT", "ngwords", `{"words":[{"word":"fig"}]}`, http.StatusOK)
	call("PUT", "users/new/token", `{"token":"0123456789abcdef"}`, http.StatusOK)
	fresh := w.Dial(t)
	fresh.Send(`[{"op":"hello","token":"0123456789abcdef"}]`)
	fresh.Until(`"welcome"`, `"new"`)
	call("DELETE", "users/bob/token", "", http.StatusOK)
	bob.Until("close 4401")
	call("DELETE", "channels/lobby", "", http.StatusNoContent)
	fresh.Send(`[{"op":"sub","ch":"lobby"}]`)
	fresh.Until(`"no_such_channel"`)
}
