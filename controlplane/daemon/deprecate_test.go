package daemon

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
	"github.com/kmsctl/kms/runtime/auth"
	"github.com/kmsctl/kms/runtime/testkit"
)

// call asks the API of a version through nginx.
func (h *host) call(version, tenant, key string) (status int, header http.Header, body string) {
	h.t.Helper()
	q, err := http.NewRequest(http.MethodGet, "http://"+h.config.String("http")+"/api/"+version+"/"+tenant+"/", nil)
	if err != nil {
		h.t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ Code, Message string }
	json.NewDecoder(resp.Body).Decode(&answer)
	return resp.StatusCode, resp.Header, answer.Code + " " + answer.Message
}

func (h *host) key(tenant string) string {
	h.t.Helper()
	secret := "kms_key-of-" + tenant + "-0123456789"
	if _, err := h.d.Store().CreateKey(h.t.Context(), tenant, "game", auth.Hash(secret)); err != nil {
		h.t.Fatal(err)
	}
	return secret
}

func (h *host) versionsPage() string {
	h.t.Helper()
	resp, err := http.Get("http://" + h.config.String("http") + "/versions")
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	var page json.RawMessage
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		h.t.Fatal(err)
	}
	return string(page)
}

func TestDeprecate_isToldToClientsCallersAndEverybody(t *testing.T) {
	h := newHost(t)
	h.up()
	ctx := t.Context()
	token := h.game("dragon")
	key := h.key("dragon")
	sunset := time.Now().Add(100 * 24 * time.Hour).Truncate(time.Second)
	if _, header, _ := h.call("2.0", "dragon", key); header.Get("Deprecation") != "" {
		t.Errorf("before: %v", header)
	}
	early := h.visit("dragon", token, "")
	said, err := h.client.Deprecate(ctx, controlplane.DeprecationRequest{Version: "2.0", Sunset: sunset, Message: "move to 3.0"})
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 5*time.Second, "callers of the API are told", func() bool {
		_, header, _ := h.call("2.0", "dragon", key)
		return header.Get("Deprecation") == fmt.Sprintf("@%d", said.Since.Unix()) &&
			header.Get("Sunset") == sunset.UTC().Format(http.TimeFormat)
	})
	want := fmt.Sprintf(`"deprecated":{"since":%d,"sunset":%d,"message":"move to 3.0"}`, said.Since.UnixMilli(), sunset.UnixMilli())
	if told := early.next(t); told != `[{"op":"version",`+want+`}]` {
		t.Errorf("who was connected is told %s", told)
	}
	if v := h.visit("dragon", token, ""); !strings.Contains(v.welcome, want) {
		t.Errorf("the client is welcomed with %s", v.welcome)
	}
	if page := h.versionsPage(); !strings.Contains(page, `"deprecated"`) || !strings.Contains(page, "move to 3.0") {
		t.Errorf("/versions says %s", page)
	}
	if now := h.version("2.0").Deprecation; now == nil || !now.Sunset.Equal(sunset) || now.Message != "move to 3.0" {
		t.Errorf("the status says %+v", now)
	}
	// Said again it keeps its beginning, and the next release changes nothing.
	again, err := h.client.Deprecate(ctx, controlplane.DeprecationRequest{Version: "2.0", Message: "soon"})
	if err != nil || !again.Since.Equal(said.Since) {
		t.Errorf("said again: %+v, %v", again, err)
	}
	h.deploy(h.otherBuild("dep").Digest)
	if now := h.version("2.0").Deprecation; now == nil || now.Message != "soon" {
		t.Errorf("after a deploy: %+v", now)
	}
	if told := early.next(t); !strings.Contains(told, `"message":"soon"`) {
		t.Errorf("who is connected is told %s", told)
	}
	if err := h.client.Undeprecate(ctx, "2.0"); err != nil {
		t.Fatal(err)
	}
	for told := ""; told != `[{"op":"version"}]`; told = early.next(t) { // the deploy may have asked it to move
	}
	testkit.Eventually(t, 5*time.Second, "nobody is told any more", func() bool {
		_, header, _ := h.call("2.0", "dragon", key)
		return header.Get("Deprecation") == "" && header.Get("Sunset") == "" && !strings.Contains(h.versionsPage(), "deprecated")
	})
	if err := h.client.Undeprecate(ctx, "2.0"); controlplane.AsError(err).Kind != controlplane.NotFound {
		t.Errorf("taking back what is not said: %v", err)
	}
	if _, err := h.client.Deprecate(ctx, controlplane.DeprecationRequest{Version: "2.0", Sunset: time.Now().Add(-time.Hour)}); controlplane.AsError(err).Kind != controlplane.Usage {
		t.Errorf("a sunset in the past: %v", err)
	}
	if _, err := h.client.Deprecate(ctx, controlplane.DeprecationRequest{Version: "7.0"}); controlplane.AsError(err).Kind != controlplane.NotFound {
		t.Errorf("an unknown version: %v", err)
	}
}

// TestMinVersion: the server refuses, not nginx, so it names the versions that the tenant may use.
func TestMinVersion_oldVersionsRefuseTheTenant(t *testing.T) {
	h := newHost(t)
	h.up()
	ctx := t.Context()
	dragon, tiger := h.game("dragon"), h.game("tiger")
	key := h.key("dragon")
	open, other := h.visit("dragon", dragon, ""), h.visit("tiger", tiger, "")
	min := "2.1"
	if _, err := h.client.SetTenant(ctx, "dragon", api.TenantChange{MinVersion: &min}); err != nil {
		t.Fatal(err)
	}
	if said := open.next(t); said != "close 4403" {
		t.Errorf("the open connection is told %s", said)
	}
	if status, _, body := h.call("2.0", "dragon", key); status != http.StatusForbidden || !strings.HasPrefix(body, "version_too_old") {
		t.Errorf("the API answers %d %s", status, body)
	}
	min = "2.0"
	if _, err := h.client.SetTenant(ctx, "dragon", api.TenantChange{MinVersion: &min}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 5*time.Second, "2.0 serves the tenant and 1.0 names it", func() bool {
		ok, _, _ := h.call("2.0", "dragon", key)
		old, _, body := h.call("1.0", "dragon", key)
		return ok == http.StatusOK && old == http.StatusForbidden && strings.Contains(body, "which are: 2.0")
	})
	testkit.Eventually(t, 5*time.Second, "the UA, a process of its own, lets the tenant in again", func() bool {
		return strings.Contains(h.tryVisit("dragon", dragon, "").welcome, `"welcome"`)
	})
	select {
	case said := <-other.said:
		t.Errorf("another tenant's client is told %s", said)
	default:
	}
}
