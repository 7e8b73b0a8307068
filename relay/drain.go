package relay

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// drainPoll is how often Drain looks whether the last circuit has ended.
const drainPoll = 20 * time.Millisecond

// Drain is DrainFor, and waits until the last circuit has ended, as all have
// after the deadline, or until ctx ends.
func (r *Relay) Drain(ctx context.Context, deadline time.Duration, siblings []peer.AddrInfo) error {
	r.DrainFor(deadline, siblings)
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for r.table.openCircuits() > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// DrainFor stops taking new reservations and new circuits. Those that run go on
// until the deadline and are ended then; if it is 0, until Run ends. Peers with
// a reservation or a circuit are told this, and the siblings to go to instead: it
// returns when they know, after 2 seconds at most. Then the hop protocol is
// withdrawn, which those see who take no notices. Only the first call counts; the
// others wait for it.
func (r *Relay) DrainFor(deadline time.Duration, siblings []peer.AddrInfo) {
	r.draining.Store(true)
	r.stop.Do(func() {
		if deadline > 0 {
			r.mu.Lock()
			r.drainEnds = time.Now().Add(deadline)
			r.mu.Unlock()
		}
		r.tellDraining(deadline, siblings)
		close(r.drain)
	})
}

// drainLeft is how long circuits may run on, if that is bounded.
func (r *Relay) drainLeft() (time.Duration, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.drainEnds.IsZero() {
		return 0, false
	}
	return max(time.Until(r.drainEnds), 0), true
}
