package hub

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
)

// The receivers of these benchmarks live in a process of their own, so that CPU time is the hub's alone; cpu-us/delivery
// is what to compare, ns/op includes the receivers.

const sinkEnv = "KMS_HUB_TEST_SINK"

// runSink reads from the inherited sockets until they close.
func runSink() {
	n, _ := strconv.Atoi(os.Getenv(sinkEnv))
	done := make(chan bool)
	for fd := 3; fd < 3+n; fd++ {
		go func() {
			f := os.NewFile(uintptr(fd), "socket")
			nc, err := net.FileConn(f)
			f.Close()
			if err == nil {
				io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{nc}, make([]byte, 4096))
			}
			done <- true
		}()
	}
	for range n {
		<-done
	}
	os.Exit(0)
}

// sinkConns returns the near ends of n sockets that another process reads.
func sinkConns(b *testing.B, n int) []net.Conn {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), sinkEnv+"="+strconv.Itoa(n))
	conns := make([]net.Conn, n)
	for i := range conns {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		far := os.NewFile(uintptr(fds[1]), "far")
		defer far.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, far)
		near := os.NewFile(uintptr(fds[0]), "near")
		if conns[i], err = net.FileConn(near); err != nil {
			b.Fatal(err)
		}
		near.Close()
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		for _, nc := range conns {
			nc.Close()
		}
		cmd.Wait()
	})
	return conns
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func reportCPU(b *testing.B, from time.Duration, deliveries int) {
	b.ReportMetric(float64(cpuTime()-from)/1e3/float64(deliveries), "cpu-us/delivery")
}

var benchText = strings.Repeat("x", 120)

func benchHub(b *testing.B, rooms, members int) (*Hub, []Channel) {
	b.Helper()
	conns := sinkConns(b, rooms*members)
	// The sink answers no close frame, and reads until the hub's own descriptors are closed.
	h := New(Options{Codec: lineCodec{}, Log: newFakeLog(0), MaxPending: 64 << 20, CloseTimeout: time.Millisecond})
	b.Cleanup(h.Close)
	channels := make([]Channel, rooms)
	for i := range channels {
		channels[i] = testChannel
		channels[i].ID = "c" + strconv.Itoa(i)
		for _, nc := range conns[i*members : (i+1)*members] {
			c := testConn(b, h, nc)
			h.remember(c)
			err := h.Subscribe(context.Background(), c, "u", channels[i], nil, func(Joined) []byte { return nil })
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	return h, channels
}

// paced calls send every `every`, b.N times.
func paced(b *testing.B, every time.Duration, send func(i int)) {
	start := time.Now()
	for i := range b.N {
		if wait := time.Until(start.Add(time.Duration(i) * every)); wait > 0 {
			time.Sleep(wait)
		}
		send(i)
	}
}

func benchFanout(b *testing.B, rooms, members, rate int) {
	h, channels := benchHub(b, rooms, members)
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime()
	paced(b, time.Second/time.Duration(rate), func(i int) {
		h.Deliver(&envelope.Envelope{Kind: envelope.Say, Tenant: "demo", Channel: channels[i%rooms].ID, Epoch: testEpoch,
			Seq: int64(i/rooms + 1), ID: "m", User: "anna", Text: benchText})
	})
	want := uint64(b.N * members)
	for h.Stats().Deliveries < want {
		time.Sleep(time.Millisecond)
	}
	reportCPU(b, cpu, b.N*members)
	b.ReportMetric(float64(h.Stats().Writes)/float64(want), "writes/delivery")
}

func BenchmarkFanout_guild(b *testing.B)    { benchFanout(b, 40, 25, 1000) }
func BenchmarkFanout_world100(b *testing.B) { benchFanout(b, 1, 1000, 100) }
func BenchmarkFanout_world400(b *testing.B) { benchFanout(b, 1, 1000, 400) }
func BenchmarkFanout_world800(b *testing.B) { benchFanout(b, 1, 1000, 800) }

// The floor: one write per delivery, nothing else.
func benchFloor(b *testing.B, rooms, members, rate int) {
	conns := sinkConns(b, rooms*members)
	fds := make([]int, len(conns))
	for i, nc := range conns {
		raw, _ := nc.(syscall.Conn).SyscallConn()
		raw.Control(func(fd uintptr) { fds[i] = int(fd) })
	}
	b.ResetTimer()
	cpu := cpuTime()
	paced(b, time.Second/time.Duration(rate), func(i int) {
		frame := AppendText(nil, []byte(benchText+strings.Repeat("y", 20)))
		for _, fd := range fds[i%rooms*members:][:members] {
			syscall.Write(fd, frame)
		}
	})
	reportCPU(b, cpu, b.N*members)
}

func BenchmarkFloor_guild(b *testing.B)    { benchFloor(b, 40, 25, 1000) }
func BenchmarkFloor_world100(b *testing.B) { benchFloor(b, 1, 1000, 100) }
func BenchmarkFloor_world400(b *testing.B) { benchFloor(b, 1, 1000, 400) }

func BenchmarkDeliver_duplicate(b *testing.B) {
	h, _ := benchHub(b, 1, 1)
	e := say(1)
	e.Channel = "c0"
	h.Deliver(e)
	b.ReportAllocs()
	for b.Loop() {
		h.Deliver(e)
	}
}

// BenchmarkBatch is one message in a room of 25: encoded once, written 25 times. Only the batch and its frames are allocated.
func BenchmarkBatch(b *testing.B) {
	h, channels := benchHub(b, 1, 25)
	r := h.find(roomKey{channels[0].Tenant, channels[0].ID})
	envs := []*envelope.Envelope{{Kind: envelope.Say, ID: "m", User: "anna", Text: benchText}}
	b.ReportAllocs()
	for b.Loop() {
		batch := &batch{room: r, n: notLive - 1, envs: envs, subs: r.subs}
		batch.left.Store(2) // it is not the room's: nobody finishes it
		batch.encode(h.o.Codec)
		batch.write(0, len(batch.subs))
	}
}

// BenchmarkDrain is 64 frames that wait for a slow reader, put into the line and taken out again.
func BenchmarkDrain(b *testing.B) {
	h, channels := benchHub(b, 1, 1)
	c := h.find(roomKey{channels[0].Tenant, channels[0].ID}).subs[0].conn
	frame := AppendText(nil, []byte(benchText))
	b.ReportAllocs()
	for b.Loop() {
		c.mu.Lock()
		c.draining = true // or the frames would not wait
		for range 64 {
			if err := c.putLocked(frame, true); err != nil {
				b.Fatal(err)
			}
		}
		c.mu.Unlock()
		c.drain()
	}
}
