package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kmsctl/kms/cmd/internal/figure"
)

func TestNextFrame_takesFramesApartWhereverTheyAreCut(t *testing.T) {
	var data []byte
	sizes := []int{0, 1, 125, 126, 4000}
	for _, n := range sizes {
		data = appendUnmasked(data, bytes.Repeat([]byte{'a'}, n))
	}
	var got []int
	var kept []byte
	for _, b := range data { // one byte at a time
		kept = append(kept, b)
		for {
			op, payload, rest, err := nextFrame(kept)
			if err != nil {
				t.Fatal(err)
			}
			if len(rest) == len(kept) {
				break
			}
			if op != opText {
				t.Fatalf("opcode %d", op)
			}
			got = append(got, len(payload))
			kept = bytes.Clone(rest)
		}
	}
	if len(got) != len(sizes) || len(kept) != 0 {
		t.Fatalf("frames of %v bytes, %d bytes left", got, len(kept))
	}
	for i, n := range sizes {
		if got[i] != n {
			t.Errorf("frame %d has %d bytes, want %d", i, got[i], n)
		}
	}
}

func TestNextFrame_undoesTheMask(t *testing.T) {
	_, payload, rest, err := nextFrame([]byte{0x81, 0x83, 1, 2, 3, 4, 'a' ^ 1, 'b' ^ 2, 'c' ^ 3})
	if err != nil || string(payload) != "abc" || len(rest) != 0 {
		t.Fatalf("%q, %q, %v", payload, rest, err)
	}
}

func TestEachText_findsNumberAndTime(t *testing.T) {
	text := appendStamped(nil, 4711, 123456789)
	if len(text) != textSize {
		t.Errorf("a text has %d bytes, want %d", len(text), textSize)
	}
	payload := append(append([]byte(`[{"op":"msg","text":"`), text...), `"},{"op":"msg","text":"`...)
	payload = append(appendStamped(payload, 4712, 99), `"}]`...)
	var numbers []int
	var times []int64
	eachText(payload, func(number int, sent int64) { numbers, times = append(numbers, number), append(times, sent) })
	if len(numbers) != 2 || numbers[0] != 4711 || numbers[1] != 4712 || times[0] != 123456789 || times[1] != 99 {
		t.Fatalf("%v %v", numbers, times)
	}
}

func TestLatencies_areExactEnough(t *testing.T) {
	var l latencies
	for ms := 1; ms <= 1000; ms++ {
		l.add(time.Duration(ms) * time.Millisecond)
	}
	for _, c := range []struct {
		share float64
		want  time.Duration
	}{{0.5, 500 * time.Millisecond}, {0.99, 990 * time.Millisecond}, {1, time.Second}} {
		if got := l.at(c.share); got < c.want*98/100 || got > c.want*102/100 {
			t.Errorf("the %v quantile is %v, want %v", c.share, got, c.want)
		}
	}
}

// floorCrowd is clients of a floor that runs in this process.
func floorCrowd(t *testing.T, channels, users int) *crowd {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "f.sock")
	go func() { _ = serveFloor(socket) }() // until the test's process ends
	var c *crowd
	var err error
	for range 1000 {
		if fd, dialErr := dial("unix", socket); dialErr == nil {
			writeAll(fd, []byte("GET")) // no handshake: the floor waits for the rest of it
			break
		}
		time.Sleep(time.Millisecond)
	}
	if c, err = newCrowd(plain{}, "unix", socket, channels, users); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	if err := c.join(context.Background(), 0, users); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // a floor's client is in its channel some time after the handshake
	return c
}

func TestCrowd_countsEveryDelivery(t *testing.T) {
	c := floorCrowd(t, 3, 12)
	sent, err := c.talk(context.Background(), pace{rate: 500}, 300*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if c.received.Load() != int64(sent*4) || c.missing() != 0 || c.doubled.Load() != 0 {
		t.Errorf("%d sent, %d received, %d missing, %d doubled", sent, c.received.Load(), c.missing(), c.doubled.Load())
	}
}

func TestCrowd_noticesWhatIsLostOrDoubled(t *testing.T) {
	c := floorCrowd(t, 1, 2)
	c.sent[0].Add(1) // a message that nobody sent
	for range 2 {    // and one that comes twice
		frame := appendMasked(nil, opText, appendStamped(nil, 1, c.clock()))
		if err := writeAll(c.clients[0].fd, frame); err != nil {
			t.Fatal(err)
		}
	}
	c.sent[0].Add(1)
	for c.doubled.Load() < 2 {
		if err := c.failure(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	if c.missing() != 2 {
		t.Errorf("%d are missing, want 2", c.missing())
	}
	r := result{deliveries: 10, lost: c.missing()}
	f := figure.Figure{OK: true}
	if r.spoil(&f); f.OK || f.Problem == "" {
		t.Errorf("a run that lost something is a figure: %+v", f)
	}
}

func TestCPUOf_growsWithWork(t *testing.T) {
	before := ownCPU()
	for ownCPU()-before < 50*time.Millisecond {
	}
	if _, err := cpuOf([]int{1 << 30}); err == nil {
		t.Error("a process that does not exist has CPU time")
	}
}

// A server dies with the thread that started it: a crowd whose reader took its thread along has ended a KMS in the middle of a run.
func TestCrowd_endsNoThread(t *testing.T) {
	for range 3 {
		c, err := newCrowd(plain{}, "unix", "", 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond) // its reader has a thread now
		threads, err := filepath.Glob("/proc/self/task/*")
		if err != nil {
			t.Fatal(err)
		}
		c.close()
		time.Sleep(20 * time.Millisecond)
		for _, thread := range threads {
			if _, err := os.Stat(thread); err != nil {
				t.Fatalf("a thread has ended: %v", err)
			}
		}
	}
}
