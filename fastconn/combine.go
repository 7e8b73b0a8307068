package fastconn

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// queueSize is how much may wait while a write is under way, and is then
	// the next: four of yamux's largest frames (go-yamux v5.1, MaxMessageSize),
	// with the odd bytes that are left of a peer's writes. Two cost a relay 4 %
	// more CPU over TLS, eight gained nothing.
	queueSize = 257 << 10
	// largestFrame is yamux's.
	largestFrame = 64 << 10
	// pause is how long nothing must have been written for a small write to go
	// out on its own goroutine: longer than a write takes, so that nothing
	// would have joined it. Another goroutine costs tens of microseconds where
	// it has to wake a processor.
	pause = 10 * time.Microsecond
	// closeWait is how long Close waits for what was accepted: as long as
	// yamux gives its own last word (go-yamux v5.1, goAwayWaitTime).
	closeWait = 100 * time.Millisecond
)

// Conn is a secured connection whose writes are combined: while one is under
// way those that follow gather, and leave as the next. What it reads are merged
// frames.
//
//	┌──────┐  Write: start flush   ┌──────┐ ◀─┐ Write: gather,
//	│ idle │ ────────────────────▶ │ busy │   │ or wait for room
//	└──────┘ ◀──────────────────── └──────┘ ──┘
//	           nothing gathered
//
// A small write after a pause is sent before Write returns. Any other that
// returned has been accepted, not sent: if sending fails, the
// connection is closed, and the next Write returns the error.
type Conn struct {
	net.Conn // the security layer
	wire     *wire
	in       io.Reader // owned by the reader
	backlog  backlog
	taken    atomic.Int64 // bytes that its streams have read

	mu       sync.Mutex    // guards the fields below
	changed  sync.Cond     // on mu: room, idle, err
	busy     bool          // a write is under way, or about to be
	queue    []byte        // what gathers meanwhile; empty unless busy
	frames   int           // Writes in queue
	last     time.Time     // of Write
	err      error         // why nothing can be written any more
	deadline time.Time     // for Write
	timeout  time.Duration // for each send
	armed    time.Time     // the deadline of the security layer
	closing  bool
}

var errTooLarge = errors.New("fastconn: frame too large")

var queues = sync.Pool{New: func() any { return new([queueSize]byte) }}

// combine puts a Conn over a security layer. If that is not one of ours the
// records of a write are not combined, which is all that is missing.
func combine(c net.Conn) *Conn {
	cc := &Conn{Conn: c, in: c}
	cc.changed.L = &cc.mu
	if s, ok := c.(*secured); ok {
		cc.wire = s.wire
		if s.wire.raw != nil {
			cc.in = &merger{from: c, wire: s.wire}
		}
	}
	return cc
}

// Read is for one goroutine, as yamux has it.
func (c *Conn) Read(p []byte) (int, error) { return c.in.Read(p) }

// Write accepts p, which is one frame of the muxer.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(p) > queueSize {
		return 0, errTooLarge
	}
	if !c.deadline.IsZero() && !time.Now().Before(c.deadline) {
		return 0, os.ErrDeadlineExceeded
	}
	// What is under way has its own deadline, and so this ends.
	for c.err == nil && !c.closing && len(c.queue)+len(p) > queueSize {
		c.changed.Wait()
	}
	switch {
	case c.err != nil:
		return 0, c.err
	case c.closing:
		return 0, net.ErrClosed
	}
	now := time.Now()
	paused := now.Sub(c.last) > pause
	c.last = now
	if paused && !c.busy && len(p) <= sparse {
		c.busy = true
		c.sendLocked(p, 1)
		if c.busy = len(c.queue) > 0; c.busy {
			go c.flush()
		}
		if c.err != nil {
			return 0, c.err
		}
		return len(p), nil
	}
	if c.queue == nil {
		c.queue = queues.Get().(*[queueSize]byte)[:0]
	}
	c.queue = append(c.queue, p...)
	c.frames++
	if !c.busy {
		// The new goroutine runs when this one has nothing more to write, or
		// at once if a processor is idle. Close waits for it.
		c.busy = true
		go c.flush()
	}
	return len(p), nil
}

// Moved returns how many bytes the streams of the connection have read and
// written since its beginning: while nothing moves it stays the same.
func (c *Conn) Moved() int64 { return c.taken.Load() + c.backlog.position() }

// flush sends what gathers until there is nothing.
func (c *Conn) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) > 0 {
		q, frames := c.queue, c.frames
		c.queue, c.frames = nil, 0
		if c.err == nil {
			c.sendLocked(q, frames)
		}
		queues.Put((*[queueSize]byte)(q[:queueSize]))
	}
	c.busy = false
	c.changed.Broadcast()
}

// sendLocked gives p to the security layer, without the lock meanwhile.
func (c *Conn) sendLocked(p []byte, frames int) {
	c.armLocked(len(p))
	c.mu.Unlock()
	err := c.send(p)
	if err != nil {
		// Nobody may come to write again, so the reader has to learn of it.
		c.abort()
		c.backlog.close()
	} else {
		c.backlog.sent(len(p) - frames*frameHeader)
	}
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.changed.Broadcast()
}

// send writes p in one go, if that is for us to arrange.
func (c *Conn) send(p []byte) error {
	if c.wire == nil {
		_, err := c.Conn.Write(p)
		return err
	}
	c.wire.cork()
	_, err := c.Conn.Write(p)
	if uncorkErr := c.wire.uncork(); err == nil {
		err = uncorkErr
	}
	return err
}

// armLocked gives the next send of n bytes as much time as Write was given for
// each frame of the largest size in it, if half of that has passed since:
// accepted early, it may have waited its turn, and a slow line needs its time.
func (c *Conn) armLocked(n int) {
	if c.timeout <= 0 || c.closing {
		return
	}
	now, most := time.Now(), c.timeout*time.Duration(1+n/largestFrame)
	if c.armed.Sub(now) < most/2 {
		c.armed = now.Add(most)
		_ = c.Conn.SetWriteDeadline(c.armed)
	}
}

// abort closes the network connection: whatever waits for it, ends.
func (c *Conn) abort() {
	if c.wire != nil {
		c.wire.Close()
	} else {
		c.Conn.Close()
	}
}

// SetWriteDeadline sets until when Write may be called, and with that how long
// each send may take, on the goroutine of a Write or later.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline, c.armed, c.timeout = t, t, 0
	if !t.IsZero() {
		c.timeout = time.Until(t)
	}
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetWriteDeadline(t); err != nil {
		return err
	}
	return c.SetReadDeadline(t)
}

// Close sends what was accepted, for which it takes up to 100 ms, and closes
// the connection.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.closing = true
	c.changed.Broadcast()
	if c.busy {
		late := time.AfterFunc(closeWait, c.abort)
		for c.busy {
			c.changed.Wait()
		}
		late.Stop()
	}
	c.mu.Unlock()
	c.backlog.close()
	return c.Conn.Close()
}
