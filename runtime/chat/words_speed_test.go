//go:build !race

package chat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/store"
)

// manyWords are n words of the kinds that lists have, and one more.
func manyWords(n int, last string) []store.NGEntry {
	list := make([]store.NGEntry, 0, n+1)
	for i := range n {
		list = append(list, store.NGEntry{Word: fmt.Sprintf("%s%06d", []string{"ことば", "word", "単語", "слово"}[i%4], i)})
	}
	return append(list, store.NGEntry{Word: last})
}

// talk has a client say something every few milliseconds until stop is closed, and returns how long each took.
func talk(c *client, stop <-chan struct{}) (took []time.Duration) {
	for {
		select {
		case <-stop:
			return took
		case <-time.After(5 * time.Millisecond):
		}
		began := time.Now()
		if _, err := c.say(SayRequest{Channel: "lobby", Text: "こんにちは hello"}); err != nil {
			c.t.Errorf("refused: %v", err)
			return took
		}
		took = append(took, time.Since(began))
	}
}

func p99(took []time.Duration) time.Duration {
	slices.Sort(took)
	return took[len(took)*99/100]
}

// In force within 1 s, and 5 s for 100,000 words, from when the change was made; chat goes on meanwhile. With a bus, and with the
// changes feed alone. Both processes and their client share this one's cores, and others run too: twice the goal is a failure.
func TestNGWords_longListsComeIntoForceWhileChatGoesOn(t *testing.T) {
	if testing.Short() {
		t.Skip("takes its time")
	}
	for _, tt := range []struct {
		words int
		bus   bool
		goal  time.Duration
	}{{10_000, true, time.Second}, {10_000, false, time.Second}, {100_000, false, 5 * time.Second}} {
		t.Run(fmt.Sprintf("%d words, bus %v", tt.words, tt.bus), func(t *testing.T) {
			st, n := testStore(t), &network{}
			var clients []*client
			for i, user := range []string{"aya", "ben"} {
				putToken(t, st, user, user+"-token", time.Time{})
				p := startProcess(t, testConfig(st, n, fmt.Sprintf("n1/s%d/ua", i)))
				p.bus.(*port).cut.Store(!tt.bus)
				clients = append(clients, p.login(user+"-token").mustJoin("lobby"))
			}
			api := startAPI(t, st, n)
			api.bus.(*port).cut.Store(!tt.bus)
			_, err := st.NGChange(t.Context(), store.NGEdit{Tenant: "demo", Base: -1, Author: "test", Add: manyWords(tt.words, "oldword")})
			check(t, err)
			for _, c := range clients {
				c.untilRefused("oldword", 30*time.Second)
			}
			quiet := measure(clients, func() { time.Sleep(500 * time.Millisecond) })
			var write time.Duration
			var after [2]time.Duration
			busy := measure(clients, func() {
				entries := manyWords(tt.words, "newword")
				for i := range entries {
					entries[i].Action = store.NGMask // every one is changed
				}
				entries[len(entries)-1].Action = store.NGReject
				began := time.Now()
				_, err := st.NGChange(t.Context(), store.NGEdit{Tenant: "demo", Base: -1, Author: "test", Replace: &entries})
				check(t, err)
				api.Changed()
				write, began = time.Since(began), time.Now()
				var wg sync.WaitGroup
				for i, c := range clients {
					wg.Go(func() {
						c.untilRefused("newword", 30*time.Second)
						after[i] = time.Since(began)
					})
				}
				wg.Wait()
			})
			t.Logf("written in %v, in force after %v and %v; say p99 %v while it changes, %v in quiet", write, after[0], after[1], p99(busy), p99(quiet))
			if worst := max(after[0], after[1]); worst > 2*tt.goal {
				t.Errorf("in force after %v, want %v", worst, tt.goal)
			}
		})
	}
}

func (c *client) untilRefused(word string, within time.Duration) {
	eventually(c.t, within, word+" to be refused", func() bool {
		f, err := c.p.words.of(c.t.Context(), "demo")
		check(c.t, err)
		return f.of("world").Check(word).Action == store.NGReject
	})
}

// measure runs f while the clients talk.
func measure(clients []*client, f func()) (took []time.Duration) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, c := range clients {
		wg.Go(func() {
			these := talk(c, stop)
			mu.Lock()
			defer mu.Unlock()
			took = append(took, these...)
		})
	}
	f()
	close(stop)
	wg.Wait()
	return took
}

// The longest list with the words that are worst for a matcher: nobody notices but its tenant.
func TestNGWords_hugeAndHostileListsTakeNothingDown(t *testing.T) {
	if testing.Short() {
		t.Skip("takes its time")
	}
	st, aya, _ := twoProcesses(t)
	_, err := st.CreateTenant(t.Context(), store.Tenant{ID: "hostile", Name: "Hostile"})
	check(t, err)
	hostile := make([]store.NGEntry, 0, store.MaxNGWords)
	for i := range store.MaxNGWords {
		var word string
		switch i % 4 {
		case 0: // long words with one beginning
			word = strings.Repeat("a", 20) + fmt.Sprintf("%07d", i)
		case 1: // nothing but what folding removes
			word = fmt.Sprintf("\u200b%s\u200b", strings.Repeat("\u0301", i%20+1)) + fmt.Sprint(i)
		case 2: // what folds to many letters
			word = "\ufdfa" + fmt.Sprintf("%06d", i)
		case 3:
			word = fmt.Sprintf("%c%c%c", rune(0x4e00+i%20000), rune(0x3041+i%80), rune(0x1f300+i%700))
		}
		hostile = append(hostile, store.NGEntry{Word: word, Mode: store.NGModeSubstring})
	}
	_, err = st.NGChange(t.Context(), store.NGEdit{Tenant: "hostile", Base: -1, Author: "test", Replace: &hostile})
	check(t, err)
	took := measure([]*client{aya}, func() {
		began := time.Now()
		var f *filters
		eventually(t, time.Minute, "the hostile tenant's answer", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), dbTimeout)
			defer cancel()
			f, err = aya.p.words.of(ctx, "hostile")
			return err == nil || !errors.Is(err, context.DeadlineExceeded)
		})
		t.Logf("answered after %v: %v", time.Since(began), err)
		if err == nil {
			f.of("world").Check(strings.Repeat("a", 4000))
		}
	})
	t.Logf("say p99 of another tenant %v", p99(took))
}
