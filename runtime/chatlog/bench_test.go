package chatlog

import (
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/testkit"
)

// BenchmarkAppend is 200 senders, each alone in its channel with up to 16 messages on their way.
func BenchmarkAppend(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) { benchAppend(b, migrated(b, "sqlite:"+filepath.Join(b.TempDir(), "kms.db"))) })
	b.Run("mysql", func(b *testing.B) { benchAppend(b, migrated(b, testkit.MySQL(b))) })
}

func benchAppend(b *testing.B, url string) {
	const senders, pipeline = 200, 16
	st := testStore(b, url)
	l := testLog(b, st, Options{})
	pks := make([]int64, senders)
	for i := range pks {
		pks[i] = testChannel(b, st, "c"+strings.Repeat("x", i%40)+string(rune('0'+i/40)))
	}
	text := strings.Repeat("こんにちは", 8) // 120 bytes
	cpu := cpuTime()
	b.ResetTimer()
	var wg sync.WaitGroup
	for s, pk := range pks {
		n := b.N / senders
		if s < b.N%senders {
			n++
		}
		wg.Go(func() {
			free := make(chan struct{}, pipeline)
			for range n {
				free <- struct{}{}
				e := &envelope.Envelope{Kind: envelope.Say, ID: envelope.NewID(time.Now()), User: "u1", Name: "勇者", Text: text}
				l.Append(pk, e, func(_ Receipt, err error) {
					if err != nil {
						b.Error(err)
					}
					<-free
				})
			}
			for range pipeline {
				free <- struct{}{}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(b.N), "cpu-us/row")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
