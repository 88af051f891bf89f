package uatest

import (
	"encoding/binary"
	"os"
	"strings"
	"testing"
)

// PageFrames returns what the `frames` blocks of a protocol page show: the frames that a client sends and those of the server.
func PageFrames(t testing.TB, path string) (client, server []string) {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	inside := false
	for _, line := range strings.Split(string(data), "\n") {
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```frames"
		case inside && strings.HasPrefix(line, "> "):
			client = append(client, line[2:])
		case inside && strings.HasPrefix(line, "< "):
			server = append(server, line[2:])
		}
	}
	return client, server
}

// Payloads takes ready server frames apart; each must be a whole unmasked text frame.
func Payloads(t testing.TB, frames []byte) (payloads []string) {
	t.Helper()
	for len(frames) > 0 {
		if len(frames) < 2 || frames[0] != 0x81 {
			t.Fatalf("not a text frame: % x", frames[:min(len(frames), 16)])
		}
		n, head := int(frames[1]), 2
		switch n {
		case 126:
			n, head = int(binary.BigEndian.Uint16(frames[2:])), 4
		case 127:
			n, head = int(binary.BigEndian.Uint64(frames[2:])), 10
		}
		payloads = append(payloads, string(frames[head:head+n]))
		frames = frames[head+n:]
	}
	return payloads
}
