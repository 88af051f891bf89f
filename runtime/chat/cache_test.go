package chat

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func TestCache_doesNotKeepWhatWasReadWhileAChangeCame(t *testing.T) {
	for name, drop := range map[string]func(*cache[string, int]){
		"drop":      func(c *cache[string, int]) { c.drop("k") },
		"dropWhere": func(c *cache[string, int]) { c.dropWhere(func(string, int) bool { return false }) },
	} {
		c := newCache[string, int](10)
		old, err := c.get(t.Context(), "k", func(context.Context) (int, error) { drop(c); return 1, nil })
		if err != nil || old != 1 {
			t.Fatalf("%s: got %d, %v", name, old, err)
		}
		got, _ := c.get(t.Context(), "k", func(context.Context) (int, error) { return 2, nil })
		if got != 2 {
			t.Errorf("%s: the value from before the change is still served", name)
		}
	}
}

func TestCache_readsOnceForAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache[string, int](10)
		var reads atomic.Int32
		release := make(chan struct{})
		read := func(context.Context) (int, error) {
			reads.Add(1)
			<-release
			return 7, nil
		}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if v, err := c.get(t.Context(), "k", read); v != 7 || err != nil {
					t.Errorf("got %d, %v", v, err)
				}
			})
		}
		synctest.Wait()
		close(release)
		wg.Wait()
		if n := reads.Load(); n != 1 {
			t.Errorf("%d reads, want 1", n)
		}
	})
}

func TestCache_forgetsErrorsAndStaysBounded(t *testing.T) {
	c := newCache[int, int](32)
	if _, err := c.get(t.Context(), 0, func(context.Context) (int, error) { return 0, errors.New("away") }); err == nil {
		t.Fatal("the error was swallowed")
	}
	for i := range 1000 {
		v, err := c.get(t.Context(), i, func(context.Context) (int, error) { return i, nil })
		if err != nil || v != i {
			t.Fatalf("key %d: %d, %v", i, v, err)
		}
	}
	if n := len(c.values); n > 32 {
		t.Errorf("%d values, want at most 32", n)
	}
}
