package main

import (
	"fmt"
	"strings"

	bobu "github.com/BobuSumisu/aho-corasick"
	goaway "github.com/TwiN/go-away"
	anknown "github.com/anknown/ahocorasick"
	cloudflare "github.com/cloudflare/ahocorasick"
	petar "github.com/petar-dambovaliev/aho-corasick"
)

// peer is another library. What build makes tells whether a line holds a word. Only go-away normalises and knows allow entries; the
// rest get lines and words in lower case.
type peer struct {
	name  string
	words int // most that it is given: what needs gigabytes for 100,000 words gets fewer
	build func(words, allow []string) func(line string) bool
}

var peers = []peer{
	{"go-away", 1_000, func(words, allow []string) func(string) bool {
		return goaway.NewProfanityDetector().WithCustomDictionary(lower(words), lower(allow), nil).IsProfane
	}},
	{"BobuSumisu/aho-corasick", 10_000, func(words, _ []string) func(string) bool {
		trie := bobu.NewTrieBuilder().AddStrings(lower(words)).Build()
		return func(line string) bool { return trie.MatchFirstString(strings.ToLower(line)) != nil }
	}},
	{"petar-dambovaliev/aho-corasick", 100_000, func(words, _ []string) func(string) bool {
		builder := petar.NewAhoCorasickBuilder(petar.Opts{MatchKind: petar.StandardMatch})
		automaton := builder.Build(lower(words))
		return func(line string) bool { iter := automaton.Iter(strings.ToLower(line)); return iter.Next() != nil }
	}},
	{"cloudflare/ahocorasick", 10_000, func(words, _ []string) func(string) bool {
		matcher := cloudflare.NewStringMatcher(lower(words))
		return func(line string) bool { return matcher.Contains([]byte(strings.ToLower(line))) }
	}},
	{"anknown/ahocorasick", 100_000, func(words, _ []string) func(string) bool {
		machine := new(anknown.Machine)
		var dictionary [][]rune
		for _, w := range lower(words) {
			dictionary = append(dictionary, []rune(w))
		}
		if err := machine.Build(dictionary); err != nil {
			return func(string) bool { return false }
		}
		return func(line string) bool {
			return len(machine.MultiPatternSearch([]rune(strings.ToLower(line)), true)) > 0
		}
	}},
}

func lower(words []string) []string {
	out := make([]string, 0, len(words))
	for _, w := range words {
		out = append(out, strings.ToLower(w))
	}
	return out
}

// label is the peer's name, with the number of words when it does not get all.
func (p peer) label() string {
	if p.words < many {
		return fmt.Sprintf("%s (%d words)", p.name, p.words)
	}
	return p.name
}
