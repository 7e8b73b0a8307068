package fastconn

import (
	"io"
	"net"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
)

const (
	// budget is how much bulk data may be queued on a connection, between the
	// streams and the kernel: enough that the next flush is full when this one
	// ends, and less than a millisecond's worth at the speeds at which one
	// core encrypts.
	budget = 256 << 10
	// sparse is the largest write that may go ahead of a full budget, if
	// nothing of its stream is queued: a stream like that is no reason why
	// others wait.
	sparse = 4 << 10
)

// backlog is what the streams of a connection have written and the kernel has
// not got yet: in yamux's queue of 64 frames, and in the Conn.
type backlog struct {
	mu     sync.Mutex // guards the fields below
	in     int64      // bytes written by streams, since the beginning
	out    int64      // of these, given to the kernel
	turns  []*turn    // who waits, the first first
	closed bool
}

type turn struct {
	size int
	come chan struct{}
}

func (b *backlog) enqueued(n int) {
	b.mu.Lock()
	b.in += int64(n)
	b.mu.Unlock()
}

// sent makes room, and lets in as many as fit.
func (b *backlog) sent(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.out += int64(n)
	room := budget - (b.in - b.out)
	for len(b.turns) > 0 && room > 0 {
		t := b.turns[0]
		b.turns = b.turns[1:]
		room -= int64(t.size)
		close(t.come)
	}
}

// close lets everybody in: what they write will fail.
func (b *backlog) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for _, t := range b.turns {
		close(t.come)
	}
	b.turns = nil
}

// enter returns nil if n bytes may be written now, and otherwise whose turn to
// wait for. Until the backlog has sunk to mark something of the writer's own is
// queued.
func (b *backlog) enter(n int, mark int64) *turn {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || (b.in-b.out < budget && len(b.turns) == 0) || (n <= sparse && b.out >= mark) {
		return nil
	}
	t := &turn{n, make(chan struct{})}
	b.turns = append(b.turns, t)
	return t
}

// leave gives up a turn. One that has come is passed on by the next sent.
func (b *backlog) leave(t *turn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, other := range b.turns {
		if other == t {
			b.turns = append(b.turns[:i:i], b.turns[i+1:]...)
			return
		}
	}
}

func (b *backlog) position() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.in
}

// Pace returns a writer to s for one goroutine that copies. It holds back
// while much is queued on the connection of s, so that others that write to
// the same peer, now and then, are not queued behind it. A closed done ends the
// wait with net.ErrClosed. On a connection that is not of this package it is s.
func Pace(s network.Stream, done <-chan struct{}) io.Writer {
	var c *Conn
	if !s.Conn().As(&c) {
		return s
	}
	return &pacer{to: s, backlog: &c.backlog, done: done}
}

type pacer struct {
	to      io.Writer
	backlog *backlog
	done    <-chan struct{}
	mark    int64 // the position behind what was written last
}

func (p *pacer) Write(b []byte) (int, error) {
	if t := p.backlog.enter(len(b), p.mark); t != nil {
		select {
		case <-t.come:
		case <-p.done:
			p.backlog.leave(t)
			return 0, net.ErrClosed
		}
	}
	n, err := p.to.Write(b)
	p.mark = p.backlog.position()
	return n, err
}
