package fastconn

import "encoding/binary"

// framing follows the messages of a security protocol in the bytes that pass,
// without looking inside.
type framing struct {
	header int // bytes before the body
	length int // where in the header the length of the body is, 2 bytes

	head [tlsHeader]byte // of the message that passes
	have int             // bytes in head; 0 once it is complete
	left int             // of the body
}

// Sizes of the headers: a TLS record's type, version and length (RFC 8446,
// section 5.1), and the length before a Noise message (libp2p's noise
// specification, "Wire Format").
const (
	tlsHeader   = 5
	noiseHeader = 2
)

var (
	tlsFraming   = framing{header: tlsHeader, length: 3}
	noiseFraming = framing{header: noiseHeader}
)

// pass returns how many of the bytes in b belong to the message that passes, or
// to the one that begins, and counts them as passed.
func (f *framing) pass(b []byte) int {
	n := 0
	if f.left == 0 {
		n = copy(f.head[f.have:f.header], b)
		f.have += n
		if f.have < f.header {
			return n
		}
		f.have = 0
		f.left = int(binary.BigEndian.Uint16(f.head[f.length:]))
	}
	body := min(len(b)-n, f.left)
	f.left -= body
	return n + body
}

// whole tells whether b, which has not passed yet, begins with a message and
// has all of it.
func (f *framing) whole(b []byte) bool {
	if f.within() || len(b) < f.header {
		return false
	}
	return len(b) >= f.header+int(binary.BigEndian.Uint16(b[f.length:]))
}

// within tells whether a message has passed in part.
func (f *framing) within() bool { return f.left > 0 || f.have > 0 }
