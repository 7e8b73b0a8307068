package fastconn

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
)

// yframe is a yamux frame.
func yframe(kind byte, flags uint16, stream uint32, body []byte) []byte {
	f := make([]byte, frameHeader, frameHeader+len(body))
	f[1] = kind
	binary.BigEndian.PutUint16(f[2:], flags)
	binary.BigEndian.PutUint32(f[4:], stream)
	binary.BigEndian.PutUint32(f[8:], uint32(len(body)))
	if kind != 0 {
		binary.BigEndian.PutUint32(f[8:], 0xffffff) // a window or a code, no body
	}
	return append(f, body...)
}

// seen is what a session makes of frames: the data of each stream in order, and
// everything else where it stands between them.
type seen struct {
	order []string
	data  map[uint32][]byte
	count int // data frames
}

func see(r io.Reader) (seen, error) {
	s := seen{data: make(map[uint32][]byte)}
	var h [frameHeader]byte
	for {
		if _, err := io.ReadFull(r, h[:]); err != nil {
			if err == io.EOF {
				err = nil
			}
			return s, err
		}
		flags, stream, size := binary.BigEndian.Uint16(h[2:]), binary.BigEndian.Uint32(h[4:]), binary.BigEndian.Uint32(h[8:])
		if h[1] != 0 || flags != 0 || size == 0 {
			total := 0
			for _, d := range s.data {
				total += len(d)
			}
			s.order = append(s.order, fmt.Sprint(h, total))
			if h[1] != 0 {
				continue
			}
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(r, body); err != nil {
			return s, err
		}
		s.data[stream] = append(s.data[stream], body...)
		s.count++
	}
}

func (s seen) equal(other seen) bool {
	if len(s.data) != len(other.data) || !slices.Equal(s.order, other.order) {
		return false
	}
	for id, d := range s.data {
		if !bytes.Equal(d, other.data[id]) {
			return false
		}
	}
	return true
}

// arriving is a security layer on which messages arrive now and then.
type arriving struct {
	wire     *wire
	messages [][]byte
	pause    func() bool
}

func (a *arriving) Read(p []byte) (int, error) {
	if len(a.messages) == 0 {
		return 0, io.EOF
	}
	if a.wire.noWait && a.pause() {
		return 0, errWouldWait
	}
	n := copy(p, a.messages[0])
	if a.messages[0] = a.messages[0][n:]; len(a.messages[0]) == 0 {
		a.messages = a.messages[1:]
	}
	return n, nil
}

// cut makes messages of up to most bytes.
func cut(b []byte, most int, r *rand.Rand) (m [][]byte) {
	for len(b) > 0 {
		n := min(len(b), 1+r.IntN(most))
		m = append(m, b[:n])
		b = b[n:]
	}
	return m
}

// FuzzMerge reads random frames in random messages: a session sees the same.
func FuzzMerge(f *testing.F) {
	f.Add(uint64(1), uint16(50), uint16(1412), uint16(16384), uint8(3))
	f.Add(uint64(2), uint16(300), uint16(20000), uint16(30000), uint8(1))
	f.Add(uint64(3), uint16(2000), uint16(3), uint16(7), uint8(2))
	f.Add(uint64(4), uint16(1000), uint16(9000), uint16(65000), uint8(20))
	f.Fuzz(func(t *testing.T, seed uint64, frames, largest, message uint16, streams uint8) {
		r := rand.New(rand.NewPCG(seed, 0))
		var all []byte
		for range frames % 3000 {
			kind, flags := byte(0), uint16(0)
			switch r.IntN(20) {
			case 0:
				kind = byte(1 + r.IntN(3))
			case 1:
				flags = uint16(r.IntN(16))
			}
			var body []byte
			if kind == 0 {
				body = make([]byte, r.IntN(int(largest)+1))
				for i := range body {
					body[i] = byte(r.Uint32())
				}
			}
			all = append(all, yframe(kind, flags, uint32(r.IntN(int(streams)+1)), body)...)
			if len(all) > 4<<20 {
				break
			}
		}
		want, err := see(bytes.NewReader(all))
		if err != nil {
			t.Fatal(err)
		}
		w := &wire{}
		m := &merger{from: &arriving{w, cut(all, int(message)+1, r), func() bool { return r.IntN(4) == 0 }}, wire: w}
		got, err := see(m)
		if err != nil {
			t.Fatal(err)
		}
		if !got.equal(want) {
			t.Fatal("a session would see something else")
		}
		if got.count > want.count {
			t.Errorf("%d data frames of %d", got.count, want.count)
		}
		if m.b != nil && m.b.r < m.b.w {
			t.Error("a batch is held at the end")
		}
	})
}

func TestMergeSmall(t *testing.T) {
	var all []byte
	for i := range 100 {
		all = append(all, yframe(0, 0, uint32(i%2), make([]byte, 100))...)
	}
	w := &wire{}
	m := &merger{from: &arriving{w, [][]byte{all}, func() bool { return false }}, wire: w}
	s, err := see(m)
	if err != nil {
		t.Fatal(err)
	}
	if s.count != 2 {
		t.Errorf("100 frames of 2 streams that had arrived came out as %d, want 2", s.count)
	}
}

// TestMergeTruncated: what precedes the end of the connection is handed out.
func TestMergeTruncated(t *testing.T) {
	frame := yframe(0, 0, 1, []byte("0123456789"))
	for cutAt := range len(frame) {
		all := append(bytes.Clone(frame), frame[:cutAt]...)
		w := &wire{}
		m := &merger{from: &arriving{w, [][]byte{all}, func() bool { return false }}, wire: w}
		got, err := io.ReadAll(m)
		want := all
		if cutAt < frameHeader {
			want = frame // a part of a header means nothing to anybody
		}
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("cut at %d: %d bytes, %v, want %d", cutAt, len(got), err, len(want))
		}
	}
}

// TestMergeIdle holds that waiting costs no buffer, within a frame or not.
func TestMergeIdle(t *testing.T) {
	frame := yframe(0, 0, 1, []byte("0123456789"))
	for cutAt := range len(frame) {
		w := &wire{}
		from := &arriving{w, [][]byte{append(bytes.Clone(frame), frame[:cutAt]...)}, nil}
		from.pause = func() bool { return false }
		m := &merger{wire: w}
		m.from = readerFunc(func(p []byte) (int, error) {
			if len(from.messages) == 0 {
				if w.noWait {
					return 0, errWouldWait
				}
				if m.b != nil {
					t.Errorf("cut at %d: waits with a batch", cutAt)
				}
			}
			return from.Read(p)
		})
		io.Copy(io.Discard, m)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
