package ngword

import (
	"strings"
	"testing"
	"unicode"

	"golang.org/x/text/unicode/norm"
	"golang.org/x/text/width"
)

// between puts something between the letters of a word; marks of its own stay with their letter.
func between(word, what string) string {
	var b strings.Builder
	for i, r := range word {
		if i > 0 && !unicode.Is(unicode.Mn, r) {
			b.WriteString(what)
		}
		b.WriteRune(r)
	}
	return b.String()
}

func hiragana(word string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'ァ' && r <= 'ヴ' {
			return r - 'ァ' + 'ぁ'
		}
		return r
	}, word)
}

func katakana(word string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'ぁ' && r <= 'ゔ' {
			return r - 'ぁ' + 'ァ'
		}
		return r
	}, word)
}

func large(word string) string {
	return strings.NewReplacer("ッ", "ツ", "ャ", "ヤ", "ュ", "ユ", "ョ", "ヨ", "っ", "つ", "ゃ", "や", "ゅ", "ゆ", "ょ", "よ", "ァ", "ア", "ィ", "イ").Replace(word)
}

// after puts something behind the letter i of a word.
func after(word string, i int, what string) string {
	runes := []rune(word)
	return string(runes[:i+1]) + what + string(runes[i+1:])
}

// TestCheck_everyWordInEveryDisguise spells words in all ways that a list must see through, alone and within a line, and expects
// exactly what was put in.
func TestCheck_everyWordInEveryDisguise(t *testing.T) {
	japanese := []string{"バカ", "死ね", "しね", "クソ", "アホ", "キモい", "ブス", "セックス", "ちんこ", "殺す", "ウザイ", "デブ", "変態", "ヴァギナ", "ジュース", "ピザ",
		"アサイー", "ガキ", "うんち", "ぶっ殺す", "きちがい", "レイプ", "しょうもない"}
	english := []string{"damn", "fuck", "idiot", "bastard", "ass", "sex", "bitch", "loser", "whore"}
	separators := []string{" ", "　", "\t", "\n", "・", "★", "/", ".", "-", "_", "*", "~", "^", "|", "💩", "👨‍👩‍👧", "…", "､", "♪", "<", "+", "=", "'", "\u00a0", "\u2003", " . "}
	invisible := []string{"\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u00ad", "\u202e", "\u2066", "\u180e", "\u034f", "\ufe0f", "\u3164", "\u115f", "\u2800", "\u0336", "\u0305", "\u20dd"}
	var ways []func(string) string
	for _, what := range append(separators, invisible...) {
		ways = append(ways, func(w string) string { return between(w, what) })
	}
	for _, what := range invisible {
		ways = append(ways, func(w string) string { return after(w, 0, what) })
	}
	common := append(ways, func(w string) string { return w }, norm.NFD.String, norm.NFKD.String, width.Narrow.String, width.Widen.String)
	kana := append(common, hiragana, katakana, large, func(w string) string { return width.Narrow.String(katakana(w)) },
		func(w string) string { return norm.NFD.String(hiragana(w)) }, func(w string) string { return large(hiragana(w)) },
		func(w string) string { return width.Narrow.String(between(katakana(w), "･")) })
	latin := append(common, strings.ToUpper, strings.ToTitle, func(w string) string { return after(w, 0, strings.Repeat(w[:1], 3)) },
		func(w string) string { return between(strings.ToUpper(w), ".") }, func(w string) string { return width.Widen.String(between(w, " ")) },
		func(w string) string { return after(w, 1, "\u0301\u0302") })
	for _, w := range japanese {
		hold(t, w, kana, "お前", "だよ")
		if r := []rune(w); isKana(classify(r[0])) {
			hold(t, w, []func(string) string{func(w string) string { return after(w, 0, "ー") }, func(w string) string { return after(w, 0, "〜〜") }}, "お前", "だよ")
		}
	}
	for _, w := range english {
		hold(t, w, latin, "oh, ", "! ok")
		hold(t, w, latin, "お前は", "だ")
	}
}

// hold checks the word in each way, alone and between two others. There, spaces and full stops within a short word may be those of
// the line, so that only what is more than that is tried.
func hold(t *testing.T, word string, ways []func(string) string, before, behind string) {
	t.Helper()
	f := compile(t, words("mask", "auto", word))
	for _, way := range ways {
		text := way(word)
		for _, line := range [][2]string{{"", ""}, {before, ""}, {"", behind}, {before, behind}} {
			if line[0] != "" && line[1] != "" && strings.ContainsFunc(text, func(r rune) bool { return gapOf(r) == pause && classify(r) == isSeparator }) {
				continue
			}
			r := f.Check(line[0] + text + line[1])
			if len(r.Hits) != 1 || r.Hits[0].Start != len(line[0]) || r.Hits[0].End != len(line[0])+len(text) {
				t.Errorf("%q as %q: %+v", word, line[0]+text+line[1], r.Hits)
			}
		}
	}
}
