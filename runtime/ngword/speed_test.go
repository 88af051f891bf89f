package ngword

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsctl/kms/runtime/store"
)

// hostile are what the worst lines are made of.
var hostile = []string{"a", "ab", "a ", " ", ".-", "\u0301", "バ", "ー", "バカ", "\u3099", "aab", "4b", "@$", "a*", "バ○", "バx", "1", "ba1", "!a", "ばぁ", "а", "a\u200b",
	"s h i ", "!", "$", "#", "0", "-", "f-", "○", "xか", "ηa", "a1!", "*", "バ、", "🌱"}

// TestCheck_worstLinesAreLinear holds that hostile lines take no more time per byte when they are long, whatever the list.
func TestCheck_worstLinesAreLinear(t *testing.T) {
	entries := append(words("mask", "auto", "aaab", "aaaa", "ab", "バカ", "カバカ", "a", "バカ🌱", "ass", "shit"), words("mask", "substring", "ba")...)
	for i := range 6 {
		entries = append(entries, words("mask", "auto", strings.Repeat("ab", i+2), strings.Repeat("バカ", i+2))...)
	}
	f := compile(t, entries, allow("abab", "カカ"))
	for _, part := range hostile {
		short, long := perByte(f, strings.Repeat(part, 2048/len(part))), perByte(f, strings.Repeat(part, 32768/len(part)))
		if long > 6*short+100*time.Nanosecond {
			t.Errorf("%q: %v a byte in a long line, %v in a short one", part, long, short)
		}
	}
}

// perByte is the least time of some runs, by this thread's own clock: others may want the machine.
func perByte(f *Filter, line string) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	best := time.Hour
	for range 4 {
		start := threadTime()
		f.Check(line)
		best = min(best, threadTime()-start)
	}
	return best / time.Duration(len(line))
}

// threadTime is the CPU time that this thread has taken.
func threadTime() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now)
	return time.Duration(now.Nano())
}

func TestCompile_memoryOfManyWords(t *testing.T) {
	entries := randomWords(100_000)
	compile(t, entries[:1]) // the tables of letters are there once
	before := heap()
	m := compileList(t, store.NGList{Entries: entries})
	if used := heap() - before; used > 16<<20 {
		t.Errorf("100,000 words take %d bytes", used)
	}
	runtime.KeepAlive(m)
	runtime.KeepAlive(entries)
}

func heap() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// BenchmarkCheck is a list of random words against a line of about 100 characters without hits.
func BenchmarkCheck(b *testing.B) {
	for _, n := range []int{1000, 100000} {
		entries := randomWords(n)
		compile(b, entries) // the tables of letters are built once
		before := heap()
		start := time.Now()
		m := compile(b, entries)
		took := time.Since(start)
		used := heap() - before
		lines := map[string]string{
			"ja": strings.Repeat("今日はいい天気なのでみんなで狩りに行きませんか、", 4) + "よろしく",
			"en": "tonight we meet at the northern gate, bring potions and your best armour, the dragon will not wait for us",
		}
		for lang, line := range lines {
			b.Run(fmt.Sprintf("%s-%d", lang, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					m.Check(line)
				}
				b.ReportMetric(float64(used)/(1<<20), "list-MiB")
				b.ReportMetric(float64(took.Milliseconds()), "compile-ms")
			})
		}
		runtime.KeepAlive(m)
		runtime.KeepAlive(entries)
	}
}

func randomWords(n int) []store.NGEntry {
	r := rand.New(rand.NewPCG(1, 2))
	alphabets := [][]rune{[]rune("abcdefghijklmnopqrstuvwxyz"), []rune("アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモ"), []rune("人口手足水火山川田力男女子日月木本大小中上下左右")}
	list := make([]string, n)
	for i := range list {
		a := alphabets[i%len(alphabets)]
		w := make([]rune, 4+r.IntN(6))
		for j := range w {
			w[j] = a[r.IntN(len(a))]
		}
		list[i] = string(w)
	}
	return words("reject", "auto", list...)
}
