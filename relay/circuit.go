package relay

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/relay/fair"
	"github.com/causeway-p2p/causeway/relay/usage"
)

// circuit joins a hop stream and a stop stream.
//
//	          hop stream        up: read, count, write          stop stream
//	src ◀───────────────────▶ ─────────────────────▶ ◀──────────────────────▶ dst
//	                          ◀─────────────────────
//	                            down: the same
//
// It is opening until both ends have agreed, and open until both directions
// have ended or end was called. The first reason counts.
type circuit struct {
	// static after table.open
	id       uint64
	src, dst peer.ID
	from     netip.Addr // where src is; not valid if it has no IP address
	class    *Class     // of whichever end is trusted more
	payer    peer.ID    // that end, from whose quota and rate it takes
	opened   time.Time
	accounts [2]*usage.Account // of src and dst

	up, down direction
	ways     atomic.Int32 // that have not ended
	memory   network.ResourceScopeSpan
	done     chan struct{} // closed at the end: wakes those who wait for bandwidth

	mu      sync.Mutex // guards the fields below
	reason  Reason     // set once
	stopped bool       // done is closed
	timer   *time.Timer
	reset   func()    // of both streams, once there are two
	seen    time.Time // when rate was asked for last
	before  int64     // what had passed then
}

// direction is one of the two ways of a circuit.
type direction struct {
	flow  *fair.Flow
	bytes atomic.Int64 // written
}

func newCircuit(src, dst peer.ID, from netip.Addr, class *Class) *circuit {
	c := &circuit{src: src, dst: dst, from: from, class: class, done: make(chan struct{})}
	c.ways.Store(2)
	return c
}

// end ends the circuit for a reason, from anywhere and at any time. Only the
// first call counts.
func (c *circuit) end(why Reason) {
	c.mu.Lock()
	if c.reason != "" {
		c.mu.Unlock()
		return
	}
	c.reason = why
	reset := c.reset
	c.stopLocked()
	c.mu.Unlock()
	if reset != nil {
		reset()
	}
}

// stopLocked wakes those who wait for bandwidth.
func (c *circuit) stopLocked() {
	if !c.stopped {
		c.stopped = true
		close(c.done)
	}
}

// wane ends the circuit for the reason that it may carry no more from src to
// dst, and leaves them a while to read what they were sent.
func (c *circuit) wane(why Reason, src, dst network.Stream) {
	c.mu.Lock()
	if c.reason == "" {
		c.reason = why
		if c.timer != nil {
			c.timer.Stop()
		}
		c.timer = time.AfterFunc(lastWords, c.cut)
	}
	c.mu.Unlock()
	// Of streams that are gone already this is no news.
	_, _ = dst.CloseWrite(), src.CloseRead()
}

// cut resets a circuit that has waned.
func (c *circuit) cut() {
	c.mu.Lock()
	reset := c.reset
	c.stopLocked()
	c.mu.Unlock()
	reset()
}

// join gives the circuit its streams, and a time to end at unless that is 0.
// It fails if the circuit has ended meanwhile. What takes time is run by beside.
func (c *circuit) join(hop, stop network.Stream, d time.Duration, beside func(func())) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason != "" {
		return false
	}
	// Beside each other and beside the caller: yamux waits for room in its
	// queue, which an end that reads nothing can keep full for seconds.
	c.reset = func() {
		beside(func() { hop.Reset() })
		beside(func() { stop.Reset() })
	}
	if d > 0 {
		c.timer = time.AfterFunc(d, func() { c.end(Time) })
	}
	return true
}

// finish is called once after both directions have ended. It resets nothing: the
// last that was written may still be on its way.
func (c *circuit) finish() Reason {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason == "" {
		c.reason = Closed
	}
	c.stopLocked()
	if c.timer != nil {
		c.timer.Stop()
	}
	return c.reason
}

// ended tells why the circuit has ended, or "".
func (c *circuit) ended() Reason {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason
}

// paid is the account that the circuit counts for.
func (c *circuit) paid() *usage.Account {
	if c.payer == c.src {
		return c.accounts[0]
	}
	return c.accounts[1]
}

// passed is what the circuit has carried, both ways.
func (c *circuit) passed() int64 { return c.up.bytes.Load() + c.down.bytes.Load() }

// rate is what has passed per second since it was asked for last.
func (c *circuit) rate(now time.Time) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	since, n := c.seen, c.passed()
	if since.IsZero() {
		since = c.opened
	}
	passed := n - c.before
	c.seen, c.before = now, n
	if d := now.Sub(since); d > 0 {
		return float64(passed) / d.Seconds()
	}
	return 0
}
