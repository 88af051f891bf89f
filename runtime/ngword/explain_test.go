package ngword

import (
	"slices"
	"testing"

	"github.com/kmsctl/kms/runtime/store"
)

func TestExplain_tellsTheFoldings(t *testing.T) {
	for _, c := range []struct {
		word, line, found string
		foldings          []string
	}{
		{"damn", "oh damn", "damn", nil},
		{"damn", "DAmn", "DAmn", []string{FoldCase}},
		{"damn", "ｄamn", "ｄamn", []string{FoldWidth}},
		{"damn", "d.a m-n", "d.a m-n", []string{FoldSeparators}},
		{"damn", "daaamn", "daaamn", []string{FoldRepeats}},
		{"damn", "dámn", "dámn", []string{FoldMarks}},
		{"damn", "da\u0301mn", "da\u0301mn", []string{FoldMarks}},
		{"damn", "d\u200bamn", "d\u200bamn", []string{FoldInvisible}},
		{"damn", "ⓓamn", "ⓓamn", []string{FoldVariants}},
		{"damn", "dаmn", "dаmn", []string{FoldLookAlikes}},
		{"damn", "d4mn", "d4mn", []string{FoldLookAlikes}},
		{"damn", "d*mn", "d*mn", []string{FoldBlanks}},
		{"damn", "damned", "damn", []string{FoldEnding}},
		{"damn", "damndamn", "damn", []string{FoldJoined}},
		{"バカ", "ばか", "ばか", []string{FoldKana}},
		{"バカ", "ﾊﾞｶ", "ﾊﾞｶ", []string{FoldWidth, FoldMarks}},
		{"バカ", "バーカ", "バーカ", []string{FoldLong}},
		{"バカ", "バぁカ", "バぁカ", []string{FoldLong}},
		{"バカ", "バ カ", "バ カ", []string{FoldSeparators}},
		{"チョロ", "チヨロ", "チヨロ", []string{FoldSmallKana}},
		{"son-of-a-gun", "son of a gun", "son of a gun", []string{FoldSeparators}},
		{"キロ", "㌔", "㌔", []string{FoldVariants}},
		{"うんこ", "う○こ", "う○こ", []string{FoldBlanks}},
	} {
		e := compile(t, words("mask", "auto", c.word)).Explain(c.line)
		if len(e.Hits) == 0 || e.Hits[0].Found != c.found || !slices.Equal(e.Hits[0].Foldings, c.foldings) {
			t.Errorf("%q in %q: %+v, want %q by %q", c.word, c.line, e.Hits, c.found, c.foldings)
		}
	}
}

func TestExplain_namesTheAllowEntry(t *testing.T) {
	own := compileList(t, store.NGList{Name: "default", Entries: words("mask", "auto", "ちんこ")})
	base := compileList(t, store.NGList{Name: "base", Entries: allow("パチンコ")})
	f := NewFilter(base, own)
	e := f.Explain("パチンコちんこ")
	if len(e.Hits) != 1 || e.Hits[0].Found != "ちんこ" || e.Text != "パチンコ***" || e.Action != "mask" {
		t.Errorf("got %+v", e)
	}
	if len(e.Allowed) != 1 || e.Allowed[0].By != (Allow{"base", "パチンコ"}) || e.Allowed[0].Found != "チンコ" || e.Allowed[0].List != "default" {
		t.Errorf("allowed %+v", e.Allowed)
	}
}
