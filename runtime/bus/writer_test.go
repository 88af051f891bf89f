package bus

import (
	"testing"
	"testing/synctest"
	"time"
)

// ngIRCd runs what follows a NUL as a command of its own.
func TestEmit_sendsOneLineOrNone(t *testing.T) {
	b := Open(Config{})
	defer b.Close()
	w := &newSession(newNetwork(b, Link{Kind: NgIRCd}), nil, "server").w
	for _, c := range []string{"\x00", "\r", "\n"} {
		if err := w.emit("PRIVMSG #kms :", []byte("seal"), []byte("1a"+c+"QUIT")); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.emit("PING :x", nil, nil); err != nil {
		t.Fatal(err)
	}
	if got := string(w.buf); got != "PING :x\r\n" || b.Stats().Dropped != 3 {
		t.Errorf("%q is to be sent, %d dropped", got, b.Stats().Dropped)
	}
}

func TestGather_waitsForCompanyOnlyWhileBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w writer
		for _, c := range []struct{ quiet, want time.Duration }{
			{time.Second, 0}, {0, company}, {busyFor - 1, company}, {busyFor, 0},
		} {
			time.Sleep(c.quiet)
			began := time.Now()
			if w.gather(); time.Since(began) != c.want {
				t.Errorf("%v after a round the next one waits for %v, want %v", c.quiet, time.Since(began), c.want)
			}
		}
	})
}
