package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/plugin"
	"github.com/kmsctl/kms/runtime/ua"
	"github.com/kmsctl/kms/runtime/ua/probe"
)

// runProbe logs in, sends a message, wants its acknowledgement with a position and the message itself, and calls the API.
func runProbe(ctx context.Context, t plugin.ProbeTarget) error {
	return probe.Run(ctx, t, version, talk)
}

// op is what the probe looks at of the server's operations.
type op struct {
	Op, ID, Epoch, Code, Message string
	Seq                          int64
	Logged                       bool
}

func talk(p *probe.Probe) error {
	id := envelope.NewID(time.Now())
	frame := ua.AppendText(nil, `[{"op":"hello","token":`, p.Target.Token)
	frame = ua.AppendText(frame, `},{"op":"sub","ch":`, p.Target.Channel)
	frame = ua.AppendText(frame, `},{"op":"send","ch":`, p.Target.Channel)
	frame = ua.AppendText(frame, `,"id":`, id)
	frame = ua.AppendText(frame, `,"text":`, "probe "+p.Nonce)
	if err := p.Send(append(frame, "}]"...)); err != nil {
		return err
	}
	var ack, msg op
	return p.Receive("acknowledgement and echo of a send", func(frame []byte) (bool, error) {
		var ops []op
		if err := json.Unmarshal(frame, &ops); err != nil {
			return false, fmt.Errorf("a frame is no array of operations: %v", err)
		}
		for _, o := range ops {
			switch {
			case o.Op == "nack":
				return false, fmt.Errorf("%s: %s", o.Code, o.Message)
			case o.Op == "ack" && o.ID == id:
				ack = o
			case o.Op == "msg" && o.ID == id:
				msg = o
			}
		}
		if ack.Op == "" || msg.Op == "" {
			return false, nil
		}
		if ack.Seq != msg.Seq || ack.Logged && ack.Epoch == "" {
			return false, fmt.Errorf("acknowledged at %q %d and delivered at %d", ack.Epoch, ack.Seq, msg.Seq)
		}
		return true, nil
	})
}
