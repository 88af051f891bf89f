// Package names checks the names that reach KMS from outside, before anything else sees them: they end up in URLs, nginx
// maps, paths, IRC lines, SQL and terminals. The patterns are those of the design; nothing else in the tree repeats them.
package names

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The patterns as text, for nginx and OpenAPI, which match them too.
const (
	VersionPattern = `[0-9]{1,4}(\.[0-9]{1,4}){0,2}(-[a-z0-9]{1,16})?`
	TenantPattern  = `[a-z0-9][a-z0-9-]{0,30}`
	IDPattern      = `[A-Za-z0-9._:-]{1,64}`
)

// ProbeTenant is the internal tenant that builds probe themselves with. Internal tenants start with an underscore, which no
// operator can name.
const ProbeTenant = "_probe"

// MaxDisplay bounds a display name, in code points.
const MaxDisplay = 64

var (
	versionRE = regexp.MustCompile(`^` + VersionPattern + `$`)
	tenantRE  = regexp.MustCompile(`^` + TenantPattern + `$`)
	digestRE  = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// Error says which name is wrong and what is allowed. Its text is safe to print: the value is quoted.
type Error struct {
	What  string // "version", "tenant", ...
	Value string
	Rule  string
}

func (e *Error) Error() string {
	value := e.Value
	if len(value) > 80 {
		value = value[:80] + "…"
	}
	return fmt.Sprintf("bad %s %q: want %s", e.What, value, e.Rule)
}

// Version checks a version's public name, such as 1.0 or 2.0-dragon.
func Version(s string) error { return match("version", versionRE, s, VersionPattern) }

// OlderVersion reports whether version a is older than b: by their numbers, missing ones being 0, so that 2.0-dragon is as old as 2.0.
// Both have passed Version.
func OlderVersion(a, b string) bool {
	x, y := versionNumbers(a), versionNumbers(b)
	return slices.Compare(x[:], y[:]) < 0
}

func versionNumbers(version string) (n [3]int) {
	numbers, _, _ := strings.Cut(version, "-")
	for i, part := range strings.SplitN(numbers, ".", len(n)) {
		n[i], _ = strconv.Atoi(part)
	}
	return n
}

// Tenant checks a tenant's name as operators may choose it.
func Tenant(s string) error { return match("tenant", tenantRE, s, TenantPattern) }

// AnyTenant also lets our own internal tenants pass.
func AnyTenant(s string) error {
	if s == ProbeTenant {
		return nil
	}
	return Tenant(s)
}

// Channel checks a channel id.
func Channel(s string) error {
	if isID(s) {
		return nil
	}
	return &Error{"channel", s, IDPattern}
}

// User checks a user id.
func User(s string) error {
	if isID(s) {
		return nil
	}
	return &Error{"user", s, IDPattern}
}

// MessageID checks a ULID in its canonical upper-case form of 26 characters.
func MessageID(s string) error {
	if isULID(s) {
		return nil
	}
	return &Error{"message id", s, "a ULID of 26 characters"}
}

// Every message brings a channel and a ULID, so these two are matched by hand. A test holds them against their patterns.
const ulidPattern = `[0-7][0-9A-HJKMNP-TV-Z]{25}`

func isID(s string) bool {
	if len(s) == 0 || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		if idBytes[s[i]]&idByte == 0 {
			return false
		}
	}
	return true
}

func isULID(s string) bool {
	if len(s) != 26 || s[0] > '7' {
		return false
	}
	for i := range len(s) {
		if idBytes[s[i]]&ulidByte == 0 {
			return false
		}
	}
	return true
}

// idBytes says for each byte in which of the two it may stand.
var idBytes = func() (t [256]uint8) {
	for c := range t {
		if idRE.MatchString(string(rune(c))) {
			t[c] |= idByte
		}
		if c < utf8.RuneSelf && ulidRE.MatchString("0000000000000000000000000"+string(rune(c))) {
			t[c] |= ulidByte
		}
	}
	return t
}()

const (
	idByte = 1 << iota
	ulidByte
)

var (
	idRE   = regexp.MustCompile(`^` + IDPattern + `$`)
	ulidRE = regexp.MustCompile(`^` + ulidPattern + `$`)
)

// Digest checks a build's sha256 in lower-case hex.
func Digest(s string) error { return match("build", digestRE, s, "64 lower-case hex digits") }

// Display checks a display name: valid UTF-8, 1 to MaxDisplay code points, no control or line-breaking characters.
func Display(s string) error {
	bad := &Error{"display name", s, fmt.Sprintf("1 to %d characters without control characters", MaxDisplay)}
	if s == "" || !utf8.ValidString(s) || utf8.RuneCountInString(s) > MaxDisplay {
		return bad
	}
	for _, r := range s {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || isBidiControl(r) {
			return bad
		}
	}
	return nil
}

// isBidiControl reports the characters that reorder a terminal line around a name.
func isBidiControl(r rune) bool {
	return r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069'
}

func match(what string, re *regexp.Regexp, s, rule string) error {
	if re.MatchString(s) {
		return nil
	}
	return &Error{what, s, rule}
}
