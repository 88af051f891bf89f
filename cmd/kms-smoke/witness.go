package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/kmsctl/kms/cmd/internal/role"
)

// witnessEnv makes this program a witness; its value is the JSON of the question.
const witnessEnv = "KMS_SMOKE_WITNESS"

// question is what a witness is to look for: the API answers, through nginx, a request that found the slot led to another set.
type question struct {
	Slot, Base, Version, Tenant, Key, Path string
}

// testimony is the set that served, and when the answer was there.
type testimony struct {
	Set string
	At  time.Time
}

// witness is a caller in a process of its own: within the bench, whose thousand clients take turns, an answer would stand behind
// their messages, and their time would be counted as a release's.
type witness struct {
	saw  chan testimony
	stop func() error
}

func startWitness(ctx context.Context, q question) (*witness, error) {
	text, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	process, err := role.Start(ctx, witnessEnv+"="+string(text))
	if err != nil {
		return nil, err
	}
	w := &witness{saw: make(chan testimony, 1<<10), stop: process.End}
	go func() {
		defer close(w.saw)
		for lines := json.NewDecoder(process); ; {
			var t testimony
			if lines.Decode(&t) != nil {
				return
			}
			w.saw <- t
		}
	}()
	return w, nil
}

// served waits until another set than before has served, later than since: what it saw of earlier swaps is still to be read.
func (w *witness) served(ctx context.Context, before string, since time.Time) (time.Time, error) {
	for {
		select {
		case t, ok := <-w.saw:
			switch {
			case !ok:
				return time.Time{}, fmt.Errorf("the witness died")
			case t.Set != before && t.At.After(since):
				return t.At, nil
			}
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("no request was served after the swap")
		}
	}
}

// testify is a witness's life: until stdin ends it looks each millisecond where the slot leads, and calls when that is elsewhere.
func testify(text string, in io.Reader, out io.Writer) int {
	var q question
	if err := json.Unmarshal([]byte(text), &q); err != nil {
		fmt.Fprintln(os.Stderr, "kms-smoke: error: bad question:", err)
		return 2
	}
	ctx, end := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, in)
		end()
	}()
	game := &gameServer{front: newFront(q.Base, nil), version: q.Version, tenant: q.Tenant, key: q.Key}
	served, lines := "", json.NewEncoder(out)
	for ; ctx.Err() == nil; pause(ctx, time.Millisecond) {
		set, err := os.Readlink(q.Slot)
		if err != nil || set == served || game.call(ctx, "GET", q.Path, nil, nil) != nil {
			continue
		}
		if lines.Encode(testimony{set, time.Now()}) != nil {
			return 1
		}
		served = set
	}
	return 0
}
