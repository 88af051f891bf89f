package irclink

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/bus"
	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/testkit"
)

// Tail sees every channel of the link without anybody having joined, and whoever speaks without the key.
func TestTail_seesAllAndStrangers(t *testing.T) {
	o := ServerOptions{Name: "irc.kms.internal", Listen: testkit.FreeAddr(t), Password: "secret"}
	startServer(t, bus.NgIRCd, o)
	link := testLink(t, bus.NgIRCd, o.Password, o.Listen)
	speaker := bus.Open(bus.Config{Link: link, Nick: "speaker"})
	defer speaker.Close()
	other := link
	other.Key = []byte("a key that is not the link's one")
	stranger := bus.Open(bus.Config{Link: other, Nick: "stranger"})
	defer stranger.Close()
	testkit.Eventually(t, 15*time.Second, "both are there", func() bool { return speaker.Up() && stranger.Up() })

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			speaker.Publish(&envelope.Envelope{Kind: envelope.Say, Tenant: "a", Channel: "hall", Seq: 1, Text: "hello"})
			speaker.Publish(&envelope.Envelope{Kind: envelope.Say, Tenant: "b", Channel: "guild", Seq: 2, Text: "hello"})
			stranger.Publish(&envelope.Envelope{Kind: envelope.Say, Tenant: "a", Channel: "hall", Seq: 3})
			time.Sleep(20 * time.Millisecond)
		}
	}()
	missing := map[string]bool{"speaker a hall": true, "speaker b guild": true, "stranger": true}
	enough := errors.New("enough")
	err := Tail(ctx, link, func(s bus.Seen) error {
		switch {
		case s.Refused != nil:
			delete(missing, s.Nick)
		case s.Size > 0:
			delete(missing, s.Nick+" "+s.Envelope.Tenant+" "+s.Envelope.Channel)
		}
		if len(missing) == 0 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Errorf("not seen %v: %v", missing, err)
	}
	other.Servers = []string{testkit.FreeAddr(t)}
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := Tail(short, other, nil); err == nil {
		t.Error("a link that nobody serves is tailed")
	}
}
