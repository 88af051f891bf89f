package bus

import (
	"testing"
	"testing/synctest"
	"time"
)

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
