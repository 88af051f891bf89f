package api_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api/apitest"
)

// dialStream opens a WebSocket route without the client.
func (r *rig) dialStream(t *testing.T, path string, header http.Header) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	d := websocket.Dialer{NetDial: func(_, _ string) (net.Conn, error) { return net.Dial("unix", r.socket) }}
	return d.Dial("ws://kms"+path, header)
}

func TestStream_logsEndWithACloseFrame(t *testing.T) {
	r := testAPI(t)
	r.LogsFunc = func(_ context.Context, q controlplane.LogQuery, line func(controlplane.LogLine) error) error {
		if q.Version != "2.0" || q.Lines != 2 || q.Follow {
			t.Errorf("query %+v", q)
		}
		for _, text := range []string{"one", "二"} {
			if err := line(controlplane.LogLine{Source: "2.0/s1/ua", Text: text}); err != nil {
				return err
			}
		}
		return nil
	}
	var got []string
	err := r.client.Logs(t.Context(), controlplane.LogQuery{Version: "2.0", Lines: 2}, func(l controlplane.LogLine) error {
		got = append(got, l.Text)
		return nil
	})
	if err != nil || strings.Join(got, " ") != "one 二" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestStream_lateErrorKeepsItsKind(t *testing.T) {
	r := testAPI(t)
	sent := controlplane.Errorf(controlplane.NotFound, "no set s1").WithHint("kmsctl status")
	r.LogsFunc = func(context.Context, controlplane.LogQuery, func(controlplane.LogLine) error) error { return sent }
	err := r.client.Logs(t.Context(), controlplane.LogQuery{}, nil)
	var got *controlplane.Error
	if !errors.As(err, &got) || *got != *sent {
		t.Errorf("got %#v", err)
	}
}

func TestStream_clientThatGoesEndsTheProducer(t *testing.T) {
	r := testAPI(t)
	started, ended := make(chan struct{}), make(chan struct{})
	r.LogsFunc = func(ctx context.Context, _ controlplane.LogQuery, _ func(controlplane.LogLine) error) error {
		close(started)
		<-ctx.Done()
		close(ended)
		return ctx.Err()
	}
	conn, _, err := r.dialStream(t, "/v1/logs?follow=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	<-started
	conn.NetConn().Close() // no close frame, as when a client is killed
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Fatal("the producer still runs for nobody")
	}
}

func TestStream_controlPlaneThatGoesIsAnError(t *testing.T) {
	r := testAPI(t)
	started := make(chan struct{})
	r.LogsFunc = func(ctx context.Context, _ controlplane.LogQuery, _ func(controlplane.LogLine) error) error {
		close(started)
		<-ctx.Done()
		return ctx.Err()
	}
	go func() {
		<-started
		r.stop()
	}()
	err := r.client.Logs(t.Context(), controlplane.LogQuery{Follow: true}, func(controlplane.LogLine) error { return nil })
	if e := controlplane.AsError(err); e.Kind != controlplane.Failed || !strings.Contains(e.Message, "went away") || e.Hint == "" {
		t.Errorf("got %v", err)
	}
}

func TestStream_refusalsBeforeTheUpgrade(t *testing.T) {
	r := testAPI(t)
	if _, answer, err := r.dialStream(t, "/v1/events?release=7", nil); err == nil || answer.StatusCode != http.StatusNotFound {
		t.Errorf("unknown release: %v", err)
	}
	if _, answer, err := r.dialStream(t, "/v1/logs", http.Header{"Origin": {"http://kms"}}); err == nil || answer.StatusCode != http.StatusForbidden {
		t.Errorf("a browser: %v", err)
	}
	if status, e, _ := r.raw(t, "GET", "/v1/logs", ""); status != http.StatusBadRequest || e.Kind != controlplane.Usage {
		t.Errorf("plain GET: %d %+v", status, e)
	}
}

func TestFollow_survivesAControlPlaneThatIsReplaced(t *testing.T) {
	r := testAPI(t)
	step := func(name, state string) controlplane.Event {
		return controlplane.Event{Release: 7, Step: &controlplane.Step{Name: name, State: state}}
	}
	r.ReleaseFunc = func(context.Context, int64) (*controlplane.Release, error) {
		return &controlplane.Release{ID: 7, State: controlplane.ReleaseRunning}, nil
	}
	r.EventsFunc = func(ctx context.Context, _ controlplane.EventQuery) (<-chan controlplane.Event, error) {
		events := make(chan controlplane.Event, 1)
		events <- step("start", "done")
		return events, nil // and then nothing, as a control plane that is killed
	}
	seen := make(chan string, 10)
	type result struct {
		r   *controlplane.Release
		err error
	}
	done := make(chan result, 1)
	go func() {
		rel, err := r.client.Follow(t.Context(), 7, func(e controlplane.Event) { seen <- e.Step.Name })
		done <- result{rel, err}
	}()
	<-seen
	r.stop()
	r.EventsFunc = func(context.Context, controlplane.EventQuery) (<-chan controlplane.Event, error) {
		events := make(chan controlplane.Event, 3)
		events <- step("start", "done")
		events <- step("swap", "done")
		events <- controlplane.Event{Release: 7, Step: &controlplane.Step{Name: "ledger", State: "done"}, Ended: &controlplane.Release{ID: 7, State: controlplane.ReleaseDone}}
		close(events)
		return events, nil
	}
	stop, err := apitest.Serve(r.socket, r.Backend)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	got := <-done
	if got.err != nil || got.r.State != controlplane.ReleaseDone {
		t.Fatalf("got %+v, %v", got.r, got.err)
	}
	close(seen)
	var names []string
	for name := range seen {
		names = append(names, name)
	}
	if strings.Join(names, " ") != "swap ledger" { // start was told before
		t.Errorf("told %v", names)
	}
}

func TestFollow_timeoutSaysThatItStillRuns(t *testing.T) {
	r := testAPI(t)
	r.ReleaseFunc = func(context.Context, int64) (*controlplane.Release, error) {
		return &controlplane.Release{ID: 7, State: controlplane.ReleaseRunning}, nil
	}
	r.EventsFunc = func(context.Context, controlplane.EventQuery) (<-chan controlplane.Event, error) {
		return make(chan controlplane.Event), nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := r.client.Follow(ctx, 7, func(controlplane.Event) {})
	if e := controlplane.AsError(err); e.Kind != controlplane.TimedOut || !strings.Contains(e.Hint, "attach 7") {
		t.Errorf("got %v", err)
	}
}
