package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/kmsctl/kms/runtime/plugin"
	"github.com/kmsctl/kms/runtime/ua"
	"github.com/kmsctl/kms/runtime/ua/probe"
)

// runProbe logs in, says something and receives it, as a client of 1.0 would, and calls the API.
func runProbe(ctx context.Context, t plugin.ProbeTarget) error {
	return probe.Run(ctx, t, version, talk)
}

func talk(p *probe.Probe) error {
	text := "probe " + p.Nonce
	for _, frame := range [][]byte{
		ua.AppendText(nil, `{"type":"login","token":`, p.Target.Token),
		ua.AppendText(nil, `{"type":"join","channel":`, p.Target.Channel),
		ua.AppendText(ua.AppendText(nil, `{"type":"say","id":"probe","channel":`, p.Target.Channel), `,"text":`, text),
	} {
		if err := p.Send(append(frame, '}')); err != nil {
			return err
		}
	}
	var said, message bool
	return p.Receive("answer and echo of a say", func(frame []byte) (bool, error) {
		var got struct{ Type, ID, Text, Code, Message string }
		if err := json.Unmarshal(frame, &got); err != nil {
			return false, fmt.Errorf("a frame is no object as 1.0 has it: %v", err)
		}
		switch {
		case got.Type == "error":
			return false, fmt.Errorf("%s: %s", got.Code, got.Message)
		case got.Type == "said" && got.ID == "probe":
			said = true
		case got.Type == "message" && got.Text == text:
			message = true
		}
		return said && message, nil
	})
}
