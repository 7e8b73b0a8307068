package relay

import (
	"sync"
	"sync/atomic"
)

const (
	// smallBuffer is what a direction holds while little passes: more than the
	// largest QUIC packet, and small enough for many thousand circuits.
	smallBuffer = 2 << 10
	// largeBuffer is what it gets under load: what fits into yamux's largest
	// frame beside its header of 12 bytes (go-yamux v5, MaxMessageSize), and so
	// four TLS records. More would become a frame of its own.
	largeBuffer = 64<<10 - 12
	// maxLarge bounds the large buffers of a relay, 256 MiB in all. Under more
	// load than that, directions go on with the small ones.
	maxLarge = 4096
)

var smallBuffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}

// larges lends the large buffers.
type larges struct {
	lent atomic.Int64
	pool sync.Pool
}

// get lends one, or nil.
func (l *larges) get() *[largeBuffer]byte {
	if l.lent.Add(1) > maxLarge {
		l.lent.Add(-1)
		return nil
	}
	if b, ok := l.pool.Get().(*[largeBuffer]byte); ok {
		return b
	}
	return new([largeBuffer]byte)
}

func (l *larges) put(b *[largeBuffer]byte) {
	l.lent.Add(-1)
	l.pool.Put(b)
}
