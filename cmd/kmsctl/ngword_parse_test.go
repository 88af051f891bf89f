package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/encoding/japanese"

	"github.com/kmsctl/kms/controlplane/api"
	"github.com/kmsctl/kms/runtime/store"
)

var maskAuto = api.NGWord{Action: "mask"}

// told makes one line of what was read: words with kind, action and mode, then bad lines.
func told(f *ngFile) string {
	var out []string
	for _, w := range f.words {
		out = append(out, fmt.Sprintf("%s/%.1s%.1s%.1s", w.Word, w.Kind, w.Action, w.Mode))
	}
	for _, b := range f.bad {
		out = append(out, fmt.Sprintf("%d:%s", b.line, b.what))
	}
	return strings.Join(out, " | ")
}

func TestImport_formats(t *testing.T) {
	for _, c := range []struct{ name, format, text, want string }{
		{"txt", "txt", "# comment\n ばか \r\n\n\\#tag\n\\\\o\n\\o/\na # b\n", `ばか/wma | #tag/wma | \o/wma | \o//wma | a # b/wma`},
		{"txt bad", "txt", "ok\n" + strings.Repeat("x", 101) + "\na\tb\n\u3000\n", `ok/wma | 2:bad word "` + strings.Repeat("x", 101) + `": want 1 to 100 characters, no control characters, no space at the ends` +
			` | 3:bad word "a\tb": want 1 to 100 characters, no control characters, no space at the ends`},
		{"txt not UTF-8", "txt", "a\n\x82\xce\nb", `a/wma | b/wma | 2:not UTF-8`},
		{"csv", "csv", "\ufeffAction, Word\r\nflag,ばか\r\n,\"a,\"\"b\"\"\"\r\n,,\r\nREJECT,two\r\n", `ばか/wfa | a,"b"/wma | two/wra`},
		{"csv bad", "csv", "word,kind\nx,maybe\na\"b\ny,word,3,4\nz,allow\nx,word\n\"\n", `z/ama | x/wma | 2:word "x": bad kind "maybe": want word or allow` +
			` | 3:bare " in non-quoted-field | 4:4 fields where the header has 2; a word with a comma wants quotes | 7:extraneous or missing " in quoted-field`},
		{"csv formulas", "csv", "word\n'=x\n''=x\n'x\n", `=x/wma | '=x/wma | 'x/wma`},
		{"json words", "json", "[\"a\",\n\"b\"]\n", `a/wma | b/wma`},
		{"json objects", "json", `{"list":"default","settings":{"spacing":"any"},"words":[{"word":"a","kind":"allow"},` + "\n" + `{"word":"b","mode":"word","action":"flag"}],"x":1}`, `a/ama | b/wfw`},
		{"json bad", "json", "[1,\n{\"wrd\":\"x\"},\n\n {\"word\":\"\"}, [\"x\"],\n\"ok\"] 7", `ok/wma | 1:want a word, or an object with ` + "`word`" + ` | 2:json: unknown field "wrd"` +
			` | 4:bad word "": want 1 to 100 characters, no control characters, no space at the ends | 4:want a word, or an object with ` + "`word`" + ` | 5:something follows the JSON value`},
		{"again", "csv", "word,action\na,mask\na,mask\na,flag\n", `a/wma | 4:word "a" again: line 2 says a  (word, mask, auto)`},
	} {
		f, err := parseNG([]byte(c.text), c.format, "utf-8", maskAuto)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := told(f); got != c.want {
			t.Errorf("%s: read\n%s, want\n%s", c.name, got, c.want)
		}
	}
}

func TestImport_filesOfNoUse(t *testing.T) {
	for _, c := range []struct{ name, format, text, want string }{
		{"UTF-16", "txt", "\xff\xfea\x00", "UTF-16"},
		{"csv without header", "csv", "ばか\nアホ\n", `line 1: column "ばか" is unknown`},
		{"csv without word", "csv", "kind,action\nword,mask\n", "no column `word`"},
		{"csv empty", "csv", "", "no column `word`"},
		{"csv column twice", "csv", "word,word\n", "there twice"},
		{"json empty", "json", "", "ends in the middle"},
		{"json cut", "json", "[\"a\",\n\"b\"", "line 2: the file ends in the middle"},
		{"json broken", "json", "[\"a\",\n\n\"b\" \"c\"]", "line 3: "},
		{"json without words", "json", `{"list":"x"}`, "want an array"},
		{"json of another kind", "json", `"word"`, "want an array"},
		{"json words twice", "json", `{"words":[],"words":[]}`, "want an array"},
	} {
		_, err := parseNG([]byte(c.text), c.format, "utf-8", maskAuto)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestImport_japaneseEncodings(t *testing.T) {
	text := "# 一覧\nばか\nｱﾎ\n死ね\n"
	sjis, err := japanese.ShiftJIS.NewEncoder().String(text)
	if err != nil {
		t.Fatal(err)
	}
	euc, err := japanese.EUCJP.NewEncoder().String(text)
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string]string{"utf-8": text, "sjis": sjis, "euc-jp": euc} {
		f, err := parseNG([]byte(raw), "txt", name, maskAuto)
		if err != nil || told(f) != "ばか/wma | ｱﾎ/wma | 死ね/wma" {
			t.Errorf("%s: %s, %v", name, told(f), err)
		}
		if name == "utf-8" {
			continue
		}
		if f, err := parseNG([]byte(raw), "txt", "utf-8", maskAuto); err != nil || len(f.bad) != 4 {
			t.Errorf("%s taken for UTF-8: %s, %v", name, told(f), err)
		}
	}
	if f, _ := parseNG([]byte(sjis), "txt", "euc-jp", maskAuto); len(f.bad) == 0 {
		t.Errorf("Shift_JIS taken for EUC-JP: %s", told(f))
	}
}

// hostileEntries are hard to write in one format or another.
func hostileEntries() (entries []api.NGWord) {
	for i, word := range []string{"=1+1", "'=x", "''", "'", "+a", "-a", "@a", "＝a", "'＋a", `"`, `a"b`, "a,b", "a;=b", "#a", `\#a`, `\\a`, `\a`, "word", "x\u202ey", "\u200b", "\ufeff", "<&>", "a\u2028b", "ばか", "💩", "e\u0301", "�"} {
		e := store.NGEntry{Word: word, Action: []string{"mask", "reject"}[i%2], Kind: []string{"word", "allow", "word"}[i%3]}.WithDefaults()
		entries = append(entries, api.NGWord{Word: e.Word, Kind: e.Kind, Action: e.Action, Mode: e.Mode})
	}
	return entries
}

// exported writes entries as the command does.
func exported(t *testing.T, entries []api.NGWord, format string) []byte {
	t.Helper()
	var out bytes.Buffer
	c := newCLI(nil, &out, &out)
	c.quiet = true
	l := &api.NGList{NGListInfo: api.NGListInfo{Settings: api.NGSettings{}.WithDefaults()}, Words: append([]api.NGWord{}, entries...)}
	if err := c.export(l, format, ""); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func checkRoundTrip(t *testing.T, entries []api.NGWord) {
	t.Helper()
	for _, format := range ngFormats {
		want := entries
		defaults := api.NGWord{}
		if format == ngTXT { // words alone
			want = nil
			for _, w := range entries {
				if w.Kind == store.NGWord {
					want = append(want, api.NGWord{Word: w.Word, Kind: store.NGWord, Action: "flag", Mode: "word"})
				}
			}
			defaults = api.NGWord{Action: "flag", Mode: "word"}
		}
		text := exported(t, entries, format)
		f, err := parseNG(text, format, "utf-8", defaults)
		if err != nil {
			t.Fatalf("%s: %v in %q", format, err, text)
		}
		if len(f.bad) > 0 || !slices.Equal(f.words, want) {
			t.Errorf("%s: %v comes back as %v, %v", format, want, f.words, f.bad)
		}
		if format == ngJSON && f.settings == nil {
			t.Error("the settings are lost")
		}
	}
}

func TestExport_comesBackAsItWas(t *testing.T) { checkRoundTrip(t, hostileEntries()) }

// TestExport_csvHoldsNoFormula looks at the cells as a spreadsheet does.
func TestExport_csvHoldsNoFormula(t *testing.T) {
	for line := range strings.Lines(string(exported(t, hostileEntries(), ngCSV))) {
		line = strings.TrimPrefix(line, "\ufeff")
		if strings.HasPrefix(line, "word,") {
			continue
		}
		cell, quoted := strings.CutPrefix(line, `"`)
		if !quoted || isFormula(cell) {
			t.Errorf("a formula, or a cell without quotes: %q", line)
		}
	}
}

// FuzzImport: no file makes the reader panic, complaints name a line of the file, and what was read can be written and read
// again.
func FuzzImport(f *testing.F) {
	for i := range ngFormats {
		words, err := json.Marshal(hostileEntries())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(words, uint8(i), uint8(0))
		f.Add([]byte("word,kind\n\"a\nb\",x\n'=1\n#c\n\\#d\n[\"e\",\n{\"word\":\"f\"}]"), uint8(i), uint8(1))
		f.Add([]byte("\x82\xce\x82\xa9\n\xff\xfe\n"), uint8(i), uint8(2))
	}
	encodings := []string{"utf-8", "sjis", "euc-jp"}
	f.Fuzz(func(t *testing.T, raw []byte, format, encoding uint8) {
		got, err := parseNG(raw, ngFormats[int(format)%3], encodings[int(encoding)%3], maskAuto)
		if err != nil {
			return
		}
		lines := bytes.Count(raw, []byte("\n")) + 1
		for _, b := range got.bad {
			if b.line < 1 || b.line > lines || b.what == "" {
				t.Errorf("complaint %+v about a file of %d lines", b, lines)
			}
		}
		seen := map[string]bool{}
		for _, w := range got.words {
			if e := (store.NGEntry{Word: w.Word, Kind: w.Kind, Action: w.Action, Mode: w.Mode}); e.Check() != nil || seen[w.Word] {
				t.Errorf("bad or repeated entry %+v", w)
			}
			seen[w.Word] = true
		}
		checkRoundTrip(t, got.words)
	})
}
