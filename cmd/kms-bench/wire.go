package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/oklog/ulid/v2"
)

// A text is 120 bytes: its number in its channel and when it was sent (nanoseconds of the load's clock), found again by the
// sign before them, and a line of chat.
const (
	textSize   = 120
	textSign   = '#'
	numberSize = 8
	sentSize   = 15
	stampSize  = 1 + numberSize + sentSize
	chatLine   = " 今日のギルド戦は九時から、みんな来てね! bring potions and the old map, ok? gg"
)

func appendStamped(dst []byte, number int, sent int64) []byte {
	dst = append(dst, textSign)
	dst = appendDigits(dst, int64(number), numberSize)
	dst = appendDigits(dst, sent, sentSize)
	return append(dst, chatLine[:textSize-stampSize]...)
}

func appendDigits(dst []byte, n int64, size int) []byte {
	at := len(dst)
	dst = append(dst, "000000000000000"[:size]...)
	for i := at + size - 1; i >= at; i-- {
		dst[i] = byte('0' + n%10)
		n /= 10
	}
	return dst
}

// eachText calls with for every text of a payload. Nothing else that the servers send holds the sign.
func eachText(payload []byte, with func(number int, sent int64)) {
	for {
		i := bytes.IndexByte(payload, textSign)
		if i < 0 || len(payload)-i < stampSize {
			return
		}
		payload = payload[i+1:]
		with(int(digits(payload[:numberSize])), digits(payload[numberSize:stampSize-1]))
		payload = payload[stampSize-1:]
	}
}

func digits(text []byte) (n int64) {
	for _, c := range text {
		n = n*10 + int64(c-'0')
	}
	return n
}

const (
	opText  = 0x1
	opClose = 0x8
	opPing  = 0x9
	opPong  = 0xA
)

// appendMasked appends a client's frame. The key is zero, as any key may be: it costs the server the same.
func appendMasked(dst []byte, op byte, payload []byte) []byte {
	dst = append(dst, 0x80|op)
	if n := len(payload); n < 126 {
		dst = append(dst, 0x80|byte(n))
	} else {
		dst = binary.BigEndian.AppendUint16(append(dst, 0x80|126), uint16(n))
	}
	return append(append(dst, 0, 0, 0, 0), payload...)
}

// appendUnmasked appends a server's text frame.
func appendUnmasked(dst, payload []byte) []byte {
	dst = append(dst, 0x80|opText)
	if n := len(payload); n < 126 {
		dst = append(dst, byte(n))
	} else {
		dst = binary.BigEndian.AppendUint16(append(dst, 126), uint16(n))
	}
	return append(dst, payload...)
}

var errFrame = errors.New("broken WebSocket frame")

// nextFrame takes the first frame of data apart. rest is data itself while the frame is not complete; a mask is undone in place.
func nextFrame(data []byte) (op byte, payload, rest []byte, err error) {
	if len(data) < 2 {
		return 0, nil, data, nil
	}
	at, n, masked := 2, int(data[1]&0x7f), data[1]&0x80 != 0
	switch n {
	case 126:
		if len(data) < 4 {
			return 0, nil, data, nil
		}
		at, n = 4, int(binary.BigEndian.Uint16(data[2:]))
	case 127:
		if len(data) < 10 {
			return 0, nil, data, nil
		}
		size := binary.BigEndian.Uint64(data[2:])
		if size > 1<<24 {
			return 0, nil, nil, errFrame
		}
		at, n = 10, int(size)
	}
	var key []byte
	if masked {
		at += 4
		if len(data) >= at {
			key = data[at-4 : at]
		}
	}
	if len(data) < at+n {
		return 0, nil, data, nil
	}
	payload = data[at : at+n]
	for i := range payload[:min(n, n*len(key))] {
		payload[i] ^= key[i&3]
	}
	return data[0] & 0xf, payload, data[at+n:], nil
}

// wire is how clients speak to a server.
type wire interface {
	path(channel int) string
	// hello is what a client sends first, nil for nothing; then it is ready when welcomed says so.
	hello(user, channel int) []byte
	// welcomed reports whether a payload says that the client is in its channel.
	welcomed(payload []byte) (bool, error)
	appendSay(dst []byte, channel int, text []byte) []byte
}

// plain is the wire of the floor and the peers: the channel is in the path, a message is its text.
type plain struct{}

func (plain) path(channel int) string       { return "/ch/c" + strconv.Itoa(channel) }
func (plain) hello(int, int) []byte         { return nil }
func (plain) welcomed([]byte) (bool, error) { return true, nil }
func (plain) appendSay(dst []byte, channel int, text []byte) []byte {
	return appendMasked(dst, opText, text)
}

// kms2 is protocol 2.0.
type kms2 struct {
	prefix string // of channel names
}

func (w kms2) path(int) string { return "/ua/2.0/" + tenant }

func (w kms2) channel(n int) string { return w.prefix + strconv.Itoa(n) }

func (w kms2) hello(user, channel int) []byte {
	text := fmt.Sprintf(`[{"op":"hello","token":%q},{"op":"sub","ch":%q}]`, tokenOf(user), w.channel(channel))
	return appendMasked(nil, opText, []byte(text))
}

func (kms2) welcomed(payload []byte) (bool, error) {
	if bytes.Contains(payload, []byte(`"op":"nack"`)) {
		return false, fmt.Errorf("the server refused a login: %.300s", payload)
	}
	return bytes.Contains(payload, []byte(`"op":"subbed"`)), nil
}

func (w kms2) appendSay(dst []byte, channel int, text []byte) []byte {
	op := make([]byte, 0, 256)
	op = append(append(op, `[{"op":"send","ch":"`...), w.channel(channel)...)
	op = append(append(op, `","id":"`...), ulid.Make().String()...)
	op = append(append(op, `","text":"`...), text...)
	return appendMasked(dst, opText, append(op, `"}]`...))
}
