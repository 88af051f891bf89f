package ua_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/hub"
	"github.com/kmsctl/kms/runtime/ua"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// words is a protocol of blank-separated words, one command a line: `login TOKEN`, `join CHANNEL`, `say CHANNEL ID TEXT`.
type words struct {
	seamless bool

	mu    sync.Mutex
	moves []time.Time // when somebody was told to move
}

func (*words) Name() string     { return "0.1" }
func (w *words) Seamless() bool { return w.seamless }

func (*words) Decode(frame []byte) (cmds []ua.Command, err error) {
	for line := range strings.Lines(string(frame)) {
		f := append(strings.Fields(line), "", "", "", "")
		cmd := ua.Command{Verb: ua.Verb(f[0]), Word: f[0], Channel: f[1], ID: f[2], Text: f[3]}
		switch cmd.Verb {
		case ua.Login:
			cmd.Token, cmd.Channel = f[1], ""
		case ua.Join, ua.Leave, ua.Say, ua.Ping:
		case "bad":
			cmd.Bad = chat.Errorf(chat.CodeBadFrame, "bad")
		case "broken":
			return nil, fmt.Errorf("broken frame")
		default:
			cmd.Bad = chat.Errorf(ua.CodeUnknownCommand, "no such thing")
		}
		cmds = append(cmds, cmd)
	}
	return cmds, nil
}

func (*words) AppendBatch(dst []byte, batch []*envelope.Envelope) []byte {
	for _, e := range batch {
		dst = hub.AppendText(dst, fmt.Appendf(nil, "%s %s %s %s", e.Kind, e.Channel, e.User, e.Text))
	}
	return dst
}

func (w *words) AppendReply(dst []byte, r ua.Reply) []byte {
	if r.Kind == "" {
		return dst
	}
	code := r.Code
	if r.Err != nil {
		code = r.Err.Code
	}
	if r.Kind == ua.Moving {
		w.mu.Lock()
		w.moves = append(w.moves, time.Now())
		w.mu.Unlock()
	}
	return hub.AppendText(dst, []byte(strings.Join(strings.Fields(fmt.Sprintf("%s %s %s %s %s %s", r.Kind, r.To.Channel, r.To.ID, code, r.Text, r.Deprecation.Notice)), " ")))
}

func (w *words) moved() []time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]time.Time(nil), w.moves...)
}
