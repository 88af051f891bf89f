// Command echo answers every WebSocket message with itself, on the upgrader, reader and writer that UA processes use. It is for
// outside test suites of the protocol, such as Autobahn's, and for nothing else: it knows no login and no limit worth the name.
//
//	echo 127.0.0.1:9001
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/hub"
)

// maxMessage is above what the suites send.
const maxMessage = 64 << 20

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: echo HOST:PORT")
		os.Exit(2)
	}
	l, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "echo: error: cannot listen:", err)
		os.Exit(1)
	}
	fmt.Printf("echoing at ws://%s/\n", l.Addr())
	h := newHub()
	defer h.Close()
	fmt.Fprintln(os.Stderr, "echo: error:", http.Serve(l, handler(h)))
	os.Exit(1)
}

func newHub() *hub.Hub { return hub.New(hub.Options{Codec: noCodec{}, MaxPending: 2 * maxMessage}) }

// noCodec is for a hub without channels.
type noCodec struct{}

func (noCodec) AppendBatch(dst []byte, _ []*envelope.Envelope) []byte { return dst }

func handler(h *hub.Hub) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := h.Upgrade(w, r, hub.UpgradeOptions{MaxFrame: maxMessage, Binary: true})
		if err == nil { // else it has been answered
			go echo(c)
		}
	})
}

// binaryBit makes a text frame a binary one: the opcodes are 1 and 2.
const binaryBit = 0x81 ^ 0x82

func echo(c *hub.Conn) {
	for {
		message, err := c.Read()
		if err != nil {
			return
		}
		frame := hub.AppendText(nil, message)
		if c.Binary() {
			frame[0] ^= binaryBit
		}
		c.Send(frame)
	}
}
