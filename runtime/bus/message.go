package bus

import "bytes"

// message is one line of IRC, as slices of the line that it was parsed from.
type message struct {
	prefix  []byte // nick!user@host or a server's name, without the colon
	command []byte
	params  [][]byte
}

const maxParams = 15

// parseMessage reads a line without its CRLF into m and reuses m's memory. It reports false for what is no message at all.
func parseMessage(line []byte, m *message) bool {
	m.prefix, m.command, m.params = nil, nil, m.params[:0]
	if len(line) > 0 && line[0] == '@' { // IRCv3 tags, which nobody asked for
		_, line = word(line)
	}
	if len(line) > 0 && line[0] == ':' {
		m.prefix, line = word(line[1:])
	}
	m.command, line = word(line)
	for len(line) > 0 {
		if line[0] == ':' || len(m.params) == maxParams-1 {
			m.params = append(m.params, bytes.TrimPrefix(line, []byte(":")))
			break
		}
		var p []byte
		p, line = word(line)
		m.params = append(m.params, p)
	}
	return len(m.command) > 0
}

// word cuts the line at its first run of spaces.
func word(line []byte) (first, rest []byte) {
	i := bytes.IndexByte(line, ' ')
	if i < 0 {
		return line, nil
	}
	first = line[:i]
	for i < len(line) && line[i] == ' ' {
		i++
	}
	return first, line[i:]
}

// param returns a parameter, nil when the line has fewer.
func (m *message) param(i int) []byte {
	if i < len(m.params) {
		return m.params[i]
	}
	return nil
}

// last returns the last parameter, where servers put their text.
func (m *message) last() []byte {
	if len(m.params) == 0 {
		return nil
	}
	return m.params[len(m.params)-1]
}

// nick returns the part of the prefix before the user.
func (m *message) nick() []byte {
	if i := bytes.IndexByte(m.prefix, '!'); i >= 0 {
		return m.prefix[:i]
	}
	return m.prefix
}
