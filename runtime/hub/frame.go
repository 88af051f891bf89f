package hub

import "encoding/binary"

const (
	opText  = 0x81 // FIN and the opcode, as the first byte of a frame
	opClose = 0x88
	opPing  = 0x89

	maxReason = 123 // a control frame carries 125 bytes, two of them the code
)

// AppendText appends one unmasked WebSocket text frame that carries payload.
func AppendText(dst, payload []byte) []byte {
	return append(AppendTextHeader(dst, len(payload)), payload...)
}

// AppendTextHeader appends the header of a text frame whose payload of n bytes the caller appends next.
func AppendTextHeader(dst []byte, n int) []byte {
	switch {
	case n < 126:
		return append(dst, opText, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, opText, 126), uint16(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, opText, 127), uint64(n))
}

func appendClose(dst []byte, code int, reason string) []byte {
	if len(reason) > maxReason {
		reason = trimUTF8(reason, maxReason)
	}
	dst = append(dst, opClose, byte(2+len(reason)))
	dst = binary.BigEndian.AppendUint16(dst, uint16(code))
	return append(dst, reason...)
}

// trimUTF8 cuts s to at most n bytes and never through a character: a close reason has to be valid UTF-8.
func trimUTF8(s string, n int) string {
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}
