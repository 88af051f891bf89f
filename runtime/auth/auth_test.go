package auth

import (
	"regexp"
	"testing"
)

func TestNewSecret_isPrefixedLongAndNeverTheSame(t *testing.T) {
	shape := regexp.MustCompile(`^kms_[A-Za-z0-9_-]{43}$`)
	seen := map[string]bool{}
	for range 100 {
		s := NewSecret("kms_")
		if !shape.MatchString(s) {
			t.Fatalf("secret %q does not match %v", s, shape)
		}
		if seen[s] {
			t.Fatalf("secret %q came twice", s)
		}
		seen[s] = true
	}
}

func TestHash_isSha256InHex(t *testing.T) {
	const want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	if got := Hash("abc"); got != want {
		t.Fatalf("Hash(abc) = %s, want %s", got, want)
	}
}
