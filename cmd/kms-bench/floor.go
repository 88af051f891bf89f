package main

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// The floor is the least that a Go program can do to pass messages on: one goroutine a connection that reads frames, one a channel
// that writes each message raw to each member. No login, no names, no checks, no log, no bus, no limits, no slow readers: what a
// server costs beyond it is the price of its features.

type floorChannel struct {
	in chan []byte

	mu      sync.Mutex
	members []floorMember
}

// floorMember has its descriptor's number: nothing here keeps it from becoming somebody else's, which a real server must.
type floorMember struct {
	nc net.Conn
	fd int
}

type floor struct {
	mu       sync.Mutex
	channels map[string]*floorChannel
}

func serveFloor(socket string) error {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("cannot listen: %v", err)
	}
	f := &floor{channels: map[string]*floorChannel{}}
	for {
		nc, err := l.Accept()
		if err != nil {
			return fmt.Errorf("cannot accept: %v", err)
		}
		go f.serve(nc.(*net.UnixConn))
	}
}

func (f *floor) channel(path string) *floorChannel {
	f.mu.Lock()
	defer f.mu.Unlock()
	ch := f.channels[path]
	if ch == nil {
		ch = &floorChannel{in: make(chan []byte, 1024)}
		f.channels[path] = ch
		go ch.write()
	}
	return ch
}

func (f *floor) serve(nc *net.UnixConn) {
	defer nc.Close()
	path, err := upgradeBare(nc)
	if err != nil {
		return
	}
	ch := f.channel(path)
	if err := ch.enter(nc); err != nil {
		return
	}
	defer ch.leave(nc)
	buf, have := make([]byte, 512), 0
	for {
		n, err := nc.Read(buf[have:])
		if err != nil {
			return
		}
		have += n
		data := buf[:have]
		for {
			op, payload, rest, err := nextFrame(data)
			if err != nil || op == opClose {
				return
			}
			if len(rest) == len(data) {
				break
			}
			if op == opText {
				ch.in <- appendUnmasked(nil, payload)
			}
			data = rest
		}
		have = copy(buf, data)
	}
}

// upgradeBare answers a handshake that is known to be one.
func upgradeBare(nc net.Conn) (path string, err error) {
	r, err := http.ReadRequest(bufio.NewReaderSize(nc, 512))
	if err != nil {
		return "", err
	}
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	_, err = fmt.Fprintf(nc, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
	return r.URL.Path, err
}

func (ch *floorChannel) enter(nc *net.UnixConn) error {
	raw, err := nc.SyscallConn()
	if err != nil {
		return err
	}
	m := floorMember{nc: nc}
	if err := raw.Control(func(fd uintptr) { m.fd = int(fd) }); err != nil {
		return err
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.members = append(ch.members, m)
	return nil
}

func (ch *floorChannel) leave(nc *net.UnixConn) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	for i, other := range ch.members {
		if other.nc == nc {
			ch.members = append(ch.members[:i:i], ch.members[i+1:]...)
			return
		}
	}
}

// write passes on what is said in the channel, one write for each delivery. It waits for whoever has no room.
func (ch *floorChannel) write() {
	for frame := range ch.in {
		ch.mu.Lock()
		members := ch.members
		ch.mu.Unlock()
		for _, m := range members {
			writeRaw(m.fd, frame)
		}
	}
}

func writeRaw(fd int, frame []byte) {
	for len(frame) > 0 {
		n, err := syscall.Write(fd, frame)
		switch {
		case err == syscall.EAGAIN:
			time.Sleep(100 * time.Microsecond)
		case err == syscall.EINTR:
		case err != nil:
			return
		default:
			frame = frame[n:]
		}
	}
}
