package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/hub"
	"github.com/kmsctl/kms/runtime/testkit"
)

// peer speaks frames of its own making, right and wrong.
type peer struct {
	t testing.TB
	net.Conn
	in *bufio.Reader
}

func connect(t *testing.T, address string) *peer {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	p := &peer{t, c, bufio.NewReader(c)}
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: kms\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
	for line := ""; line != "\r\n"; {
		if line, err = p.in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

const (
	fin   = 0x80
	cont  = 0
	text  = 1
	bin   = 2
	bye   = 8
	ping  = 9
	pong  = 10
	mask  = 0x80
	empty = -1 // a close frame without a code
)

// frame is masked, as a client's has to be.
func frame(head byte, payload []byte) []byte {
	return append(append(header(head, len(payload), mask), 1, 2, 3, 4), masked(payload)...)
}

func header(head byte, n int, bit byte) []byte {
	b := []byte{head}
	switch {
	case n < 126:
		return append(b, byte(n)|bit)
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, 126|bit), uint16(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 127|bit), uint64(n))
}

func masked(payload []byte) []byte {
	out := bytes.Clone(payload)
	for i := range out {
		out[i] ^= byte(1 + i%4)
	}
	return out
}

func frames(all ...[]byte) []byte { return bytes.Join(all, nil) }

// next reads a frame of the server's.
func (p *peer) next() (head byte, payload []byte, err error) {
	var b [2]byte
	if _, err := io.ReadFull(p.in, b[:]); err != nil {
		return 0, nil, err
	}
	n := uint64(b[1])
	switch n {
	case 126:
		var size [2]byte
		_, err = io.ReadFull(p.in, size[:])
		n = uint64(binary.BigEndian.Uint16(size[:]))
	case 127:
		var size [8]byte
		_, err = io.ReadFull(p.in, size[:])
		n = binary.BigEndian.Uint64(size[:])
	}
	if err != nil || n > maxMessage {
		return 0, nil, fmt.Errorf("bad length %d: %v", n, err)
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(p.in, payload)
	return b[0], payload, err
}

func serve(t *testing.T) (address string) { return serveOn(t, newHub()) }

func serveOn(t *testing.T, h *hub.Hub) (address string) {
	t.Helper()
	s := httptest.NewServer(handler(h))
	t.Cleanup(func() {
		h.Close()
		s.Close()
	})
	return s.Listener.Addr().String()
}

// want is what has to come back: frames, and then the end with a close code unless the connection goes on.
type want struct {
	heads    []byte
	payloads []string
	code     int // 0: the connection goes on
}

func echoes(head byte, payload string) want { return want{[]byte{head}, []string{payload}, 0} }

func ends(code int) want { return want{code: code} }

func closing(code int, reason string) []byte {
	return frame(fin|bye, append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...))
}

// cases are those of the Autobahn suite's chapters that tell one implementation from another.
func cases() map[string]struct {
	sends []byte
	want  want
} {
	type row = struct {
		sends []byte
		want  want
	}
	kiss := "κόσμε"
	all := map[string]row{
		"ping with nothing":               {frame(fin|ping, nil), echoes(fin|pong, "")},
		"ping with 125 bytes":             {frame(fin|ping, bytes.Repeat([]byte{0xfe}, 125)), echoes(fin|pong, strings.Repeat("\xfe", 125))},
		"ping with 126 bytes":             {frame(fin|ping, make([]byte, 126)), ends(1002)},
		"ping in fragments":               {frames(frame(ping, []byte("a")), frame(fin|cont, []byte("b"))), ends(1002)},
		"pong unasked":                    {frames(frame(fin|pong, []byte("x")), frame(fin|text, []byte("y"))), echoes(fin|text, "y")},
		"two fragments":                   {frames(frame(text, []byte("ab")), frame(fin|cont, []byte("cd"))), echoes(fin|text, "abcd")},
		"ping between fragments":          {frames(frame(text, []byte("ab")), frame(fin|ping, []byte("p")), frame(fin|cont, []byte("cd"))), want{[]byte{fin | pong, fin | text}, []string{"p", "abcd"}, 0}},
		"continuation of nothing":         {frame(fin|cont, []byte("x")), ends(1002)},
		"text within fragments":           {frames(frame(text, []byte("ab")), frame(fin|text, []byte("cd"))), ends(1002)},
		"reserved bit":                    {frame(fin|0x40|text, []byte("x")), ends(1002)},
		"not masked":                      {append(header(fin|text, 1, 0), 'x'), ends(1002)},
		"UTF-8":                           {frame(fin|text, []byte(kiss)), echoes(fin|text, kiss)},
		"UTF-8 cut by a fragment":         {frames(frame(text, []byte(kiss[:1])), frame(fin|cont, []byte(kiss[1:]))), echoes(fin|text, kiss)},
		"not UTF-8":                       {frame(fin|text, []byte("κόσμε\xed\xa0\x80edited")), ends(1007)},
		"not UTF-8 over fragments":        {frames(frame(text, []byte("\xce")), frame(fin|cont, []byte("x"))), ends(1007)},
		"an overlong form":                {frame(fin|text, []byte("\xc0\x80")), ends(1007)},
		"above U+10FFFF":                  {frame(fin|text, []byte("\xf4\x90\x80\x80")), ends(1007)},
		"half a character at the end":     {frame(fin|text, []byte("a\xe3\x81")), ends(1007)},
		"binary is not looked at":         {frame(fin|bin, []byte("\xff\xfe")), echoes(fin|bin, "\xff\xfe")},
		"close with nothing":              {frame(fin|bye, nil), ends(empty)},
		"close with one byte":             {frame(fin|bye, []byte{3}), ends(empty)}, // gorilla/websocket does not see the byte; it ends all the same
		"close with a reason":             {closing(1000, "good night"), ends(1000)},
		"close with the longest reason":   {closing(1000, strings.Repeat("*", 123)), ends(1000)},
		"close with too long a reason":    {closing(1000, strings.Repeat("*", 124)), ends(1002)},
		"close with a reason not UTF-8":   {closing(1000, "\xce"), ends(1002)}, // as gorilla/websocket says; 1007 would do as well
		"nothing is done after the close": {frames(closing(1000, ""), frame(fin|ping, []byte("x"))), ends(1000)},
	}
	for _, n := range []int{0, 125, 126, 127, 65535, 65536, 1 << 20} {
		payload := strings.Repeat("x", n)
		all[fmt.Sprintf("text of %d bytes", n)] = row{frame(fin|text, []byte(payload)), echoes(fin|text, payload)}
		all[fmt.Sprintf("binary of %d bytes", n)] = row{frame(fin|bin, []byte(payload)), echoes(fin|bin, payload)}
	}
	for _, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		all[fmt.Sprintf("reserved opcode %d", op)] = row{frame(fin|op, nil), ends(1002)}
	}
	for _, code := range []int{1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		all[fmt.Sprintf("close with %d", code)] = row{closing(code, ""), ends(code)}
	}
	for _, code := range []int{0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535} {
		all[fmt.Sprintf("close with %d, which is none", code)] = row{closing(code, ""), ends(1002)}
	}
	return all
}

// TestEcho_asAutobahnWantsIt sends each case whole, and again byte by byte.
func TestEcho_asAutobahnWantsIt(t *testing.T) {
	address := serve(t)
	for name, c := range cases() {
		t.Run(name, func(t *testing.T) {
			p := connect(t, address)
			if _, err := p.Write(c.sends); err != nil {
				t.Fatal(err)
			}
			p.expect(c.want)
			if len(c.sends) > 300 {
				return
			}
			p = connect(t, address)
			for i := range c.sends {
				if _, err := p.Write(c.sends[i : i+1]); err != nil {
					break // it has closed
				}
			}
			p.expect(c.want)
		})
	}
}

func (p *peer) expect(w want) {
	p.t.Helper()
	for i, head := range w.heads {
		got, payload, err := p.next()
		if err != nil || got != head || string(payload) != w.payloads[i] {
			p.t.Fatalf("frame %d is %x %.40q (%v), want %x %.40q", i, got, payload, err, head, w.payloads[i])
		}
	}
	if w.code == 0 { // and it goes on
		if _, err := p.Write(frame(fin|text, []byte("still here"))); err != nil {
			p.t.Fatal(err)
		}
		if head, payload, err := p.next(); err != nil || head != fin|text || string(payload) != "still here" {
			p.t.Fatalf("then it says %x %.40q (%v)", head, payload, err)
		}
		return
	}
	head, payload, err := p.next()
	if err != nil || head != fin|bye {
		p.t.Fatalf("ends with %x %.40q (%v), want a close frame", head, payload, err)
	}
	code := empty
	if len(payload) >= 2 {
		code = int(binary.BigEndian.Uint16(payload))
	}
	if code != w.code && !(w.code == empty && code == 1000) {
		p.t.Errorf("closes with %d, want %d", code, w.code)
	}
	if _, err := p.in.ReadByte(); err == nil {
		p.t.Error("it goes on after the close frame")
	}
}

// TestEcho_controlFramesAreBounded: who pings without reading is cut, and the server's memory does not fill with pongs.
func TestEcho_controlFramesAreBounded(t *testing.T) {
	p := connect(t, serveOn(t, hub.New(hub.Options{Codec: noCodec{}}))) // bounded as a UA's
	many := bytes.Repeat(frame(fin|ping, make([]byte, 125)), 1000)
	for sent := 0; sent < 256<<20; sent += len(many) {
		if _, err := p.Write(many); err != nil {
			return
		}
	}
	t.Error("256 MiB of pings were taken from a client that reads nothing")
}

// TestEcho_anotherImplementation has Python's websockets talk to it.
func TestEcho_anotherImplementation(t *testing.T) {
	python := testkit.Need(t, "python3")
	script := `
import asyncio, sys, websockets
async def main():
    async with websockets.connect("ws://" + sys.argv[1] + "/", compression="deflate", max_size=None) as ws:
        for message in ["", "こんにちは", "x" * 200000, b"", b"\x00\xff" * 70000]:
            await ws.send(message)
            assert await ws.recv() == message, len(message)
        await ws.send(["ab", "cd", "ef"])
        assert await ws.recv() == "abcdef"
        await asyncio.wait_for(await ws.ping("still?"), 5)
    assert ws.close_code == 1000, ws.close_code
asyncio.run(main())
`
	out, err := exec.Command(python, "-c", script, serve(t)).CombinedOutput()
	if strings.Contains(string(out), "No module named 'websockets'") {
		out, err = exec.Command("/usr/bin/python3", "-c", script, serve(t)).CombinedOutput()
	}
	if strings.Contains(string(out), "No module named 'websockets'") {
		testkit.Need(t, "python3-websockets")
	}
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
