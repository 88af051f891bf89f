package names

import (
	"strings"
	"testing"
)

func TestNames_acceptAndRefuse(t *testing.T) {
	checks := map[string]func(string) error{
		"version": Version, "tenant": Tenant, "any": AnyTenant, "channel": Channel, "display": Display, "ulid": MessageID, "digest": Digest,
	}
	cases := []struct {
		check, value string
		ok           bool
	}{
		{"version", "1.0", true}, {"version", "2.0-dragon", true}, {"version", "2", true}, {"version", "1.2.3.4", false},
		{"version", "", false}, {"version", "1.0\n", false}, {"version", "../1.0", false}, {"version", "12345", false},
		{"tenant", "demo", true}, {"tenant", "_probe", false}, {"tenant", "-a", false}, {"tenant", "Demo", false},
		{"tenant", strings.Repeat("a", 31), true}, {"tenant", strings.Repeat("a", 32), false},
		{"any", "_probe", true}, {"any", "_other", false},
		{"channel", "guild:12.a_b", true}, {"channel", "a b", false}, {"channel", "か", false}, {"channel", strings.Repeat("x", 65), false},
		{"display", "勇者アルス", true}, {"display", "a\x1b[31m", false}, {"display", "a\u202eb", false}, {"display", "\xff", false},
		{"display", strings.Repeat("あ", 64), true}, {"display", strings.Repeat("あ", 65), false}, {"display", "", false},
		{"ulid", "01ARZ3NDEKTSV4RRFFQ69G5FAV", true}, {"ulid", "01arz3ndektsv4rrffq69g5fav", false},
		{"digest", strings.Repeat("0a", 32), true}, {"digest", "0a", false},
	}
	for _, c := range cases {
		if err := checks[c.check](c.value); (err == nil) != c.ok {
			t.Errorf("%s(%q) = %v, want ok=%v", c.check, c.value, err, c.ok)
		}
	}
}

// FuzzNames holds what the rest of the system relies on: an accepted name has no byte that could end a path, a map entry,
// an IRC line or a terminal line.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"1.0", "demo", "a;b", "a\nb", "a b", "{}", "か", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for what, err := range map[string]error{"version": Version(s), "tenant": AnyTenant(s), "channel": Channel(s), "user": User(s)} {
			if err == nil && strings.ContainsAny(s, "\x00\r\n \t/;{}$'\"\\#,\x1b") {
				t.Errorf("%s accepts %q", what, s)
			}
		}
		if Display(s) == nil && strings.ContainsAny(s, "\x00\r\n\t\x1b\x7f") {
			t.Errorf("display accepts %q", s)
		}
	})
}

func TestOlderVersion(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"1.0", "2.0", true}, {"2.0", "1.0", false}, {"2.0", "2.0", false}, {"2.9", "2.10", true}, {"2", "2.0.1", true}, {"2.0", "2", false},
		{"2.0-dragon", "2.0", false}, {"2.0", "2.0-dragon", false}, {"1.9-dragon", "2.0-a", true},
	} {
		if got := OlderVersion(c.a, c.b); got != c.want {
			t.Errorf("OlderVersion(%q, %q) = %v", c.a, c.b, got)
		}
	}
}

func TestIDs_areWhatTheirPatternsSay(t *testing.T) {
	texts := []string{"", strings.Repeat("a", 64), strings.Repeat("a", 65), "a\n", "あ", "01JD3V4N8ZQ0X5T6Y7W8R9S0A\n"}
	for c := range 256 {
		b := string([]byte{byte(c)})
		texts = append(texts, b, "a"+b, b+strings.Repeat("0", 25), strings.Repeat("0", 25)+b, strings.Repeat("0", 26)+b)
	}
	for _, s := range texts {
		if got, want := isID(s), idRE.MatchString(s); got != want {
			t.Errorf("isID(%q) = %v", s, got)
		}
		if got, want := isULID(s), ulidRE.MatchString(s); got != want {
			t.Errorf("isULID(%q) = %v", s, got)
		}
	}
}
