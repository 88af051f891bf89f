package irclink

import (
	"context"
	"fmt"

	"github.com/kmsctl/kms/runtime/bus"
)

// tailBuffer is how many messages a reader may lag behind before Tail gives up on it: the bus waits for nobody.
const tailBuffer = 10_000

// Tail joins the link as one process more and calls each for whatever travels there until ctx ends or each returns an error. What
// each process sends to itself never travels and is not seen.
func Tail(ctx context.Context, link bus.Link, each func(bus.Seen) error) error {
	if err := link.Check(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	seen := make(chan bus.Seen, tailBuffer)
	b := bus.Open(bus.Config{Link: link, Nick: "tail-" + NewPassword()[:8], Watch: func(s bus.Seen) {
		select {
		case seen <- s:
		default:
			cancel(fmt.Errorf("cannot tail link %q: the reader is %d messages behind", link.Name, tailBuffer))
		}
	}})
	defer b.Close()
	if err := joined(ctx, b); err != nil {
		return fmt.Errorf("cannot tail link %q: %w", link.Name, err)
	}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case s := <-seen:
			if err := each(s); err != nil {
				return err
			}
		}
	}
}
