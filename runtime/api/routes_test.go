package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/auth"
	"github.com/kmsctl/kms/runtime/chatlog"
	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/store"
)

func TestTenants_seeNothingOfEachOther(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.must(t, 201, "PUT", "channels/lobby", `{"kind":"guild"}`)
		w.must(t, 204, "PUT", "channels/lobby/members/aki", "")
		w.must(t, 201, "POST", "channels/lobby/messages", `{"text":"for demo only"}`)
		w.must(t, 200, "PUT", "users/aki/token", `{"token":"0123456789abcdef"}`)
		w.must(t, 200, "PUT", "ngwords", `{"words":[{"word":"darn"}]}`)
		w.must(t, 201, "PUT", "ngwords/lists/more", `{"words":[{"word":"darn"}]}`)
		const defaults = `{"scopes":["world","guild","direct","name"],"include":["kms-allow-en","kms-allow-ja"],"spacing":"word","look_alikes":"on"}`
		for _, tt := range []struct{ call, body, want string }{
			{"GET channels", "", `200 {"channels":[],"more":false}`},
			{"GET channels/lobby", "", `404 {"code":"no_such_channel","message":"there is no such channel"}`},
			{"GET channels/lobby/messages", "", `404 {"code":"no_such_channel","message":"there is no such channel"}`},
			{"GET channels/lobby/members", "", `404 {"code":"no_such_channel","message":"there is no such channel"}`},
			{"POST channels/lobby/messages", `{"text":"x"}`, `404 {"code":"no_such_channel","message":"there is no such channel"}`},
			{"DELETE channels/lobby", "", `404 {"code":"no_such_channel","message":"there is no such channel"}`},
			{"DELETE channels/lobby/members/aki", "", `404 {"code":"no_such_channel","message":"there is no such channel"}`},
			{"DELETE users/aki/token", "", `200 {"revoked":0}`},
			{"PUT users/aki/token", `{"token":"0123456789abcdef"}`, `409 {"code":"token_taken","message":"the token is another user's"}`},
			{"GET ngwords", "", `200 {"list":"default","revision":0,"count":0,"settings":` + defaults + `,"words":[],"more":false}`},
			{"GET ngwords/lists", "", `200 {"lists":[{"list":"default","revision":0,"count":0,"settings":` + defaults + `}]}`},
			{"GET ngwords/lists/more", "", `404 {"code":"no_such_list","message":"there is no list \"more\""}`},
			{"GET ngwords/lists/more/history", "", `404 {"code":"no_such_list","message":"there is no list \"more\""}`},
			{"GET ngwords/lists/more/diff?from=0", "", `404 {"code":"no_such_list","message":"there is no list \"more\" with a revision 0"}`},
			{"PATCH ngwords/lists/more", `{"remove":["darn"]}`, `404 {"code":"no_such_list","message":"there is no list \"more\""}`},
			{"POST ngwords/lists/more/rollback", `{"to":1}`, `404 {"code":"no_such_list","message":"there is no list \"more\" with a revision 1"}`},
			{"DELETE ngwords/lists/more", "", `404 {"code":"no_such_list","message":"there is no list \"more\""}`},
			{"PATCH ngwords", `{"settings":{"include":["more"]}}`, `400 {"code":"bad_request","message":"there is no base list \"more\""}`},
			{"POST ngwords/test", `{"text":"darn"}`, `200 {"action":"","text":"darn","hits":[],"allowed":[]}`},
		} {
			method, path, _ := strings.Cut(tt.call, " ")
			a := w.Call(t, method, "/api/2.0/other/"+path, tt.body, "Authorization: Bearer "+w.other)
			if got := fmt.Sprint(a.Status, " ", a.Body); got != tt.want {
				t.Errorf("%s: %s, want %s", tt.call, got, tt.want)
			}
		}
		if _, err := w.store.LookupToken(t.Context(), "demo", auth.Hash("0123456789abcdef")); err != nil {
			t.Errorf("demo's token: %v", err)
		}
		if got := w.must(t, 200, "GET", "channels/lobby/members", "").Body; got != `{"members":["aki"],"more":false}` {
			t.Error(got)
		}
	})
}

func TestWrites_announceWhatChanges(t *testing.T) {
	w := sqliteWorld(t)
	for _, tt := range []struct {
		status       int
		method, path string
		body         string
		want         int64
	}{
		{200, "PUT", "users/aki/token", `{"name":"Aki"}`, 0}, // new: nobody knew it
		{200, "PUT", "users/aki/token", `{"name":"Aki"}`, 0},
		{200, "PUT", "users/aki/token", `{"name":"AKI"}`, 1},
		{200, "PUT", "users/aki/token", `{"token":"0123456789abcdef"}`, 0},
		{200, "PUT", "users/aki/token", `{"token":"0123456789abcdef","expires_in":60}`, 1},
		{200, "DELETE", "users/aki/token", ``, 1},
		{200, "DELETE", "users/aki/token", ``, 0},
		{201, "PUT", "channels/guild", ``, 1},
		{200, "PUT", "channels/guild", ``, 0},
		{204, "PUT", "channels/guild/members/aki", ``, 1},
		{204, "DELETE", "channels/guild/members/aki", ``, 1},
		{204, "DELETE", "channels/guild/members/aki", ``, 0},
		{201, "POST", "channels/guild/messages", `{"text":"x"}`, 0},
		{200, "PUT", "ngwords", `{"words":[{"word":"darn"}]}`, 1},
		{200, "PATCH", "ngwords", `{"remove":["darn"]}`, 1},
		{200, "PATCH", "ngwords", `{"remove":["darn"]}`, 0},
		{200, "PATCH", "ngwords", `{"add":[{"word":"darn"}],"dry_run":true}`, 0},
		{200, "PATCH", "ngwords", `{"settings":{"scopes":["name"]}}`, 1},
		{201, "PUT", "ngwords/lists/more", `{"words":[]}`, 1},
		{200, "POST", "ngwords/lists/default/rollback", `{"to":1}`, 1},
		{204, "DELETE", "ngwords/lists/more", ``, 1},
		{204, "DELETE", "channels/guild", ``, 1},
	} {
		before := w.Changes()
		w.must(t, tt.status, tt.method, tt.path, tt.body)
		if got := w.Changes() - before; got != tt.want {
			t.Errorf("%s %s %s is announced %d times, want %d", tt.method, tt.path, tt.body, got, tt.want)
		}
	}
}

func TestPutToken_letsTheUserIn(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		var made struct {
			Token     string
			ExpiresAt int64 `json:"expires_at"`
		}
		check(t, json.Unmarshal([]byte(w.must(t, 200, "PUT", "users/aki/token", `{"name":"あき","expires_in":60}`).Body), &made))
		id, err := w.Service.Login(t.Context(), "demo", made.Token)
		check(t, err)
		if in := time.Until(id.Expires); id.User != "aki" || id.Name != "あき" || in < 50*time.Second || in > 61*time.Second ||
			id.Expires.UnixMilli() != made.ExpiresAt {
			t.Errorf("%+v, told %d", id, made.ExpiresAt)
		}
		if _, err := w.Service.Login(t.Context(), "other", made.Token); err == nil {
			t.Error("the token opens another tenant")
		}
	})
}

func TestPutChannel_atTheSameTimeMakesOne(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		const callers = 8
		var wg sync.WaitGroup
		statuses := make([]int, callers)
		bodies := make([]string, callers)
		for i := range callers {
			wg.Go(func() {
				a := w.call(t, "PUT", "/api/2.0/demo/channels/lobby", `{"kind":"world"}`)
				statuses[i], bodies[i] = a.Status, a.Body
			})
		}
		wg.Wait()
		created := 0
		for i := range callers {
			if statuses[i] == 201 {
				created++
			}
			if statuses[i] > 201 || bodies[i] != bodies[0] {
				t.Errorf("%d %s", statuses[i], bodies[i])
			}
		}
		if created != 1 {
			t.Errorf("created %d times: %v", created, statuses)
		}
	})
}

func TestLists_comeInPages(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		ids := []string{"A", "a", "b", "c-1", "c.2"} // bytewise: - before . before letters, upper case first
		for _, id := range ids {
			w.must(t, 201, "PUT", "channels/"+id, "")
			w.must(t, 204, "PUT", "channels/A/members/"+id, "")
			w.must(t, 201, "POST", "channels/A/messages", `{"text":"`+id+`"}`)
		}
		pages := func(path, field string) (seen []string) {
			query := "?limit=2"
			for {
				var page map[string]json.RawMessage
				check(t, json.Unmarshal([]byte(w.must(t, 200, "GET", path+query, "").Body), &page))
				var list []any
				check(t, json.Unmarshal(page[field], &list))
				last := ""
				for _, item := range list {
					last = fmt.Sprint(item)
					if o, ok := item.(map[string]any); ok && field == "channels" {
						last = fmt.Sprint(o["id"])
					} else if ok {
						last = fmt.Sprint(o["seq"])
					}
					seen = append(seen, last)
				}
				if string(page["more"]) != "true" {
					return seen
				}
				query = "?limit=2&after=" + last
			}
		}
		want := fmt.Sprint(ids)
		if got := fmt.Sprint(pages("channels", "channels")); got != want {
			t.Errorf("channels %s, want %s", got, want)
		}
		if got := fmt.Sprint(pages("channels/A/members", "members")); got != want {
			t.Errorf("members %s, want %s", got, want)
		}
		if got := fmt.Sprint(pages("channels/A/messages", "messages")); got != "[1 2 3 4 5]" {
			t.Errorf("messages %s", got)
		}
	})
}

func TestMessages_ofAChannelWithoutHistory(t *testing.T) {
	w := sqliteWorld(t)
	w.must(t, 201, "PUT", "channels/shout", `{"kind":"world","history":"none"}`)
	var sent struct {
		ID     string
		Seq    *int64
		Epoch  *string
		Logged bool
		At     int64
	}
	check(t, json.Unmarshal([]byte(w.must(t, 201, "POST", "channels/shout/messages", `{"text":"x"}`).Body), &sent))
	if len(sent.ID) != 26 || sent.Seq != nil || sent.Epoch != nil || sent.Logged || sent.At == 0 {
		t.Errorf("%+v", sent)
	}
	if got := w.must(t, 200, "GET", "channels/shout/messages", "").Body; got != `{"epoch":"","first":0,"head":0,"messages":[],"more":false}` {
		t.Error(got)
	}
}

func TestGetMessages_tellsWhatEachEntryIs(t *testing.T) {
	w := sqliteWorld(t)
	w.must(t, 201, "PUT", "channels/lobby", `{"kind":"world"}`)
	ch, err := w.store.Channel(t.Context(), "demo", "lobby")
	check(t, err)
	log := chatlog.Open(w.store, chatlog.Options{})
	defer log.Close()
	const first, second, third = "01JD3V4N8ZQ0X5T6Y7W8R9S0AB", "01JD3V4N8ZQ0X5T6Y7W8R9S0AC", "01JD3V4N8ZQ0X5T6Y7W8R9S0AD"
	for _, e := range []*envelope.Envelope{
		{Kind: envelope.Say, ID: first, User: "aki", Name: "あき", Text: "darn", Shadow: true},
		{Kind: envelope.Edit, ID: second, User: "aki", Text: "dear", Target: first},
		{Kind: envelope.Say, ID: third, User: "aki", Text: "from the future", Flags: []string{"future"}},
	} {
		appended := make(chan error, 1)
		log.Append(ch.PK, e, func(_ chatlog.Receipt, err error) { appended <- err })
		check(t, <-appended)
	}
	check(t, w.store.Write(t.Context(), func(tx *store.Tx) error { // as a build writes that knows more kinds
		_, err := tx.ExecContext(t.Context(), `UPDATE messages SET body = ? WHERE id = ?`, `{"v":1,"k":"poll","x":"from the future"}`, third)
		return err
	}))
	var page struct{ Messages []map[string]any }
	check(t, json.Unmarshal([]byte(w.must(t, 200, "GET", "channels/lobby/messages", "").Body), &page))
	for _, m := range page.Messages {
		delete(m, "at")
	}
	got, err := json.Marshal(page.Messages)
	check(t, err)
	want := `[{"edited":true,"id":"` + first + `","kind":"say","name":"あき","seq":1,"shadow":true,"text":"dear","user":"aki"},` +
		`{"id":"` + second + `","kind":"edit","seq":2,"shadow":true,"target":"` + first + `","text":"dear","user":"aki"},` +
		`{"id":"` + third + `","kind":"unknown","seq":3}]`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// A process may know a deleted channel for a moment longer: that made the post right after PUT answer 404.
func TestPostMessage_toAChannelMadeAnew(t *testing.T) {
	w := sqliteWorld(t)
	for range 100 {
		w.must(t, 201, "PUT", "channels/lobby", `{"kind":"world"}`)
		w.must(t, 201, "POST", "channels/lobby/messages", `{"text":"x"}`)
		w.must(t, 204, "DELETE", "channels/lobby", "")
	}
}

func TestPostMessage_textComesBackAsItWas(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.must(t, 201, "PUT", "channels/lobby", `{"kind":"world"}`)
		const text = "<か>\u304b\u3099 & \"𠮷\" \\ 👨‍👩‍👧 \x00\u2028;--%'"
		body, err := json.Marshal(map[string]string{"text": text})
		check(t, err)
		w.must(t, 201, "POST", "channels/lobby/messages", string(body))
		var page struct{ Messages []struct{ Text string } }
		check(t, json.Unmarshal([]byte(w.must(t, 200, "GET", "channels/lobby/messages", "").Body), &page))
		if len(page.Messages) != 1 || page.Messages[0].Text != text {
			t.Errorf("%q", page)
		}
	})
}

func TestNGWords_nameTheKeyAsAuthor(t *testing.T) {
	w := sqliteWorld(t)
	w.must(t, 200, "PUT", "ngwords", `{"words":[{"word":"darn"}],"message":"why"}`)
	keys, err := w.store.Keys(t.Context(), "demo")
	check(t, err)
	history, err := w.store.NGHistory(t.Context(), "demo", store.NGDefault)
	check(t, err)
	if len(history) != 1 || history[0].Author != "api key "+keys[0].ID || history[0].Message != "why" {
		t.Errorf("%+v", history)
	}
}

func TestNGWords_refusedOnesLeaveTheListAlone(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.must(t, 200, "PATCH", "ngwords", `{"revision":0,"add":[{"word":"か"},{"word":"が"},{"word":"A"},{"word":"a"}]}`)
		w.must(t, 409, "PATCH", "ngwords", `{"revision":0,"remove":["か"]}`)
		w.must(t, 409, "PUT", "ngwords", `{"revision":5,"words":[]}`)
		if got := w.must(t, 200, "PATCH", "ngwords", `{"add":[{"word":"a"}]}`).Body; got != `{"revision":1,"added":0,"changed":0,"removed":0}` {
			t.Errorf("nothing new: %s", got)
		}
		list, err := w.store.NGRead(t.Context(), "demo", store.NGDefault)
		check(t, err)
		if len(list.Entries) != 4 || list.Entries[0] != (store.NGEntry{Word: "A", Kind: "word", Action: "reject", Mode: "auto"}) {
			t.Errorf("%+v", list)
		}
	})
}

func TestChangeMessage_changesWhatAnybodySaid(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.must(t, 201, "PUT", "channels/lobby", `{"kind":"world"}`)
		w.must(t, 201, "PUT", "channels/quick", `{"kind":"world","history":"none"}`)
		const id, edit = "01JD3V4N8ZQ0X5T6Y7W8R9S0AB", "01JD3V4N8ZQ0X5T6Y7W8R9S0AC"
		w.must(t, 201, "POST", "channels/lobby/messages", `{"id":"`+id+`","user":"aki","text":"one"}`)
		w.must(t, 201, "POST", "channels/quick/messages", `{"id":"`+id+`","text":"one"}`)
		first := w.must(t, 200, "PATCH", "channels/lobby/messages/"+id, `{"id":"`+edit+`","text":"two"}`).Body
		if again := w.must(t, 200, "PATCH", "channels/lobby/messages/"+id, `{"id":"`+edit+`","text":"two"}`).Body; again != first {
			t.Errorf("sent again: %s, want %s", again, first)
		}
		for call, want := range map[string]string{
			"PATCH channels/lobby/messages/" + edit:  `{"text":"x"}`,
			"DELETE channels/lobby/messages/" + edit: ``,
			"DELETE channels/quick/messages/" + id:   ``,
			"PATCH channels/nowhere/messages/" + id:  `{"text":"x"}`,
		} {
			method, path, _ := strings.Cut(call, " ")
			if got := code(t, w.must(t, 404, method, path, want)); got != "no_such_message" && got != "no_such_channel" {
				t.Errorf("%s: %s", call, got)
			}
		}
		for _, body := range []string{``, `{"text":" "}`, `{"id":"x","text":"x"}`, `{"text":"x","user":"aki"}`} {
			w.must(t, 400, "PATCH", "channels/lobby/messages/"+id, body)
		}
		w.must(t, 400, "DELETE", "channels/lobby/messages/x", "")
		if got := w.Call(t, "DELETE", "/api/2.0/other/channels/lobby/messages/"+id, "", "Authorization: Bearer "+w.other); got.Status != 404 {
			t.Errorf("another tenant's message: %d %s", got.Status, got.Body)
		}
		w.must(t, 200, "DELETE", "channels/lobby/messages/"+id, "")
		w.must(t, 404, "DELETE", "channels/lobby/messages/"+id, "")
		if log := w.must(t, 200, "GET", "channels/lobby/messages", "").Body; strings.Contains(log, `"text"`) {
			t.Errorf("the log has %s", log)
		}
	})
}
