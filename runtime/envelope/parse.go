package envelope

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ErrVersion is what Parse wraps when a line was written in a newer format than this code reads.
var ErrVersion = errors.New("newer envelope format")

// Parse reads one line. It is strict about what it knows: types, bounds, no key twice. What it does not know it keeps. The
// result shares nothing with line; its strings share one copy, so whoever keeps one of them for long clones it.
func Parse(line []byte) (*Envelope, error) {
	if len(line) > MaxBytes {
		return nil, fmt.Errorf("cannot parse envelope: %d bytes, at most %d are allowed", len(line), MaxBytes)
	}
	if !utf8.Valid(line) {
		return nil, errors.New("cannot parse envelope: not UTF-8")
	}
	p := parser{b: string(line)}
	e := &Envelope{}
	if err := p.object(e); err != nil {
		return nil, fmt.Errorf("cannot parse envelope: %w", err)
	}
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("cannot parse envelope: %w", err)
	}
	return e, nil
}

// check holds what every reader relies on, after the members were read one by one.
func (e *Envelope) check() error {
	if e.V == 0 {
		return errors.New(`no version ("v")`)
	}
	if e.V > Version {
		return fmt.Errorf("version %d: %w", e.V, ErrVersion)
	}
	if e.Kind == "" {
		return errors.New(`no kind ("k")`)
	}
	return nil
}

// parser walks over one line. It exists because every process parses every line of the bus: encoding/json would take ten
// times as long and would accept keys in any case and twice.
type parser struct {
	b    string
	i    int
	seen uint32 // bit per known key
}

func (p *parser) object(e *Envelope) error {
	if !p.take('{') {
		return p.expected("an object")
	}
	if !p.take('}') {
		for {
			if err := p.member(e); err != nil {
				return err
			}
			if p.take(',') {
				continue
			}
			if p.take('}') {
				break
			}
			return p.expected("a comma or the end of the object")
		}
	}
	p.space()
	if p.i != len(p.b) {
		return p.expected("nothing more")
	}
	return nil
}

func (p *parser) member(e *Envelope) error {
	key, err := p.text(MaxBytes)
	if err != nil {
		return err
	}
	if !p.take(':') {
		return p.expected("a colon")
	}
	p.space()
	if len(key) == 1 && key[0] >= 'a' && key[0] <= 'z' && known[key[0]-'a'] != nil {
		bit := uint32(1) << (key[0] - 'a')
		if p.seen&bit != 0 {
			return fmt.Errorf("key %q twice", key)
		}
		p.seen |= bit
		if err := known[key[0]-'a'](p, e); err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
		return nil
	}
	return p.keep(e, key)
}

// known is indexed by the key's letter. The letters never change their meaning.
var known = [26]func(*parser, *Envelope) error{
	'v' - 'a': func(p *parser, e *Envelope) error {
		n, err := p.number()
		if n > 1<<30 {
			n = 1 << 30
		}
		e.V = int(n)
		return err
	},
	'k' - 'a': func(p *parser, e *Envelope) error { return p.id(&e.Kind, maxKind) },
	't' - 'a': func(p *parser, e *Envelope) error { return p.id(&e.Tenant, maxID) },
	'c' - 'a': func(p *parser, e *Envelope) error { return p.id(&e.Channel, maxID) },
	'e' - 'a': func(p *parser, e *Envelope) error { return p.id(&e.Epoch, maxID) },
	's' - 'a': func(p *parser, e *Envelope) (err error) { e.Seq, err = p.number(); return },
	'i' - 'a': func(p *parser, e *Envelope) error { return p.id(&e.ID, maxID) },
	'u' - 'a': func(p *parser, e *Envelope) error { return p.id(&e.User, maxID) },
	'n' - 'a': func(p *parser, e *Envelope) (err error) { e.Name, err = p.text(maxName); return },
	'x' - 'a': func(p *parser, e *Envelope) (err error) { e.Text, err = p.text(MaxText); return },
	'g' - 'a': func(p *parser, e *Envelope) error { return p.id(&e.Target, maxID) },
	0:         func(p *parser, e *Envelope) (err error) { e.At, err = p.number(); return },
	'h' - 'a': func(p *parser, e *Envelope) (err error) { e.Shadow, err = p.boolean(); return },
	'r' - 'a': func(p *parser, e *Envelope) (err error) { e.Ref, err = p.boolean(); return },
	'o' - 'a': func(p *parser, e *Envelope) error { return p.id(&e.Origin, maxFrom) },
	'f' - 'a': func(p *parser, e *Envelope) (err error) { e.Flags, err = p.texts(MaxFlags, maxFlag); return },
	'm' - 'a': func(p *parser, e *Envelope) error { return p.id(&e.Edited, maxID) },
}

func (p *parser) space() {
	for p.i < len(p.b) {
		switch p.b[p.i] {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return
		}
	}
}

// take skips white space and then c, if c is next.
func (p *parser) take(c byte) bool {
	p.space()
	if p.i < len(p.b) && p.b[p.i] == c {
		p.i++
		return true
	}
	return false
}

func (p *parser) expected(what string) error {
	return fmt.Errorf("want %s at byte %d", what, p.i)
}

// text reads a string of at most limit bytes, escapes undone.
func (p *parser) text(limit int) (string, error) {
	p.space()
	raw, escaped, err := p.quoted()
	if err != nil {
		return "", err
	}
	s := raw[1 : len(raw)-1]
	if escaped {
		if s, err = unescape(raw); err != nil {
			return "", fmt.Errorf("bad string at byte %d", p.i-len(raw))
		}
	}
	if len(s) > limit {
		return "", fmt.Errorf("%d bytes, at most %d are allowed", len(s), limit)
	}
	return s, nil
}

// texts reads a list of at most most strings, each of at most limit bytes; an empty one is nil.
func (p *parser) texts(most, limit int) (list []string, err error) {
	if !p.take('[') {
		return nil, p.expected("a list")
	}
	if p.take(']') {
		return nil, nil
	}
	for {
		s, err := p.text(limit)
		if err != nil {
			return nil, err
		}
		if list = append(list, s); len(list) > most {
			return nil, fmt.Errorf("at most %d strings are allowed", most)
		}
		if p.take(']') {
			return list, nil
		}
		if !p.take(',') {
			return nil, p.expected("a comma or the end of the list")
		}
	}
}

func unescape(raw string) (s string, err error) {
	err = json.Unmarshal([]byte(raw), &s)
	return s, err
}

// quoted skips a string and returns it with its quotes.
func (p *parser) quoted() (raw string, escaped bool, err error) {
	start := p.i
	if p.i >= len(p.b) || p.b[p.i] != '"' {
		return "", false, p.expected("a string")
	}
	for p.i++; p.i < len(p.b); p.i++ {
		switch c := p.b[p.i]; {
		case c == '"':
			p.i++
			return p.b[start:p.i], escaped, nil
		case c == '\\':
			escaped = true
			p.i++
		case c < 0x20:
			return "", false, fmt.Errorf("control byte 0x%02x at byte %d", c, p.i)
		}
	}
	return "", false, errors.New("string without an end")
}

// id reads a name of printable ASCII without spaces: names end up in maps, paths and logs.
func (p *parser) id(to *string, limit int) error {
	s, err := p.text(limit)
	if err != nil {
		return err
	}
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return fmt.Errorf("bad character in %q", s)
		}
	}
	*to = s
	return nil
}

// number reads an integer from 0 on: no sign, fraction or exponent, nothing that a float64 would round.
func (p *parser) number() (int64, error) {
	start := p.i
	for p.i < len(p.b) && p.b[p.i] >= '0' && p.b[p.i] <= '9' {
		p.i++
	}
	digits := p.b[start:p.i]
	if len(digits) == 0 || len(digits) > 1 && digits[0] == '0' {
		return 0, p.expected("a whole number from 0 on")
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("number %s is too large", digits[:min(len(digits), 24)])
	}
	return n, nil
}

func (p *parser) boolean() (bool, error) {
	for _, word := range [...]string{"true", "false"} {
		if strings.HasPrefix(p.b[p.i:], word) {
			p.i += len(word)
			return word == "true", nil
		}
	}
	return false, p.expected("true or false")
}

// keep stores a member that this version does not know, made clean: compact, no control byte.
func (p *parser) keep(e *Envelope, key string) error {
	start := p.i
	if err := p.skip(); err != nil {
		return err
	}
	var value bytes.Buffer
	if err := json.Compact(&value, []byte(p.b[start:p.i])); err != nil {
		return fmt.Errorf("key %.60q: bad value at byte %d", key, start)
	}
	e.extra = append(appendString(append(e.extra, ','), key), ':')
	// DEL is the one control byte that JSON lets stand; it can only be inside a string.
	e.extra = append(e.extra, strings.ReplaceAll(value.String(), "\x7f", `\u007f`)...)
	return nil
}

// skip moves over one value without looking at what it means; json.Compact does that.
func (p *parser) skip() error {
	for depth := 0; p.i < len(p.b); {
		switch p.b[p.i] {
		case '"':
			if _, _, err := p.quoted(); err != nil {
				return err
			}
			if depth == 0 {
				return nil
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return nil
			}
			if depth--; depth == 0 {
				p.i++
				return nil
			}
		case ',':
			if depth == 0 {
				return nil
			}
		}
		p.i++
	}
	return nil
}
