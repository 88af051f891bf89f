package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/ua/uatest"
)

// TestVersionMatrix_goldenTranscript has users of each shipped version in one channel, every version a process of its own, and holds to
// the letter what each of them sees of the others, in both directions.
func TestVersionMatrix_goldenTranscript(t *testing.T) {
	ctx := testContext(t, time.Minute)
	s := testStory(t, ctx, "up", options{})
	words := map[string]string{}
	for user, name := range map[string]string{"ichi": "いち", "uno": "Uno", "ni": "に", "dos": "Dos"} {
		token, err := s.game.token(ctx, user, name)
		must(t, err)
		words["$"+user] = token
	}
	must(t, s.busCarries(ctx))
	s.awaitGreetings(t)
	versions := map[string]string{"ichi": "1.0", "uno": "1.0", "ni": "2.0", "dos": "2.0"}
	uatest.Replay(t, "testdata/matrix.txt", func(client string) *uatest.Client { return s.dialBare(t, versions[client]) }, map[string]func([]string){
		"system": func(text []string) {
			_, err := s.game.post(ctx, lobby, strings.Join(text, " "))
			must(t, err)
		},
		"edit": func(args []string) {
			text := map[string]any{"text": strings.Join(args[1:], " ")}
			must(t, s.game.call(ctx, http.MethodPatch, "channels/"+lobby+"/messages/"+args[0], text, nil))
		},
		"delete": func(args []string) {
			must(t, s.game.call(ctx, http.MethodDelete, "channels/"+lobby+"/messages/"+args[0], nil, nil))
		},
	}, words)
}

// busCarries returns once what one version says comes to the other by the bus, ahead of the look into the log: presence is told there
// only.
func (s *story) busCarries(ctx context.Context) error {
	for n := 0; ; n++ {
		began := time.Now()
		for _, way := range []struct{ from, to client }{{s.aki, s.ben}, {s.ben, s.aki}} {
			text := fmt.Sprint(way.from.on(), " over the bus ", n)
			way.from.say(text)
			if _, err := way.to.seen().receive(ctx, text); err != nil {
				return err
			}
		}
		if time.Since(began) < 200*time.Millisecond {
			return nil
		}
	}
}

// awaitGreetings returns once processes that met have told each other's users who was there before: about a second after the meeting.
func (s *story) awaitGreetings(t *testing.T) {
	one, two := s.dialBare(t, "1.0"), s.dialBare(t, "2.0") // of users who are there, so that they are no news themselves
	one.Send(`{"type":"login","token":"`+s.aki.token+`"}`, `{"type":"join","channel":"`+lobby+`"}`)
	two.Send(`[{"op":"hello","token":"` + s.ben.token + `"},{"op":"sub","ch":"` + lobby + `"}]`)
	for _, c := range []*uatest.Client{one, two} {
		c.Until(`"` + lobby + `"`)
		for began := time.Now(); !c.Quiet(1500 * time.Millisecond); {
			if time.Since(began) > 20*time.Second {
				t.Fatal("the lobby does not come to rest")
			}
		}
	}
}

func (s *story) dialBare(t *testing.T, version string) *uatest.Client {
	return uatest.Dial(t, strings.Replace(s.bare.base, "http", "ws", 1)+"/ua/"+version+"/"+tenant)
}
