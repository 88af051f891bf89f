package supervise

import (
	"os"
	"strings"
	"testing"
	"unicode"
)

func TestTailLog_lastLinesSafeToPrint(t *testing.T) {
	path := t.TempDir() + "/log"
	tests := []struct {
		name, log string
		n         int
		want      string
	}{
		{"empty", "", 3, ""},
		{"only newlines", "\n\n", 3, ""},
		{"fewer than asked", "a\nb\n", 3, "a|b"},
		{"more than asked", "a\nb\nc\nd\n", 2, "c|d"},
		{"no newline at the end", "a\nb", 1, "b"},
		{"windows", "a\r\nb\r\n", 2, "a|b"},
		{"none wanted", "a\n", 0, ""},
		{"escapes", "\x1b[31mred\x07\x00\n", 1, `\x1b[31mred\a\x00`},
		{"not UTF-8", "caf\xe9\n", 1, `caf\xe9`},
		{"reordered", "a\u202eb\u2028c\n", 1, `a\u202eb\u2028c`},
		{"Japanese", "起動できません\n", 1, "起動できません"},
		{"tabs", "a\tb\n", 1, "a b"},
		{"long", strings.Repeat("あ", 1000) + "\n", 1, strings.Repeat("あ", 133) + "…"},
		{"far more than is read", strings.Repeat("0123456789\n", 10_000) + "end\n", 2, "0123456789|end"},
	}
	for _, tt := range tests {
		if err := os.WriteFile(path, []byte(tt.log), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := TailLog(path, tt.n)
		if err != nil || strings.Join(got, "|") != tt.want {
			t.Errorf("%s: got %q %v, want %q", tt.name, got, err, tt.want)
		}
	}
	if got, err := TailLog(path+"none", 1); got != nil || err != nil {
		t.Errorf("no log: got %q %v", got, err)
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("a\x1b]0;title\x07\xff\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range Printable(s) {
			if !unicode.IsPrint(r) {
				t.Errorf("%q comes out with %q", s, r)
			}
		}
	})
}
