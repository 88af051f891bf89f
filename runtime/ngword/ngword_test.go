package ngword

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/kmsctl/kms/runtime/store"
)

func words(action, mode string, list ...string) (entries []store.NGEntry) {
	for _, w := range list {
		entries = append(entries, store.NGEntry{Word: w, Kind: store.NGWord, Action: action, Mode: mode})
	}
	return entries
}

func allow(list ...string) (entries []store.NGEntry) {
	for _, w := range list {
		entries = append(entries, store.NGEntry{Word: w, Kind: store.NGAllow})
	}
	return entries
}

// compile is a filter of one list.
func compile(t testing.TB, entries ...[]store.NGEntry) *Filter {
	t.Helper()
	return NewFilter(compileList(t, store.NGList{Name: "default", Entries: slices.Concat(entries...)}))
}

func compileList(t testing.TB, list store.NGList) *Matcher {
	t.Helper()
	m, err := Compile(list)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestCheck_masksExactlyTheWord tells with each line what folding, separators, repeats and boundaries do: it comes back
// with the offending text masked, or as it was.
func TestCheck_masksExactlyTheWord(t *testing.T) {
	cases := []struct{ word, line, want string }{
		// width, case, accents, compatibility
		{"damn", "well DAMN it", "well **** it"},
		{"damn", "ｄａｍｎ", "****"},
		{"damn", "ⓓⓐⓜⓝ 𝒹𝒶𝓂𝓃", "**** ****"},
		{"damn", "dàmñ", "****"},
		{"damn", "d\u0336a\u0336m\u0336n\u0336!", "********!"},
		{"damn", "d\u200bamn", "*****"},
		{"straße", "STRASSE", "*******"},
		{"Łajdak", "lajdak", "******"},
		{"дурак", "ДУРАК!", "*****!"},
		// kana: one alphabet, small as large, voicing kept
		{"クソ", "くそゲー", "**ゲー"},
		{"クソ", "ｸｿ", "**"},
		{"クソ", "グソ", "グソ"},
		{"バカ", "ばか ハカ パカ", "** ハカ パカ"},
		{"バカ", "ﾊﾞｶ", "***"},
		{"バカ", "ハ\u3099カ", "***"},
		{"カバ", "カハ\u3099", "***"},
		{"ばか", "バカ", "**"},
		{"セックス", "セツクス", "****"},
		{"㌔", "キロ", "**"},
		{"キロ", "一㌔だ", "一*だ"},
		// long vowels may be put in, not left out
		{"バカ", "バーーカ", "****"},
		{"バカ", "バ〜カ", "***"},
		{"ビール", "ビル", "ビル"},
		{"ビール", "ビーール", "****"},
		{"アサイー", "あさいーね", "****ね"},
		// separators and repeats
		{"damn", "d.a_m-n", "*******"},
		{"damn", "d a m n", "*******"},
		{"damn", "daaammn", "*******"},
		{"バカ", "バ★カ", "***"},
		{"バカ", "バ\nカ", "***"},
		{"boob", "bob", "bob"},
		{"nigger", "Niger", "Niger"},
		{"shit", "this shit", "this ****"},
		{"バカ", "バカカ", "**カ"},
		// boundaries of scripts with spaces
		{"ass", "class assassin glass", "class assassin glass"},
		{"ass", "an ass!", "an ***!"},
		{"ass", "asses", "***es"},
		{"shit", "shitty", "****ty"},
		{"shit", "push it", "push it"},
		{"anus", "an used car", "an used car"},
		{"hit", "hithit", "******"},
		{"ass", "お前はassだ", "お前は***だ"},
		{"傻逼", "你傻逼吧", "你**吧"},
		{"090", "番号は０９０。", "番号は***。"},
		// phrases and symbols
		{"son-of-a-bitch", "son of a bitch", "**************"},
		{"🌱", "草🌱🌱", "草**"},
		{"ー", "ーー", "**"},
		{"x", "x xx y", "* ** y"},
		// scripts whose marks are letters
		{"กา", "กี", "กี"},
		{"นะ", "นะ", "**"},
		{"한국", "한국말", "**말"},
		{"damn", "", ""},
		{"damn", "d\xffamn\xff", "*****\xff"},
	}
	for _, c := range cases {
		if got := compile(t, words("mask", "auto", c.word)).Check(c.line).Text; got != c.want {
			t.Errorf("%q in %q: %q, want %q", c.word, c.line, got, c.want)
		}
	}
}

func TestCheck_modes(t *testing.T) {
	cases := []struct {
		mode, word, line string
		hit              bool
	}{
		{"substring", "ass", "glass", true}, {"substring", "sex", "danisexy", true}, {"auto", "sex", "danisexy", false},
		{"word", "shit", "shitty", false}, {"word", "shit", "a shit.", true}, {"word", "shit", "shitshit", false},
		{"word", "マスカット", "マスカットが", false}, {"word", "マスカット", "マスカット が", true}, {"auto", "マスカット", "マスカットが", true},
		{"of a newer version", "ass", "glass", true},
	}
	for _, c := range cases {
		if got := len(compile(t, words("reject", c.mode, c.word)).Check(c.line).Hits) > 0; got != c.hit {
			t.Errorf("%s %q in %q: %v", c.mode, c.word, c.line, got)
		}
	}
}

func TestCheck_allowEntriesWinButOpenNoHole(t *testing.T) {
	cases := []struct {
		words, allow []string
		line, want   string
	}{
		{[]string{"ちんこ"}, []string{"パチンコ"}, "パチンコちんこ", "パチンコ***"},
		{[]string{"ばか"}, []string{"ばかり", "そばかす"}, "ばかり、そばかす、ばか", "ばかり、そばかす、**"},
		{[]string{"penis"}, []string{"pen is"}, "the pen is mightier than the penis", "the pen is mightier than the *****"},
		{[]string{"bitch"}, []string{"bit", "itch"}, "a bitch", "a *****"},
		{[]string{"🌱"}, []string{"🌱🌱🌱"}, "🌱🌱🌱🌱", "🌱🌱🌱*"},
		{[]string{"bb"}, []string{"ab"}, "a bbbb ab", "a **** ab"},
		{[]string{"共产"}, []string{"共产党"}, "共产党，共产", "共产党，**"},
		{[]string{"バカ"}, []string{"バカ貝"}, "バ カ貝", "***貝"},
		{[]string{"カ"}, []string{"バカ"}, "バカカカ", "バカ**"},
	}
	for _, c := range cases {
		m := compile(t, words("mask", "auto", c.words...), allow(c.allow...))
		if got := m.Check(c.line).Text; got != c.want {
			t.Errorf("%q but %q in %q: %q, want %q", c.words, c.allow, c.line, got, c.want)
		}
	}
}

func TestCheck_strongestActionWins(t *testing.T) {
	m := compile(t, words("flag", "auto", "aaa"), words("mask", "auto", "bbb"), words("shadow", "auto", "ccc"),
		words("reject", "auto", "ddd"), words("of a newer version", "auto", "eee"))
	for line, want := range map[string]string{"xyz": "", "aaa": "flag", "aaa bbb": "mask", "ccc bbb": "shadow", "aaa ddd ccc": "reject", "eee": "reject"} {
		if got := m.Check(line).Action; got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
	r := m.Check("あ bbb aaa")
	if len(r.Hits) != 2 || r.Hits[0] != (Hit{"default", "bbb", "mask", 4, 7}) || r.Hits[1] != (Hit{"default", "aaa", "flag", 8, 11}) || r.Text != "あ *** aaa" {
		t.Errorf("got %+v", r)
	}
}

func TestCheck_sameWordTwiceInTheListKeepsTheStrongest(t *testing.T) {
	m := compile(t, words("flag", "auto", "バカ"), words("reject", "auto", "ばか"), words("mask", "auto", "馬鹿", "馬"))
	if r := m.Check("バカ"); r.Action != "reject" {
		t.Errorf("got %+v", r)
	}
	if r := m.Check("馬鹿"); r.Text != "**" || len(r.Hits) != 1 || r.Hits[0].Word != "馬鹿" {
		t.Errorf("got %+v", r)
	}
}

func TestCompile_leavesOutWhatCannotBeSeen(t *testing.T) {
	list := compileList(t, store.NGList{Entries: words("reject", "auto", "\u200b", "damn")})
	m := NewFilter(list)
	if got := list.Skipped(); len(got) != 1 || got[0] != "\u200b" {
		t.Errorf("skipped %q", got)
	}
	if m.Check("damn").Action != "reject" || m.Check("a\u200bb").Action != "" {
		t.Error("the rest of the list does not work")
	}
	if _, err := Compile(store.NGList{Entries: words("reject", "auto", strings.Repeat("a", maxWord+1))}); err == nil {
		t.Error("a word beyond all bounds compiles")
	}
}

func TestCheck_masksMoreThanItReports(t *testing.T) {
	r := compile(t, words("mask", "auto", "バカ")).Check(strings.Repeat("バカ、", 100))
	if len(r.Hits) != maxHits || r.Text != strings.Repeat("**、", 100) {
		t.Errorf("%d hits, %q", len(r.Hits), r.Text)
	}
}

func TestCheck_lineBeyondAllBoundsIsRejected(t *testing.T) {
	if r := compile(t, words("mask", "auto", "damn")).Check(strings.Repeat("a", maxLine+1)); r.Action != "reject" {
		t.Errorf("got %q", r.Action)
	}
}

// FuzzCheck holds that hits stand on code points, in order, and that masking changes nothing else.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{"damn バカ", "d\u0336amn", "ﾊﾞｶー", "\xff\xfe", "🌱🌱", "ｓｈｉｔt y", "a\u3099", "バ ー カ"} {
		f.Add("damn\nバカ\n🌱\nab\na\nビール", "abab\nそばかす", s)
	}
	f.Add("B\n\xb1", "", "\xef")
	f.Add("バ🌱カ\nass\nshit", "class", "バぁ○カ 5h1t a$$ f*ck 🅱")
	f.Fuzz(func(t *testing.T, list, exceptions, line string) {
		m, err := Compile(store.NGList{Entries: append(words("mask", "auto", strings.Split(list, "\n")...), allow(strings.Split(exceptions, "\n")...)...)})
		if err != nil {
			return
		}
		r := NewFilter(m).Check(line)
		runes, masked := []rune(line), []rune(r.Text)
		if utf8.ValidString(line) && len(runes) != len(masked) {
			t.Fatalf("%q became %q", line, r.Text)
		}
		if len(r.Hits) == maxHits {
			return
		}
		inHit := make([]bool, len(line)+1)
		last := 0
		for _, h := range r.Hits {
			if h.Start < last || h.End <= h.Start || h.End > len(line) || !boundary(line, h.Start) || !boundary(line, h.End) {
				t.Fatalf("hit %+v in %q", h, line)
			}
			last = h.Start
			for i := h.Start; i < h.End; i++ {
				inHit[i] = true
			}
		}
		want := ""
		for i, r := range line {
			switch {
			case inHit[i]:
				want += "*"
			case r == utf8.RuneError:
				_, n := utf8.DecodeRuneInString(line[i:])
				want += line[i : i+n]
			default:
				want += string(r)
			}
		}
		if r.Text != want || (r.Action == "") != (len(r.Hits) == 0) {
			t.Fatalf("%q became %q, want %q; %+v", line, r.Text, want, r)
		}
	})
}

func boundary(s string, i int) bool {
	return i == len(s) || utf8.RuneStart(s[i]) || !utf8.ValidString(s)
}

// FuzzFound holds that a word is found in a line that spells it out, whatever stands around it.
func FuzzFound(f *testing.F) {
	f.Add("バカ", "今日は", "だね")
	f.Add("ass", "cl", "ify")
	f.Add("ß", "s", "s")
	f.Fuzz(func(t *testing.T, word, before, after string) {
		m, err := Compile(store.NGList{Entries: words("reject", "substring", word)})
		if err != nil || len(m.Skipped()) > 0 || !utf8.ValidString(word) {
			return
		}
		if r := NewFilter(m).Check(before + " " + word + " " + after); r.Action != "reject" {
			t.Fatalf("%q is not found after %q", word, before)
		}
	})
}

// FuzzFolded holds that a line with its kana exchanged, its ASCII letters in capitals and zero-width characters between them
// has the same words in it as the plain one.
func FuzzFolded(f *testing.F) {
	for _, line := range []string{"damn バカ", "うんこ d.a.m.n", "push it", "d4mn バーカ", "a\u3099 ばﾞか", "ss ß"} {
		f.Add("damn\nバカ\nうんこ\nss\n🌱", line)
	}
	f.Fuzz(func(t *testing.T, list, line string) {
		m, err := Compile(store.NGList{Settings: store.NGSettings{LookAlikes: store.NGOff}, Entries: words("mask", "auto", strings.Split(list, "\n")...)})
		if err != nil || !utf8.ValidString(line) {
			return
		}
		plain, folded := NewFilter(m).Check(line), NewFilter(m).Check(exchange(line))
		if len(plain.Hits) != len(folded.Hits) {
			t.Fatalf("%q: %+v, and %+v when folded", line, plain.Hits, folded.Hits)
		}
		for i, h := range plain.Hits {
			if folded.Hits[i].Word != h.Word {
				t.Fatalf("%q: %+v, and %+v when folded", line, plain.Hits, folded.Hits)
			}
		}
	})
}

func exchange(line string) string {
	var b strings.Builder
	for _, r := range line {
		switch {
		case r >= 'a' && r <= 'z':
			r -= 'a' - 'A'
		case r >= 'ァ' && r <= 'ヴ':
			r -= 'ァ' - 'ぁ'
		case r >= 'ぁ' && r <= 'ゔ':
			r += 'ァ' - 'ぁ'
		}
		b.WriteRune(r)
		b.WriteRune('\u200b')
	}
	return b.String()
}
