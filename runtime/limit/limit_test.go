package limit

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// enter parks one caller in the background and reports its name once it runs.
func enter(p *Parking, tenant, name string, ran chan<- string) {
	go func() {
		if _, err := p.Enter(context.Background(), tenant); err != nil {
			name = "refused " + name
		}
		ran <- name
	}()
	synctest.Wait()
}

func TestParking_servesTenantsInTurnAndEachInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewParking(1, 10)
		leave, err := p.Enter(t.Context(), "big")
		if err != nil {
			t.Fatal(err)
		}
		ran := make(chan string, 10)
		for i := range 3 {
			enter(p, "big", fmt.Sprint("big", i), ran)
		}
		enter(p, "small", "small0", ran)
		var order []string
		for range 4 {
			leave()
			order = append(order, <-ran)
		}
		leave()
		if got, want := fmt.Sprint(order), "[big0 small0 big1 big2]"; got != want {
			t.Fatalf("order %v, want %v", got, want)
		}
		if running, waiting := p.Waiting(); running != 0 || waiting != 0 {
			t.Fatalf("%d run and %d wait at the end", running, waiting)
		}
	})
}

func TestParking_sendsAwayTheHerdsLastWhenFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewParking(1, 2)
		leave, _ := p.Enter(t.Context(), "big")
		ran := make(chan string, 10)
		enter(p, "big", "big0", ran)
		enter(p, "big", "big1", ran)
		var full *FullError
		if _, err := p.Enter(t.Context(), "big"); !errors.As(err, &full) || full.After <= 0 {
			t.Fatalf("a full lot answered %v, want a FullError with a time", err)
		}
		enter(p, "small", "small0", ran)
		if got := <-ran; got != "refused big1" {
			t.Fatalf("%q left the lot, want big1 refused for the other tenant", got)
		}
		leave()
		<-ran
		leave()
		<-ran
		leave()
	})
}

func TestParking_handsTheSlotOnWhenAWaiterGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewParking(1, 5)
		leave, _ := p.Enter(t.Context(), "a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		ran := make(chan string, 1)
		go func() {
			_, err := p.Enter(ctx, "b")
			ran <- fmt.Sprint(err != nil)
		}()
		synctest.Wait()
		enter(p, "c", "c0", ran)
		time.Sleep(2 * time.Second)
		if got := <-ran; got != "true" {
			t.Fatal("a waiter outlived its context")
		}
		leave()
		if got := <-ran; got != "c0" {
			t.Fatalf("%q ran next, want c0", got)
		}
		leave()
		if running, waiting := p.Waiting(); running != 0 || waiting != 0 {
			t.Fatalf("%d run and %d wait at the end", running, waiting)
		}
	})
}

// Whoever stops waiting takes nobody along.
func TestParking_servesTheRestOfATenantWhenOneGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewParking(1, 10)
		leave, err := p.Enter(t.Context(), "demo")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() {
			_, err := p.Enter(ctx, "demo")
			gone <- err
		}()
		synctest.Wait()
		ran := make(chan string, 1)
		enter(p, "demo", "the rest", ran)
		cancel()
		if err := <-gone; err == nil {
			t.Error("admitted after it gave up")
		}
		leave()
		synctest.Wait()
		if len(ran) != 1 {
			t.Error("nobody serves the rest")
		}
	})
}

// A slot that is handed to a waiter in the moment in which it stops waiting is free again.
func TestParking_losesNoSlotToOneWhoGivesUp(t *testing.T) {
	p := NewParking(1, 10)
	leave, err := p.Enter(t.Context(), "demo")
	if err != nil {
		t.Fatal(err)
	}
	w := &waiter{ready: make(chan bool, 1)}
	p.mu.Lock()
	p.parkLocked("demo", w)
	p.mu.Unlock()
	leave()
	p.giveUp("demo", w)
	if running, waiting := p.Waiting(); running != 0 || waiting != 0 {
		t.Errorf("%d run and %d wait", running, waiting)
	}
}

func TestRates_refusesOverTheBurstAndSaysWhenToComeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, rate := NewRates[string](100), Rate{PerSecond: 10, Burst: 3}
		for i := range 3 {
			if _, ok := r.Take("u", rate); !ok {
				t.Fatalf("take %d of a burst of 3 was refused", i)
			}
		}
		after, ok := r.Take("u", rate)
		if ok || after < 90*time.Millisecond || after > 100*time.Millisecond {
			t.Fatalf("Take = %v, %v; want about 100 ms, false", after, ok)
		}
		if _, ok := r.Take("other", rate); !ok {
			t.Fatal("another key was refused")
		}
		fast := Rate{PerSecond: 1e6, Burst: 1}
		r.Take("fast", fast)
		if after, ok := r.Take("fast", fast); ok || after < time.Millisecond {
			t.Fatalf("Take = %v, %v; want a millisecond, which can be told", after, ok)
		}
		time.Sleep(after + time.Millisecond)
		if _, ok := r.Take("u", rate); !ok {
			t.Fatal("refused after the wait it asked for")
		}
	})
}

func TestRates_followsARateThatChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRates[string](100)
		taken := func(rate Rate) (n int) {
			for {
				if _, ok := r.Take("u", rate); !ok {
					return n
				}
				n++
			}
		}
		if n := taken(Rate{PerSecond: 10, Burst: 20}); n != 20 {
			t.Errorf("%d of a burst of 20", n)
		}
		time.Sleep(time.Minute) // full again
		if n := taken(Rate{PerSecond: 1, Burst: 2}); n != 2 {
			t.Errorf("%d of a burst that has become 2", n)
		}
		time.Sleep(time.Second)
		if n := taken(Rate{PerSecond: 5, Burst: 100}); n != 1 {
			t.Errorf("%d of the second at the old rate", n)
		}
		time.Sleep(time.Second)
		if n := taken(Rate{PerSecond: 5, Burst: 100}); n != 5 {
			t.Errorf("%d of the second at the new one", n)
		}
	})
}

func TestRates_reservesInTheOrderOfTheCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, rate := NewRates[string](100), Rate{PerSecond: 10, Burst: 5}
		var waits []time.Duration
		for range 3 {
			waits = append(waits, r.Reserve("u", rate, 4).Round(time.Millisecond))
		}
		if got := fmt.Sprint(waits); got != "[0s 300ms 700ms]" {
			t.Errorf("waits %s", got)
		}
		if wait := r.Reserve("other", rate, 5); wait != 0 {
			t.Errorf("another key waits %v", wait)
		}
		time.Sleep(10 * time.Second)
		if wait := r.Reserve("u", rate, 5); wait != 0 {
			t.Errorf("waits %v once the debt is paid", wait)
		}
	})
}

func TestRates_staysBounded(t *testing.T) {
	r := NewRates[int](64)
	for i := range 1000 {
		r.Take(i, Rate{PerSecond: 0.001, Burst: 1})
	}
	if n := len(r.buckets); n > 64 {
		t.Fatalf("%d buckets, want at most 64", n)
	}
}

// Whoever sends keeps its bucket as long as there are others that are full.
func TestRates_forgetsFullBucketsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRates[int](64)
		for i := 1; i < 64; i++ {
			r.Take(i, Rate{PerSecond: 1, Burst: 1})
		}
		time.Sleep(time.Minute)
		slow := Rate{PerSecond: 0.001, Burst: 1}
		r.Take(0, slow)
		r.Take(100, slow) // no room for this one
		if _, ok := r.Take(0, slow); ok {
			t.Error("who sends too much begins anew")
		}
	})
}
