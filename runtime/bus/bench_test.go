package bus

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/testkit"
)

// BenchmarkBus_throughput sends envelopes of some 300 bytes to four receivers as fast as they take them.
func BenchmarkBus_throughput(b *testing.B) {
	for _, kind := range []string{InspIRCd, NgIRCd} {
		b.Run(kind, func(b *testing.B) {
			link := testLink(testkit.StartIRC(b, kind))
			from := upPeer(b, link, "from")
			var got atomic.Int64
			for range 4 {
				to := Open(Config{Link: link, Nick: "to", Receive: func(*envelope.Envelope) { got.Add(1) }})
				b.Cleanup(to.Close)
				testkit.Eventually(b, 10*time.Second, "up", to.Up)
				to.Join("demo", "lobby")
				if _, err := to.Ping(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			e := say("lobby", 1, "a message of an ordinary length, 日本語も少し: いつもの挨拶です")
			b.ResetTimer()
			for range b.N {
				for from.Stats().Queued > maxQueue/2 {
					time.Sleep(time.Millisecond)
				}
				from.Publish(e)
			}
			testkit.Eventually(b, 5*time.Minute, "all arrive", func() bool { return got.Load() == int64(4*b.N) })
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
			b.ReportMetric(float64(from.Stats().Dropped), "dropped")
		})
	}
}

// BenchmarkBus_latency sends one envelope every millisecond, or close to it, and tells the way from Publish to Receive.
func BenchmarkBus_latency(b *testing.B) {
	for _, kind := range []string{InspIRCd, NgIRCd} {
		b.Run(kind, func(b *testing.B) {
			link := testLink(testkit.StartIRC(b, kind))
			from := upPeer(b, link, "from")
			took := make(chan time.Duration, b.N)
			to := Open(Config{Link: link, Nick: "to", Receive: func(e *envelope.Envelope) {
				took <- time.Duration(time.Now().UnixNano() - e.At)
			}})
			b.Cleanup(to.Close)
			testkit.Eventually(b, 10*time.Second, "up", to.Up)
			b.ResetTimer()
			for range b.N {
				from.Publish(&envelope.Envelope{Kind: envelope.Change, At: time.Now().UnixNano()})
				time.Sleep(time.Millisecond)
			}
			all := make([]time.Duration, b.N)
			for i := range all {
				all[i] = <-took
			}
			slices.Sort(all)
			b.ReportMetric(float64(all[b.N/2].Microseconds()), "p50-us")
			b.ReportMetric(float64(all[b.N*99/100].Microseconds()), "p99-us")
		})
	}
}
