package fastconn

import (
	"cmp"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sync"
)

const (
	// frameHeader is the size of yamux's frame header: version, type, flags,
	// stream, length (its specification, "Framing"). A Write of a session is
	// one frame (go-yamux v5.1, session.go, sendMsg).
	frameHeader = 12
	// mergeMax is the largest frame that is worth merging with others: for
	// larger ones a copy costs more than a frame. It is also how much is read
	// at a time while frames are merged, so that little is copied of one that
	// is not.
	mergeMax = 8 << 10
	// mergeFrames bounds how many frames are looked at together.
	mergeFrames = 512
)

// merger reads yamux frames from a security layer and makes one of several: of
// data frames that have arrived, those of a stream come out as one. A peer that
// sends many small writes costs as little per byte as one that sends few large
// ones, from here on: each frame means locks, a buffer and a wake-up in yamux,
// and then the same again in the other direction.
//
// It never waits for a frame in order to merge it, and holds no buffer while it
// waits. Data frames of different
// streams may change places, which means nothing to the streams; everything
// else, window updates, pings, the ends of streams, stays where it is.
type merger struct {
	from io.Reader
	wire *wire // under from

	head [frameHeader]byte // the header that is being read
	have int               // bytes in it
	rest int               // of the body of a frame that is handed through
	b    *batch            // nil unless something is in it
	err  error             // for the next read
}

// batch is a buffer of frames.
type batch struct {
	buf    [64 << 10]byte
	r, w   int     // what has been read and is not among the spans
	frames []frame // those that merge
	spans  []span  // what goes out, in this order
	out    int     // how many of these have
}

type frame struct {
	stream   uint32
	from, to int // with its header
}

type span struct{ from, to int }

var batches = sync.Pool{New: func() any { return new(batch) }}

// Read is for one goroutine, as yamux has it.
func (m *merger) Read(p []byte) (int, error) {
	for len(p) > 0 {
		if m.b != nil && m.b.out < len(m.b.spans) {
			return m.b.take(p), nil
		}
		if m.rest > 0 {
			return m.handThrough(p)
		}
		if err := m.next(); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// handThrough reads the body of a frame that is not merged.
func (m *merger) handThrough(p []byte) (n int, err error) {
	p = p[:min(len(p), m.rest)]
	if m.b != nil {
		n = m.b.rest(p)
	}
	if n == 0 {
		m.release()
		n, err = m.read(p)
	}
	m.rest -= n
	return n, err
}

// next reads a header and decides what becomes of its frame.
func (m *merger) next() error {
	if m.b != nil {
		m.have += m.b.rest(m.head[m.have:])
	}
	if m.have < frameHeader {
		m.release()
	}
	for m.have < frameHeader {
		n, err := m.read(m.head[m.have:])
		m.have += n
		if err != nil {
			return err
		}
	}
	m.have = 0
	if m.b == nil {
		m.b = batches.Get().(*batch)
	}
	m.b.begin(m.head[:])
	m.gather()
	if len(m.b.frames) > 0 {
		m.b.merge()
		return nil
	}
	m.b.spans = append(m.b.spans[:0], span{0, frameHeader})
	m.b.out = 0
	m.b.r = frameHeader
	m.rest = parseHeader(m.head[:]).body
	return nil
}

// gather reads what is there, up to the first frame that does not merge.
func (m *merger) gather() {
	m.wire.setNoWait(true)
	defer m.wire.setNoWait(false)
	b := m.b
	for b.find() && b.w < len(b.buf) {
		n, err := m.read(b.buf[b.w:min(b.w+mergeMax, len(b.buf))])
		b.w += n
		if err != nil {
			if !errors.Is(err, errWouldWait) {
				m.err = err
			}
			b.find()
			return
		}
	}
}

// read reads what the security layer has, or waits for it.
func (m *merger) read(p []byte) (int, error) {
	if err := m.err; err != nil {
		m.err = nil
		return 0, err
	}
	return m.from.Read(p)
}

func (m *merger) release() {
	if m.b != nil {
		batches.Put(m.b)
		m.b = nil
	}
}

// begin puts a frame's header before what follows it.
func (b *batch) begin(head []byte) {
	n := copy(b.buf[frameHeader:], b.buf[b.r:b.w])
	copy(b.buf[:], head)
	b.r, b.w, b.frames = 0, frameHeader+n, b.frames[:0]
}

// rest takes what is not among the spans.
func (b *batch) rest(p []byte) int {
	n := copy(p, b.buf[b.r:b.w])
	if b.r += n; b.r == b.w {
		b.r, b.w = 0, 0
	}
	return n
}

// take takes from the spans.
func (b *batch) take(p []byte) int {
	n := 0
	for n < len(p) && b.out < len(b.spans) {
		s := &b.spans[b.out]
		c := copy(p[n:], b.buf[s.from:s.to])
		n += c
		if s.from += c; s.from == s.to {
			b.out++
		}
	}
	return n
}

// find adds the frames that are complete to those that merge. It reports
// whether the next may be one.
func (b *batch) find() bool {
	for len(b.frames) < mergeFrames && b.w-b.r >= frameHeader {
		h := parseHeader(b.buf[b.r:])
		end := b.r + frameHeader + h.body
		if !h.plain || h.body > mergeMax {
			return false
		}
		if end > b.w {
			return true
		}
		b.frames = append(b.frames, frame{h.stream, b.r, end})
		b.r = end
	}
	return len(b.frames) < mergeFrames
}

// merge makes one frame of those of a stream.
func (b *batch) merge() {
	frames := b.frames
	slices.SortStableFunc(frames, func(x, y frame) int { return cmp.Compare(x.stream, y.stream) })
	b.spans, b.out = b.spans[:0], 0
	for i := 0; i < len(frames); {
		first := frames[i]
		body := first.to - first.from - frameHeader
		b.spans = append(b.spans, span{first.from, first.to})
		for i++; i < len(frames) && frames[i].stream == first.stream; i++ {
			s := span{frames[i].from + frameHeader, frames[i].to}
			body += s.to - s.from
			b.spans = append(b.spans, s)
		}
		binary.BigEndian.PutUint32(b.buf[first.from+8:], uint32(body))
	}
}

// header is what matters here of a yamux frame header.
type header struct {
	stream uint32
	body   int  // bytes that follow
	plain  bool // some data and no flags
}

func parseHeader(b []byte) header {
	const data = 0 // the type
	if b[1] != data {
		return header{}
	}
	flags, size := binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint32(b[8:])
	return header{
		stream: binary.BigEndian.Uint32(b[4:]),
		body:   int(size),
		plain:  b[0] == 0 && flags == 0 && size > 0,
	}
}
