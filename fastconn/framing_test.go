package fastconn

import (
	"encoding/binary"
	"testing"
)

// message is a header with the length of a body, and the body.
func message(f framing, body int) []byte {
	m := make([]byte, f.header+body)
	binary.BigEndian.PutUint16(m[f.length:], uint16(body))
	return m
}

// FuzzFraming passes messages in pieces: no piece crosses the end of a message.
func FuzzFraming(f *testing.F) {
	f.Add([]byte{0, 1, 255, 3}, uint8(1), true)
	f.Add([]byte{200, 200, 0, 0, 7}, uint8(250), false)
	f.Add([]byte{9}, uint8(4), true)
	f.Fuzz(func(t *testing.T, bodies []byte, piece uint8, tls bool) {
		fr := noiseFraming
		if tls {
			fr = tlsFraming
		}
		var all []byte
		ends := map[int]bool{0: true}
		for _, b := range bodies {
			all = append(all, message(fr, int(b))...)
			ends[len(all)] = true
		}
		for at := 0; at < len(all); {
			if fr.within() == ends[at] {
				t.Fatalf("at %d: within %v, end of a message %v", at, fr.within(), ends[at])
			}
			if !fr.within() && !fr.whole(all[at:]) {
				t.Fatalf("at %d: not whole", at)
			}
			n := fr.pass(all[at:min(at+int(piece)+1, len(all))])
			if n == 0 {
				t.Fatalf("at %d: nothing passed", at)
			}
			for i := at + 1; i < at+n; i++ {
				if ends[i] {
					t.Fatalf("%d bytes from %d pass over the end at %d", n, at, i)
				}
			}
			at += n
		}
	})
}

func TestFramingWhole(t *testing.T) {
	for _, tt := range []struct {
		name string
		f    framing
		have []byte
		want bool
	}{
		{"nothing", tlsFraming, nil, false},
		{"a part of the header", tlsFraming, make([]byte, 4), false},
		{"no body", tlsFraming, message(tlsFraming, 0), true},
		{"a part of the body", noiseFraming, message(noiseFraming, 10)[:11], false},
		{"all of it", noiseFraming, message(noiseFraming, 10), true},
		{"and more", tlsFraming, append(message(tlsFraming, 10), 1, 2), true},
		{"within another", framing{header: 2, left: 3}, message(noiseFraming, 0), false},
	} {
		if got := tt.f.whole(tt.have); got != tt.want {
			t.Errorf("%s: whole %v, want %v", tt.name, got, tt.want)
		}
	}
}
