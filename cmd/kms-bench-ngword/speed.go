package main

import (
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/kmsctl/kms/cmd/internal/figure"
	"github.com/kmsctl/kms/runtime/ngword"
	"github.com/kmsctl/kms/runtime/store"
)

const many = 100_000 // words of the long list

// lines are of 100 characters, without a word in them.
var lines = []struct{ name, text string }{
	{"japanese", "今日は週末なので、みんなで北の塔へ狩りに行きませんか？装備は軽めで大丈夫です。集合は噴水の前、九時ごろを予定しています。回復できる人がもう一人いると助かります！初めての方も歓迎、気軽にどうぞ。待ってます"},
	{"mixed", "今夜のraidは9時からです、tankとhealerを1人ずつ募集。VCはDiscordで、lv50以上ならOK！初見も歓迎します。see you at the northern gate、遅れる人は連絡してね。よろ！"},
}

// speed measures what a line costs by 100,000 words.
func (b *bench) speed() error {
	words := randomWords(many)
	f, err := filterOf(words)
	if err != nil {
		return err
	}
	for _, line := range lines {
		check := func(text string) bool { return f.Check(text).Action != "" }
		err := b.figures.Tell(figure.Figure{Name: "ngword_line_" + line.name + "_100k", Value: b.micros(line.text, check), Unit: "us", Peers: b.peerSpeeds(line.text, words)}.AtMost(5))
		if err != nil {
			return err
		}
		allocations := testing.AllocsPerRun(200, func() { f.Check(line.text) })
		if err := b.figures.Tell(figure.Figure{Name: "ngword_allocations_" + line.name, Value: allocations, Unit: "allocations"}.AtMost(0)); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) peerSpeeds(line string, words []string) map[string]float64 {
	if !b.peers {
		return nil
	}
	speeds := map[string]float64{}
	for _, p := range peers {
		speeds[p.label()] = b.micros(line, p.build(words[:min(p.words, len(words))], nil))
		runtime.GC()
	}
	return speeds
}

// micros is the least time of one check in many batches of about 50 us and more, in microseconds: others want the processor too.
func (b *bench) micros(line string, check func(string) bool) float64 {
	start := time.Now()
	check(line)
	batch := max(1, int(50*time.Microsecond/max(time.Since(start), 100)))
	best := time.Hour
	for began := time.Now(); time.Since(began) < b.length; {
		start := time.Now()
		for range batch {
			check(line)
		}
		best = min(best, time.Since(start))
	}
	return float64(best.Nanoseconds()) / float64(batch) / 1000
}

// lists measures what a list costs.
func (b *bench) lists() error {
	words := randomWords(many)
	if _, err := filterOf(words[:1]); err != nil { // what all lists share is there once
		return err
	}
	before := heap()
	f, err := filterOf(words)
	if err != nil {
		return err
	}
	used := float64(heap()-before) / (1 << 20)
	runtime.KeepAlive(f)
	if err := b.figures.Tell(figure.Figure{Name: "ngword_memory_100k", Value: used, Unit: "MiB", Peers: b.peerMemory(words)}.AtMost(16)); err != nil {
		return err
	}
	best := time.Hour
	for range 5 {
		start := time.Now()
		if _, err := filterOf(words[:10_000]); err != nil {
			return err
		}
		best = min(best, time.Since(start))
	}
	return b.figures.Tell(figure.Figure{Name: "ngword_compile_10k", Value: best.Seconds() * 1000, Unit: "ms", Peers: b.peerBuilds(words)}.AtMost(200))
}

func (b *bench) peerMemory(words []string) map[string]float64 {
	used := map[string]float64{}
	for _, p := range peers {
		if !b.peers || p.words < 10_000 {
			continue
		}
		before := heap()
		check := p.build(words[:p.words], nil)
		used[p.label()] = float64(heap()-before) / (1 << 20)
		runtime.KeepAlive(check)
	}
	return used
}

func (b *bench) peerBuilds(words []string) map[string]float64 {
	took := map[string]float64{}
	for _, p := range peers {
		if !b.peers || p.words < 10_000 {
			continue
		}
		start := time.Now()
		p.build(words[:10_000], nil)
		took[p.name] = time.Since(start).Seconds() * 1000
	}
	return took
}

func heap() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// hostileParts are what lines that cost more than others are made of.
var hostileParts = []string{"a", "バ", " ", ".", "-", "\u0301", "\u3099", "ー", "ab", "a ", "4b", "@$", "a*", "バ○", "バx", "1", "!a", "ばぁ", "а", "a\u200b", "a1!", "バ、", "🌱", "s h i t ", "shit", "バカ", "shit ", "5h1t", "バ力"}

// hostile compares lines of 4 KiB with ordinary ones, per byte.
func (b *bench) hostile() error {
	f, err := filterOf(append(randomWords(many), "ab", "shit", "バカ", "ass", "バー", "🌱🌱"))
	if err != nil {
		return err
	}
	check := func(text string) bool { return f.Check(text).Action != "" }
	perByte := func(text string) float64 { return b.micros(text, check) / float64(len(text)) }
	usual := 0.0
	for _, line := range lines {
		usual += perByte(line.text) / float64(len(lines))
	}
	worst, parts := 0.0, map[string]any{}
	for _, part := range hostileParts {
		times := perByte(strings.Repeat(part, 4096/len(part))) / usual
		worst, parts[part] = max(worst, times), figure.Round(times)
	}
	return b.figures.Tell(figure.Figure{Name: "ngword_hostile_line", Value: worst, Unit: "times an ordinary byte", Details: parts}.AtMost(10))
}

func filterOf(words []string) (*ngword.Filter, error) {
	list := store.NGList{Name: "bench"}
	for _, w := range words {
		list.Entries = append(list.Entries, store.NGEntry{Word: w, Kind: store.NGWord, Action: store.NGMask, Mode: store.NGModeAuto})
	}
	m, err := ngword.Compile(list)
	return ngword.NewFilter(m), err
}

// alphabets are what random words are made of, with the fewest letters of one.
var alphabets = []struct {
	letters string
	least   int
}{
	{"abcdefghijklmnopqrstuvwxyz", 4},
	{"アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワンガギグゲゴザジズゼゾダデドバビブベボパピプペポ", 4},
	{"人口手足水火山川田力男女子日月木本大小中下左右犬猫馬鹿死殺血肉骨毒薬悪魔地獄天使神仏金銀銅鉄石土空海森林草花鳥虫魚", 3},
}

func randomWords(n int) []string {
	r := rand.New(rand.NewPCG(1, 2))
	words := make([]string, n)
	for i := range words {
		a := alphabets[i%len(alphabets)]
		letters := []rune(a.letters)
		w := make([]rune, a.least+r.IntN(6))
		for j := range w {
			w[j] = letters[r.IntN(len(letters))]
		}
		words[i] = string(w)
	}
	return words
}
