package ngword

import (
	"testing"

	"github.com/kmsctl/kms/runtime/store"
)

func TestFilter_listsJudgeTogether(t *testing.T) {
	tenant := compileList(t, store.NGList{Name: "default", Entries: append(words("mask", "auto", "バカ"), allow("クソゲー")...)})
	base := compileList(t, store.NGList{Tenant: store.NGBase, Name: "insults", Entries: append(words("reject", "auto", "クソ", "ばか"), allow("バカンス")...)})
	f := NewFilter(nil, tenant, base)
	for line, want := range map[string]string{
		"バカンス": "", "クソゲー": "", "クソ": "reject", "バカ": "reject", "今日": "", "クソゲーのクソ": "reject",
	} {
		if got := f.Check(line).Action; got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
	if r := f.Check("バカ"); len(r.Hits) != 2 || r.Hits[0].List == r.Hits[1].List {
		t.Errorf("got %+v", r.Hits)
	}
	if got := NewFilter(tenant).Check("クソ").Action; got != "" {
		t.Errorf("a list that is not asked says %q", got)
	}
	if r := NewFilter().Check("クソ"); r.Action != "" || r.Text != "クソ" {
		t.Errorf("no list says %+v", r)
	}
}

// A base list's allow entries win over a word of the tenant's, unless KMS brings the list along and the word is spelled so.
func TestFilter_shippedEntriesYieldToTheSameWord(t *testing.T) {
	shipped := compileList(t, store.NGList{Tenant: store.NGBase, Name: "kms-allow-x", Entries: allow("ばかり")})
	other := compileList(t, store.NGList{Tenant: store.NGBase, Name: "ordinary", Entries: allow("ばかり")})
	entries := words("reject", "auto", "ばか", "バカリ")
	tenant := compileList(t, store.NGList{Name: "default", Entries: entries})
	if r := NewFilter(tenant, shipped).Check("ばかり"); len(r.Hits) != 1 || r.Hits[0].Word != "バカリ" {
		t.Errorf("shipped: %+v", r.Hits)
	}
	if r := NewFilter(tenant, other).Check("ばかり"); len(r.Hits) != 0 {
		t.Errorf("a list of one's own: %+v", r.Hits)
	}
}

func TestSettings_spacing(t *testing.T) {
	lines := []string{"shit", "s hit", "s.h.i.t", "push it", "cla ss"}
	for _, c := range []struct {
		spacing string
		hits    []bool
	}{
		{"", []bool{true, true, true, false, false}},
		{store.NGSpacingWord, []bool{true, true, true, false, false}},
		{store.NGSpacingAny, []bool{true, true, true, true, true}},
		{store.NGSpacingOff, []bool{true, false, false, false, false}},
		{"of a newer version", []bool{true, true, true, true, true}},
	} {
		m := compileList(t, store.NGList{Settings: store.NGSettings{Spacing: c.spacing}, Entries: words("mask", "auto", "shit", "ass")})
		for i, line := range lines {
			if got := NewFilter(m).Check(line).Action != ""; got != c.hits[i] {
				t.Errorf("%q with spacing %q: %v", line, c.spacing, got)
			}
		}
	}
	off := compileList(t, store.NGList{Settings: store.NGSettings{Spacing: store.NGSpacingOff}, Entries: words("mask", "auto", "バカ")})
	if NewFilter(off).Check("バ カ").Action == "" {
		t.Error("spacing is about scripts with spaces only")
	}
}

func TestSettings_lookAlikes(t *testing.T) {
	for _, line := range []string{"d4mn", "dаmn", "d*mn", "d@mn"} {
		for setting, want := range map[string]bool{"": true, store.NGOn: true, store.NGOff: false, "of a newer version": true} {
			m := compileList(t, store.NGList{Settings: store.NGSettings{LookAlikes: setting}, Entries: words("mask", "auto", "damn")})
			if got := NewFilter(m).Check(line).Action != ""; got != want {
				t.Errorf("%q with look-alikes %q: %v", line, setting, got)
			}
		}
	}
}

// TestFilter_settingsStayWithTheirList: one list counts look-alikes, the other does not.
func TestFilter_settingsStayWithTheirList(t *testing.T) {
	on := compileList(t, store.NGList{Name: "on", Entries: words("mask", "auto", "damn")})
	off := compileList(t, store.NGList{Name: "off", Settings: store.NGSettings{LookAlikes: store.NGOff}, Entries: words("reject", "auto", "damn")})
	if r := NewFilter(on, off).Check("d4mn"); len(r.Hits) != 1 || r.Hits[0].List != "on" {
		t.Errorf("got %+v", r.Hits)
	}
}

func TestCompile_refusesWhatIsBeyondAllBounds(t *testing.T) {
	entries := make([]store.NGEntry, maxEntries+1)
	if _, err := Compile(store.NGList{Name: "huge", Entries: entries}); err == nil {
		t.Error("a list beyond all bounds compiles")
	}
}
