//go:build !race

package main

import (
	"strings"
	"testing"

	"github.com/kmsctl/kms/runtime/envelope"
)

// BenchmarkAppendBatch is what a delivery's share of the encoding costs once per channel: no allocation.
func BenchmarkAppendBatch(b *testing.B) {
	batch := []*envelope.Envelope{{
		Kind: envelope.Say, Channel: "guild-123", Seq: 4711, ID: "01JD3V4N8ZQ0X5T6Y7W8R9S0AB", User: "aki", Name: "あき",
		Text: strings.Repeat("こんにちは hello ", 6), At: 1732150800123,
	}}
	dst := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		dst = testProtocol().AppendBatch(dst[:0], batch)
	}
}

// BenchmarkDecode is a client's message taken apart: what is allocated is the command and its strings.
func BenchmarkDecode(b *testing.B) {
	frame := []byte(`[{"op":"send","ch":"guild-123","id":"01JD3V4N8ZQ0X5T6Y7W8R9S0AB","text":"` + strings.Repeat("こんにちは hello ", 6) + `"}]`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := testProtocol().Decode(frame); err != nil {
			b.Fatal(err)
		}
	}
}

// Not under -race, where a sync.Pool forgets on purpose.
func TestAppendBatch_allocatesNothing(t *testing.T) {
	batch := []*envelope.Envelope{{Kind: envelope.Say, Channel: "lobby", Seq: 1, ID: "01JD3V4N8ZQ0X5T6Y7W8R9S0AB", User: "aki", Text: "hi"}}
	p, dst := testProtocol(), make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() { dst = p.AppendBatch(dst[:0], batch) }); n > 0.5 {
		t.Errorf("%v allocations", n)
	}
}
