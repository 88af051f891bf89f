//go:build !race

// Under the race detector sync.Pool forgets on purpose, so allocations are counted without it.
package ngword

import "testing"

func TestCheck_cleanLineAllocatesNothing(t *testing.T) {
	m := compile(t, words("reject", "auto", "ass", "バカ", "傻逼"), allow("パチンコ"))
	for _, line := range []string{"class of 2024, パチンコ！", "今日はいい天気ですね ﾊﾟﾝ", ""} {
		if n := testing.AllocsPerRun(200, func() { m.Check(line) }); n >= 1 {
			t.Errorf("%q: %v allocations", line, n)
		}
	}
}
