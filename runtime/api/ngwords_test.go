package api_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/api/apitest"
	"github.com/kmsctl/kms/runtime/chatlog"
	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/store"
)

// match is call with the header If-Match.
func (w *world) match(t testing.TB, method, path, tag, body string) apitest.Answer {
	t.Helper()
	return w.Call(t, method, "/api/2.0/demo/"+path, body, "Authorization: Bearer "+w.key, "If-Match: "+tag)
}

func TestNGLists_conditionalByHeader(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		const list = "ngwords/lists/more"
		if tag := w.must(t, 201, "PUT", list, `{"words":[{"word":"a"}]}`).Header.Get("ETag"); tag != `"1"` {
			t.Errorf("ETag %s", tag)
		}
		for _, tt := range []struct {
			method, path, tag, body string
			want                    string
		}{
			{"PATCH", list, `"0"`, `{"add":[{"word":"b"}]}`, "412 precondition_failed"},
			{"PATCH", list, `"1"`, `{"add":[{"word":"b"}]}`, "200"},
			{"PATCH", list, `"1"`, `{"add":[{"word":"c"}]}`, "412 precondition_failed"},
			{"PATCH", list, `W/"2"`, `{"add":[{"word":"c"}]}`, "200"},
			{"PATCH", list, `*`, `{"add":[{"word":"d"}]}`, "200"},
			{"PATCH", list, `"4"`, `{"revision":3}`, "400 bad_request"},
			{"PATCH", list, `"x"`, ``, "400 bad_request"},
			{"PATCH", list, `"-1"`, ``, "400 bad_request"},
			{"PUT", list, `"3"`, `{"words":[]}`, "412 precondition_failed"},
			{"POST", list + "/rollback", `"3"`, `{"to":1}`, "412 precondition_failed"},
			{"POST", list + "/rollback", `"4"`, `{"to":1}`, "200"},
			{"DELETE", list, `"4"`, ``, "412 precondition_failed"},
			{"DELETE", list + "?revision=4", ``, ``, "409 conflict"},
			{"DELETE", list, `"5"`, ``, "204"},
		} {
			a := w.match(t, tt.method, tt.path, tt.tag, tt.body)
			got := fmt.Sprint(a.Status)
			if a.Status >= 400 {
				got += " " + code(t, a)
			}
			if got != tt.want {
				t.Errorf("%s %s %s %s: %s %s, want %s", tt.method, tt.path, tt.tag, tt.body, got, a.Body, tt.want)
			}
		}
	})
}

func TestNGLists_twoAdminsAtOnceDoNotUndoEachOther(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.must(t, 200, "PUT", "ngwords", `{"words":[]}`)
		var wg sync.WaitGroup
		statuses := make([]int, 8)
		for i := range statuses {
			wg.Go(func() {
				statuses[i] = w.call(t, "PATCH", "/api/2.0/demo/ngwords", fmt.Sprintf(`{"revision":0,"add":[{"word":"w%d"}]}`, i)).Status
			})
		}
		wg.Wait()
		list, err := w.store.NGRead(t.Context(), "demo", store.NGDefault)
		check(t, err)
		if ok := strings.Count(fmt.Sprint(statuses), "200"); ok != 1 || len(list.Entries) != 1 {
			t.Errorf("%v, %d words", statuses, len(list.Entries))
		}
	})
}

// Who makes a list without naming settings must not undo those of somebody who makes it at the same moment: both wait for the
// database here, and the latter gets it between the former's two attempts.
func TestNGLists_madeTwiceAtOnceKeepsItsSettings(t *testing.T) {
	url := "sqlite:" + filepath.Join(t.TempDir(), "kms.db")
	w, other := newWorld(t, url), openStore(t, url)
	for i := range 5 {
		list := fmt.Sprint("ngwords/lists/l", i)
		var wg sync.WaitGroup
		check(t, other.Write(t.Context(), func(*store.Tx) error {
			for _, call := range []string{`PUT {"words":[{"word":"b"}]}`, `PATCH {"settings":{"scopes":["name"]}}`} {
				method, body, _ := strings.Cut(call, " ")
				wg.Go(func() { w.call(t, method, "/api/2.0/demo/"+list, body) })
				time.Sleep(50 * time.Millisecond) // for their order; any order has to end well
			}
			return nil
		}))
		wg.Wait()
		if got := w.must(t, 200, "GET", list, "").Body; !strings.Contains(got, `"scopes":["name"]`) {
			t.Fatalf("settings were undone: %s", got)
		}
	}
}

func TestNGLists_aWrongWordIsNamedByItsPlace(t *testing.T) {
	w := sqliteWorld(t)
	for body, want := range map[string]string{
		`{"words":[{"word":"a"},{"word":""}]}`:                         "words[1]: bad word",
		`{"words":[{"word":"a"},{"word":"b"},{"word":"a"}]}`:           "words[2]: the word",
		`{"words":[{"word":"a","action":"laugh"}]}`:                    "words[0]: word",
		`{"words":[{"word":"a"},{"word":"b","kind":"verb"}],"x":null}`: `unknown field`,
	} {
		if a := w.must(t, 400, "PUT", "ngwords", body); !strings.Contains(a.Body, want) {
			t.Errorf("%s: %s", body, a.Body)
		}
	}
	if a := w.must(t, 400, "PATCH", "ngwords", `{"add":[{"word":"a"},{"word":" "}]}`); !strings.Contains(a.Body, "add[1]: bad word") {
		t.Error(a.Body)
	}
}

func TestNGLists_boundsAreKept(t *testing.T) {
	w := sqliteWorld(t)
	for i := range store.MaxNGLists - 1 {
		w.must(t, 201, "PUT", fmt.Sprint("ngwords/lists/l", i), `{"words":[]}`)
	}
	w.must(t, 200, "PUT", "ngwords", `{"words":[{"word":"a"}]}`)
	if a := w.must(t, 422, "PUT", "ngwords/lists/toomany", `{"words":[]}`); code(t, a) != "limit_reached" {
		t.Error(a.Body)
	}
}

// added is a body that adds words at a revision.
func added(revision, from, n int, rest string) string {
	var body strings.Builder
	fmt.Fprintf(&body, `{"revision":%d,"add":[`, revision)
	for i := range n {
		fmt.Fprintf(&body, `{"word":"%s%06d","kind":"word","action":"mask","mode":"auto"},`, []string{"word", "ことば"}[i%2], from+i)
	}
	return strings.TrimSuffix(body.String(), ",") + "]" + rest + "}"
}

// A long list comes in parts, is read back page by page and as a whole, and goes back in one piece.
func TestNGLists_longOnesComeInParts(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		const parts, each = 3, 1200 // more than the store writes in one transaction
		w.must(t, 201, "PUT", "ngwords/lists/long", `{"words":[{"word":"before"}]}`)
		w.must(t, 200, "PATCH", "ngwords/lists/long", added(1, 0, 10_000, `,"dry_run":true`)) // a body holds that many
		for p := range parts {
			w.must(t, 200, "PATCH", "ngwords/lists/long", added(p+1, p*each, each, ""))
		}
		var list struct {
			Count int
			Words []store.NGEntry
			More  bool
		}
		read := func(query string) {
			t.Helper()
			list.Words = nil
			check(t, json.Unmarshal([]byte(w.must(t, 200, "GET", "ngwords/lists/long"+query, "").Body), &list))
		}
		read("")
		if list.Count != parts*each+1 || len(list.Words) != list.Count || list.More {
			t.Fatalf("%d words of %d, more %v", len(list.Words), list.Count, list.More)
		}
		last, pages := "", 0
		for list.More = true; list.More; pages++ {
			read("?revision=4&limit=1500&after=" + last)
			last = list.Words[len(list.Words)-1].Word
		}
		if pages != 3 || len(list.Words) != 601 || last != "ことば003599" {
			t.Errorf("%d pages, the last with %d words up to %q", pages, len(list.Words), last)
		}
		if a := w.must(t, 200, "POST", "ngwords/lists/long/rollback", `{"to":1,"revision":4}`); !strings.Contains(a.Body, `"removed":3600`) {
			t.Error(a.Body)
		}
	})
}

func TestNGWordsTest_knowsWhatWasJustChangedAndWhy(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		_, err := w.store.NGChange(t.Context(), store.NGEdit{
			Tenant: store.NGBase, List: "staff", Base: -1, Settings: &store.NGSettings{}, Add: []store.NGEntry{{Word: "gamemaster", Action: "mask"}},
		})
		check(t, err)
		for i := range 10 { // each time the newest
			w.must(t, 200, "PATCH", "ngwords", fmt.Sprintf(`{"add":[{"word":"evil%d"}],"settings":{"include":["staff"]}}`, i))
			var got struct {
				Action, Text string
				Hits         []struct{ List, Word, Found string }
			}
			a := w.must(t, 200, "POST", "ngwords/test", fmt.Sprintf(`{"text":"a Gamemaster is evil%d"}`, i))
			check(t, json.Unmarshal([]byte(a.Body), &got))
			if len(got.Hits) != 2 || got.Action != "reject" || got.Hits[0].List != "_base/staff" || got.Hits[0].Found != "Gamemaster" ||
				got.Hits[1].List != "default" || got.Text != "a ********** is "+fmt.Sprint("evil", i) {
				t.Fatal(a.Body)
			}
		}
		if a := w.must(t, 200, "GET", "ngwords/base", ""); !strings.Contains(a.Body, `{"list":"staff","count":1,"scopes":[`) || strings.Contains(a.Body, "gamemaster") {
			t.Error(a.Body)
		}
	})
}

func TestNames_areJudgedByTheListsForNames(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.must(t, 200, "PUT", "ngwords", `{"words":[{"word":"darn"}],"settings":{"scopes":["world"]}}`)
		w.must(t, 201, "PUT", "ngwords/lists/names", `{"settings":{"scopes":["name"]},"words":[{"word":"king"},{"word":"heck","action":"mask"},`+
			`{"word":"rival","action":"flag"},{"word":"spam","action":"shadow"}]}`)
		w.must(t, 200, "POST", "ngwords/test", `{"text":"x"}`) // waits for the lists
		for name, want := range map[string]string{
			"the king": "422", "spam": "422", "what the heck": "what the ****", "rival": "rival", "darn": "darn", "あき": "あき",
		} {
			body := fmt.Sprintf(`{"name":%q}`, name)
			user, channel := w.call(t, "PUT", "/api/2.0/demo/users/aki/token", body), w.call(t, "PUT", "/api/2.0/demo/channels/"+fmt.Sprintf("c%x", name), body)
			for _, a := range []apitest.Answer{user, channel} {
				var got struct {
					Code, Name string
					Masked     bool
				}
				check(t, json.Unmarshal([]byte(a.Body), &got))
				if want == "422" && (a.Status != 422 || got.Code != "ng_word" || strings.Contains(a.Body, name)) ||
					want != "422" && (a.Status >= 300 || got.Name != want || got.Masked != (want != name)) {
					t.Errorf("%q: %d %s", name, a.Status, a.Body)
				}
			}
		}
		stored, err := w.store.UserName(t.Context(), "demo", "aki")
		check(t, err)
		if stored == "the king" || stored == "spam" || stored == "what the heck" {
			t.Errorf("stored: %q", stored)
		}
	})
}

// A channel that is there answers as ever, whatever has been forbidden since.
func TestPutChannel_repeatedWithAJudgedName(t *testing.T) {
	w := sqliteWorld(t)
	w.must(t, 201, "PUT", "channels/old", `{"name":"the king"}`)
	w.must(t, 200, "PUT", "ngwords", `{"words":[{"word":"king"},{"word":"heck","action":"mask"}]}`)
	w.must(t, 200, "POST", "ngwords/test", `{"text":"x"}`)
	w.must(t, 200, "PUT", "channels/old", `{"name":"the king"}`)
	first := w.must(t, 201, "PUT", "channels/new", `{"name":"heck"}`)
	if again := w.must(t, 200, "PUT", "channels/new", `{"name":"heck"}`); again.Body != first.Body || !strings.Contains(again.Body, `"masked":true`) {
		t.Errorf("%s, again %s", first.Body, again.Body)
	}
	w.must(t, 200, "PUT", "channels/new", `{"name":"****"}`)
	w.must(t, 409, "PUT", "channels/new", `{"name":"hell"}`)
}

func TestGetMessages_flaggedOnesForAModeratorsTool(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.must(t, 201, "PUT", "channels/lobby", `{"kind":"world"}`)
		ch, err := w.store.Channel(t.Context(), "demo", "lobby")
		check(t, err)
		log := chatlog.Open(w.store, chatlog.Options{})
		defer log.Close()
		appended := make(chan error, 1)
		for i := range 10 {
			e := &envelope.Envelope{Kind: envelope.Say, ID: envelope.NewID(time.Now()), User: "aki", Text: "hi", Shadow: i == 1}
			if i%2 == 1 {
				e.Flags = []string{"だめ", "b"}
			}
			log.Append(ch.PK, e, func(_ chatlog.Receipt, err error) { appended <- err })
			check(t, <-appended)
		}
		var seqs []int64
		next := int64(0)
		for more := true; more; {
			var page struct {
				Messages []struct {
					Seq     int64
					Flagged []string
					Shadow  bool
				}
				More bool
				Next *int64
			}
			check(t, json.Unmarshal([]byte(w.must(t, 200, "GET", fmt.Sprintf("channels/lobby/messages?flagged=true&limit=2&after=%d", next), "").Body), &page))
			for _, m := range page.Messages {
				seqs = append(seqs, m.Seq)
				if len(m.Flagged) != 2 || m.Flagged[0] != "だめ" || m.Shadow != (m.Seq == 2) {
					t.Errorf("%+v", m)
				}
			}
			more, next = page.More, *page.Next
		}
		if fmt.Sprint(seqs) != "[2 4 6 8 10]" || next != 10 {
			t.Errorf("%v, next %d", seqs, next)
		}
		if a := w.must(t, 200, "GET", "channels/lobby/messages?limit=1", ""); strings.Contains(a.Body, "next") || strings.Contains(a.Body, "flagged") {
			t.Error(a.Body)
		}
	})
}

func TestHeavyRequests_leaveTheirPlaces(t *testing.T) {
	w := sqliteWorld(t)
	w.must(t, 200, "PUT", "ngwords", `{"words":[{"word":"a"}]}`)
	var wg sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	for range 40 {
		wg.Go(func() {
			a := w.call(t, "GET", "/api/2.0/demo/ngwords", "")
			mu.Lock()
			defer mu.Unlock()
			statuses[a.Status]++
		})
	}
	wg.Wait()
	if statuses[200] != 40 {
		t.Errorf("%v", statuses)
	}
}
