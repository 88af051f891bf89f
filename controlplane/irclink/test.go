package irclink

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/bus"
	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/names"
)

// probeKind is a kind that no version delivers: processes on the network see the test's lines and drop them.
const probeKind = "probe"

const answerTime = 3 * time.Second

// Test connects two clients to the link and lets them exchange a short line and one of full length in each direction. What is
// wrong is the error and, for operators, the report's Problem.
func Test(ctx context.Context, link bus.Link) (controlplane.LinkReport, error) {
	report := controlplane.LinkReport{Name: link.Name}
	err := test(ctx, link, &report)
	if err != nil {
		report.Problem = err.Error()
		return report, err
	}
	report.OK = true
	return report, nil
}

func test(ctx context.Context, link bus.Link, report *controlplane.LinkReport) error {
	if err := link.Check(); err != nil {
		return err
	}
	id := NewPassword()[:8]
	here, there := newTester(link, "test-a"+id), newTester(link, "test-b"+id)
	defer here.Close()
	defer there.Close()
	channel := "irc-test-" + id
	for _, t := range []*tester{here, there} {
		if err := t.ready(ctx, channel); err != nil {
			return fmt.Errorf("cannot use link %q: %w", link.Name, err)
		}
	}
	stats := here.Stats()
	report.Server, report.Software, report.MaxLine = stats.Server, stats.Software, stats.MaxLine
	round, err := here.Ping(ctx)
	if err != nil {
		return fmt.Errorf("cannot ping the server of link %q: %w", link.Name, err)
	}
	report.RoundTrip = round
	for _, pair := range [][2]*tester{{here, there}, {there, here}} {
		if err := pair[0].sendTo(ctx, pair[1], channel, 0); err != nil {
			return fmt.Errorf("cannot pass a line over link %q: %w", link.Name, err)
		}
		if err := pair[0].sendTo(ctx, pair[1], channel, pair[0].Room(names.ProbeTenant, channel)); err != nil {
			return fmt.Errorf("cannot pass a line of %d bytes over link %q, short ones pass: %w", stats.MaxLine, link.Name, err)
		}
	}
	return nil
}

// tester is one of the two clients.
type tester struct {
	*bus.Bus
	got chan *envelope.Envelope
}

func newTester(link bus.Link, nick string) *tester {
	t := &tester{got: make(chan *envelope.Envelope, 16)}
	t.Bus = bus.Open(bus.Config{Link: link, Nick: nick, Receive: func(e *envelope.Envelope) {
		if e.Kind != probeKind {
			return
		}
		select {
		case t.got <- e:
		default:
		}
	}})
	return t
}

// ready waits until the client is on the channel.
func (t *tester) ready(ctx context.Context, channel string) error {
	if err := joined(ctx, t.Bus); err != nil {
		return err
	}
	t.Join(names.ProbeTenant, channel)
	_, err := t.Ping(ctx)
	return err
}

// joined waits until the server has let the client in.
func joined(ctx context.Context, b *bus.Bus) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !b.Up() {
		select {
		case <-ctx.Done():
			if detail := b.Stats().Detail; detail != "" {
				return errors.New(detail)
			}
			return fmt.Errorf("the server does not answer: %w", ctx.Err())
		case <-ticker.C:
		}
	}
	return nil
}

// sendTo publishes an envelope of size bytes, or a short one, and waits for it to arrive.
func (t *tester) sendTo(ctx context.Context, to *tester, channel string, size int) error {
	e := &envelope.Envelope{Kind: probeKind, Tenant: names.ProbeTenant, Channel: channel, Text: "x"}
	e.Text += strings.Repeat("x", max(0, size-len(e.Append(nil))))
	t.Publish(e)
	late := time.NewTimer(answerTime)
	defer late.Stop()
	for {
		select {
		case got := <-to.got:
			if got.Channel == e.Channel && got.Text == e.Text {
				return nil
			}
		case <-late.C:
			return fmt.Errorf("it did not arrive within %v", answerTime)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
