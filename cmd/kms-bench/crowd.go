package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// client is one connection of the load. Only the reading thread touches it between its start and the crowd's close.
type client struct {
	fd      int
	user    int
	channel int
	rest    []byte   // of a frame that has not come whole
	ready   bool     // in its channel
	from    int      // number of the first message that it has to get
	seen    []uint64 // a bit for each number
}

// crowd is the clients of one run. They are spread evenly over the channels.
type crowd struct {
	wire     wire
	network  string
	address  string
	channels int
	events   bool // count presence in every frame, not only in those without a message

	epoll   int
	clients []*client // by user
	byFD    []atomic.Pointer[client]
	sent    []atomic.Int64
	began   time.Time

	readying atomic.Int64 // clients that are in their channel
	received atomic.Int64 // deliveries that had to come, each once
	doubled  atomic.Int64
	refused  atomic.Int64 // messages that the server did not take
	presence atomic.Int64 // events about who came and went
	latency  atomic.Pointer[latencies]

	stop    atomic.Bool
	reading sync.WaitGroup
	failed  atomic.Pointer[error] // the reader's, which ends it
}

// maxFD is above any descriptor of this process: the limit of open files is at most that.
const maxFD = 1 << 17

func newCrowd(w wire, network, address string, channels, users int) (*crowd, error) {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot make an epoll: %v", err)
	}
	c := &crowd{
		wire: w, network: network, address: address, channels: channels, epoll: epoll,
		clients: make([]*client, users), byFD: make([]atomic.Pointer[client], maxFD), sent: make([]atomic.Int64, channels), began: time.Now(),
	}
	c.latency.Store(&latencies{})
	c.reading.Go(c.read)
	return c, nil
}

func (c *crowd) close() {
	c.stop.Store(true)
	c.reading.Wait()
	for _, cl := range c.clients {
		if cl != nil {
			syscall.Close(cl.fd)
		}
	}
	syscall.Close(c.epoll)
}

func (c *crowd) clock() int64 { return int64(time.Since(c.began)) }

// How many handshakes, and how many logins, are under way at a time.
const (
	connecting = 32
	knocking   = 128
)

// join connects the users from lo to hi and waits until each is in its channel.
func (c *crowd) join(ctx context.Context, lo, hi int) error {
	var g errgroup.Group
	g.SetLimit(connecting)
	for user := lo; user < hi && ctx.Err() == nil; user++ {
		if err := c.awaitReady(ctx, int64(user-knocking)); err != nil {
			return errors.Join(err, g.Wait())
		}
		g.Go(func() error { return c.connect(user, user%c.channels) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return c.awaitReady(ctx, int64(hi))
}

func (c *crowd) awaitReady(ctx context.Context, users int64) error {
	deadline := time.Now().Add(30 * time.Second)
	for c.readying.Load() < users {
		if err := c.failure(); err != nil {
			return err
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return fmt.Errorf("only %d of %d clients are in their channels", c.readying.Load(), users)
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// connect opens one connection and gives it to the reader.
func (c *crowd) connect(user, channel int) error {
	fd, rest, err := c.handshake(channel)
	if err != nil {
		return err
	}
	cl := &client{fd: fd, user: user, channel: channel, rest: rest}
	c.clients[user] = cl
	hello := c.wire.hello(user, channel)
	if hello == nil {
		c.enter(cl)
	}
	c.byFD[fd].Store(cl)
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}
	if err := syscall.EpollCtl(c.epoll, syscall.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("cannot watch a connection: %v", err)
	}
	if hello != nil {
		return writeAll(fd, hello)
	}
	return nil
}

// enter notes that a client is in its channel: what is sent from now on has to come.
func (c *crowd) enter(cl *client) {
	cl.ready, cl.from = true, int(c.sent[cl.channel].Load())
	c.readying.Add(1)
}

// handshake returns a WebSocket's descriptor, which does not block.
func (c *crowd) handshake(channel int) (fd int, rest []byte, err error) {
	fd, err = dial(c.network, c.address)
	if err != nil {
		return 0, nil, err
	}
	request := "GET " + c.wire.path(channel) + " HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	if err = writeAll(fd, []byte(request)); err == nil {
		rest, err = readAnswer(fd)
	}
	if err == nil {
		err = syscall.SetNonblock(fd, true)
	}
	if err != nil {
		syscall.Close(fd)
		return 0, nil, fmt.Errorf("cannot open a WebSocket at %s: %w", c.address, err)
	}
	return fd, rest, nil
}

// readAnswer reads the answer to a handshake and returns what came behind it.
func readAnswer(fd int) ([]byte, error) {
	answer := make([]byte, 0, 1024)
	for {
		n, err := syscall.Read(fd, answer[len(answer):cap(answer)])
		if err == syscall.EINTR {
			continue
		}
		if err == nil && n <= 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		answer = answer[:len(answer)+n]
		head, rest, whole := strings.Cut(string(answer), "\r\n\r\n")
		switch {
		case whole && strings.HasPrefix(head, "HTTP/1.1 101 "):
			return []byte(rest), nil
		case whole || len(answer) == cap(answer):
			return nil, fmt.Errorf("the server answers %.80q", head)
		}
	}
}

// writeAll writes to a socket, blocking or not. A client's frame is small: it waits for room only when the server is far behind.
func writeAll(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := syscall.Write(fd, data)
		switch {
		case err == syscall.EAGAIN:
			time.Sleep(100 * time.Microsecond)
		case err == syscall.EINTR:
		case err != nil:
			return err
		default:
			data = data[n:]
		}
	}
	return nil
}

// read is the reading thread: it takes what the clients get until the crowd is closed. The thread has to outlive it: it may be the
// one that started a server, and with that thread the kernel would end the server (Pdeathsig).
func (c *crowd) read() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	events := make([]syscall.EpollEvent, 512)
	buf := make([]byte, 512<<10)
	for !c.stop.Load() {
		n, err := syscall.EpollWait(c.epoll, events, 100)
		if err != nil && err != syscall.EINTR {
			c.fail(fmt.Errorf("cannot wait for the clients: %v", err))
			return
		}
		for _, event := range events[:max(n, 0)] {
			if err := c.take(c.byFD[event.Fd].Load(), buf); err != nil {
				c.fail(err)
				return
			}
		}
	}
}

func (c *crowd) fail(err error) { c.failed.CompareAndSwap(nil, &err) }

func (c *crowd) failure() error {
	if err := c.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// take reads once from a client.
func (c *crowd) take(cl *client, buf []byte) error {
	kept := copy(buf, cl.rest)
	n, err := syscall.Read(cl.fd, buf[kept:])
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return nil
	}
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return fmt.Errorf("the connection of user %d ended: %w", cl.user, err)
	}
	now := c.clock()
	data := buf[:kept+n]
	for {
		op, payload, rest, err := nextFrame(data)
		if err != nil {
			return err
		}
		if len(rest) == len(data) {
			break
		}
		if err := c.frame(cl, op, payload, now); err != nil {
			return err
		}
		data = rest
	}
	if cl.rest = cl.rest[:0]; len(data) > 0 {
		cl.rest = append(cl.rest, data...)
	} else if cap(cl.rest) > 0 {
		cl.rest = nil
	}
	return nil
}

func (c *crowd) frame(cl *client, op byte, payload []byte, now int64) error {
	switch op {
	case opPing:
		return writeAll(cl.fd, appendMasked(nil, opPong, payload))
	case opClose:
		return fmt.Errorf("the server closed the connection of user %d: %q", cl.user, payload)
	}
	if !cl.ready {
		in, err := c.wire.welcomed(payload)
		if err != nil {
			return err
		}
		if in {
			c.enter(cl)
		}
	}
	got := 0
	eachText(payload, func(number int, sent int64) {
		got++
		c.note(cl, number, now-sent)
	})
	if got == 0 || c.events {
		c.notice(payload)
	}
	return nil
}

var (
	presenceOp = []byte(`"op":"presence"`)
	nackOp     = []byte(`"op":"nack"`)
)

// notice counts what is no message.
func (c *crowd) notice(payload []byte) {
	c.presence.Add(int64(bytes.Count(payload, presenceOp)))
	c.refused.Add(int64(bytes.Count(payload, nackOp)))
}

// note counts a delivery.
func (c *crowd) note(cl *client, number int, took int64) {
	word, bit := number/64, uint64(1)<<(number%64)
	for len(cl.seen) <= word {
		cl.seen = append(cl.seen, make([]uint64, word+1-len(cl.seen))...)
	}
	switch {
	case cl.seen[word]&bit != 0:
		c.doubled.Add(1)
	case number >= cl.from:
		c.received.Add(1)
		c.latency.Load().add(time.Duration(took))
	}
	cl.seen[word] |= bit
}

var errNoSocket = errors.New("unknown network")

// dial opens a blocking socket.
func dial(network, address string) (int, error) {
	var family int
	var to syscall.Sockaddr
	switch network {
	case "unix":
		family, to = syscall.AF_UNIX, &syscall.SockaddrUnix{Name: address}
	case "tcp":
		var port int
		if _, err := fmt.Sscanf(address, "127.0.0.1:%d", &port); err != nil {
			return 0, fmt.Errorf("cannot dial %s: %v", address, err)
		}
		family, to = syscall.AF_INET, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
	default:
		return 0, errNoSocket
	}
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("cannot make a socket: %v", err)
	}
	if network == "tcp" {
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	}
	for {
		err = syscall.Connect(fd, to)
		if err != syscall.EAGAIN && err != syscall.EINTR { // a unix socket whose backlog is full
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		syscall.Close(fd)
		return 0, fmt.Errorf("cannot connect to %s: %w", address, err)
	}
	return fd, nil
}
