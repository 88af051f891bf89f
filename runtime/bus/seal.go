package bus

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"hash"
	"strconv"
)

// What follows `PRIVMSG #channel :` is the seal, a format digit and items:
//
//	seal    22 characters, base64url of the first 16 bytes of HMAC-SHA256(key, channel NUL digit items)
//	digit   '1'
//	item    'E' length ':' envelope                          one whole envelope
//	        'F' part '.' parts '.' length ':' bytes          part (from 1) of an envelope that no line can hold
//
// An item of another type with a length is skipped: a newer build may add one.
const (
	sealBytes  = 16
	sealLen    = 22
	lineFormat = '1'
	lineHead   = sealLen + 1
)

var (
	errSeal   = errors.New("the line is not sealed with the link's key")
	errFormat = errors.New("the line is of an unknown format")
	errItem   = errors.New("the line has a broken item")
)

// sealer makes and checks seals; one goroutine uses it.
type sealer struct {
	mac hash.Hash
	sum [sha256.Size]byte
	out [sealLen]byte
}

func newSealer(key []byte) *sealer { return &sealer{mac: hmac.New(sha256.New, key)} }

var nul = []byte{0}

// seal returns the seal of body (digit and items) on a channel, valid until the next call.
func (s *sealer) seal(channel, body []byte) []byte {
	s.mac.Reset()
	s.mac.Write(channel)
	s.mac.Write(nul)
	s.mac.Write(body)
	base64.RawURLEncoding.Encode(s.out[:], s.mac.Sum(s.sum[:0])[:sealBytes])
	return s.out[:]
}

// open returns the items of a sealed text.
func (s *sealer) open(channel, text []byte) ([]byte, error) {
	if len(text) < lineHead || !hmac.Equal(s.seal(channel, text[sealLen:]), text[:sealLen]) {
		return nil, errSeal
	}
	if text[sealLen] != lineFormat {
		return nil, errFormat
	}
	return text[lineHead:], nil
}

// item is one envelope or a part of one.
type item struct {
	kind        byte // 'E', 'F', or a newer one
	part, parts int  // of an 'F'
	data        []byte
}

// headLen returns the bytes that appendItem puts before the data.
func (it *item) headLen() int {
	n := 2 + digits(len(it.data))
	if it.kind == 'F' {
		n += digits(it.part) + digits(it.parts) + 2
	}
	return n
}

func digits(n int) int {
	d := 1
	for ; n >= 10; n /= 10 {
		d++
	}
	return d
}

func appendItem(dst []byte, it *item) []byte {
	dst = append(dst, it.kind)
	if it.kind == 'F' {
		dst = append(strconv.AppendInt(dst, int64(it.part), 10), '.')
		dst = append(strconv.AppendInt(dst, int64(it.parts), 10), '.')
	}
	dst = append(strconv.AppendInt(dst, int64(len(it.data)), 10), ':')
	return append(dst, it.data...)
}

// nextItem cuts the first item off items.
func nextItem(items []byte) (it item, rest []byte, err error) {
	if len(items) == 0 {
		return it, nil, errItem
	}
	it.kind, rest = items[0], items[1:]
	var numbers [3]int
	count := 0
	for {
		n, i := 0, 0
		for i < len(rest) && i < 7 && rest[i] >= '0' && rest[i] <= '9' {
			n = n*10 + int(rest[i]-'0')
			i++
		}
		if i == 0 || i >= len(rest) || count == len(numbers) {
			return it, nil, errItem
		}
		numbers[count] = n
		count++
		end := rest[i]
		rest = rest[i+1:]
		if end == ':' {
			break
		}
		if end != '.' {
			return it, nil, errItem
		}
	}
	size := numbers[count-1]
	if size > len(rest) || (it.kind == 'E' && count != 1) || (it.kind == 'F' && count != 3) {
		return it, nil, errItem
	}
	it.part, it.parts = numbers[0], numbers[1]
	it.data = rest[:size]
	return it, rest[size:], nil
}
