package autorelay

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Wish is what the user wants of a relay.
type Wish string

const (
	NoWish    Wish = ""          // choose as you see fit
	Preferred Wish = "preferred" // take it rather than one that is a little nearer
	Pinned    Wish = "pinned"    // hold and advertise it, whatever else there is
	Banned    Wish = "banned"    // never use it
)

// SetWish tells what the user wants of a relay, from now on. It takes effect at
// once: a banned relay is let go, a pinned one asked. A pinned or preferred
// relay must be known; Add it first if need be. SetWish waits for Run to take
// it in, and returns false if Run has ended or the relay is not known.
func (a *AutoRelay) SetWish(id peer.ID, w Wish) bool {
	return a.command(func(now time.Time) bool {
		r := a.relays[id]
		if (r == nil || r.removed) && w != Banned {
			return false
		}
		if r == nil { // banned before anybody found it
			r = &relay{id: id, text: id.String(), state: Known, since: now}
			a.relays[id] = r
		}
		unpinned := r.wish == Pinned && w != Pinned
		r.wish, r.removed = w, false
		switch {
		case w == Banned && r.holds():
			a.release(r, ByUser, now)
		case w == Pinned || w == Preferred:
			if r.state == BackingOff {
				r.retryAt = now
			}
			r.measured, a.improveAt = time.Time{}, now
		}
		if unpinned {
			a.trim(now)
		}
		a.fillShown(now)
		return true
	})
}

// Remove lets go of a relay and forgets it. A source may find it again.
func (a *AutoRelay) Remove(id peer.ID) bool {
	return a.command(func(now time.Time) bool {
		r := a.relays[id]
		if r == nil || r.removed {
			return false
		}
		if r.holds() {
			a.release(r, ByUser, now)
		}
		if r.busy { // the call under way reports to it
			r.removed, r.wish, r.sources = true, NoWish, nil
		} else {
			delete(a.relays, id)
		}
		a.fillShown(now)
		return true
	})
}

// Refresh has every reservation refreshed at once, and those relays asked again
// that had no room for us or did not want us, because what they know of us
// through BeforeReserve has changed. It waits for Run to take it in, and returns
// false if Run has ended.
func (a *AutoRelay) Refresh() bool {
	return a.command(func(now time.Time) bool {
		for _, r := range a.relays {
			a.askAgain(r, now)
		}
		return true
	})
}

// askAgain makes the next call to a relay due. One that is under way may have
// begun with what was known before.
func (a *AutoRelay) askAgain(r *relay, now time.Time) {
	switch {
	case r.busy:
		r.again = true
	case r.state == Reserved:
		r.refreshAt = now
	case r.state == BackingOff && (r.reason == Full || r.reason == Forbidden):
		r.retryAt, r.comeBack = now, time.Time{}
	}
}

// Draining tells that a relay will close what is left on it after the time
// given, and which others it names in its place. The reservation is kept, and
// advertised until another is or the relay takes no more circuits. Who is still
// there after that time, and all we have, is asked to stay.
func (a *AutoRelay) Draining(id peer.ID, left time.Duration, siblings []peer.AddrInfo) {
	a.tell(func(now time.Time) {
		r := a.relays[id]
		if r == nil || r.state != Reserved {
			return // a stranger
		}
		for _, s := range siblings[:min(len(siblings), maxSiblings)] {
			a.addCandidate(Candidate{AddrInfo: s, Source: sourceSibling}, now)
		}
		r.state, r.since, r.saidBye = Draining, now, now
		r.leavesAt = now.Add(max(left, leastDrain))
		if r.shown {
			r.reason = Drained
			a.lastLost, a.lostAt = r, now
		}
		a.emit(Event{Kind: Drains, Relay: id, Reason: Drained, Time: now})
		a.fillShown(now)
	})
}

const (
	// maxSiblings bounds the relays that a draining relay may name.
	maxSiblings = 8
	// leastDrain is when a relay is asked again that said it may go at any
	// moment and is still all we have.
	leastDrain = 2 * time.Second
)

// Load tells how full a relay is, from 0 to 1, and whether it had to refuse
// somebody: then it is left, if another reservation is held.
func (a *AutoRelay) Load(id peer.ID, load float64, full bool) {
	a.tell(func(now time.Time) {
		r := a.relays[id]
		if r == nil {
			return
		}
		r.load = min(max(load, 0), 1)
		if full {
			r.shedAt, r.spareTil = time.Time{}, time.Time{}
		}
		if full && !r.holds() && !r.busy {
			a.release(r, Shed, now) // it has a slot for us that we gave up without its knowledge
		}
		if full && r.state == Reserved && r.wish != Pinned && a.countReserved() > 1 {
			a.release(r, Shed, now)
			a.rest(now)
			r.state, r.reason = BackingOff, Shed
			r.retryAt = now.Add(backoff(Full, 1))
			a.fillShown(now)
		}
	})
}

// RetryAfter tells when a relay that had no room for us wants to be asked again.
// What is beyond the longest pause for such a relay is cut.
func (a *AutoRelay) RetryAfter(id peer.ID, d time.Duration) {
	a.tell(func(now time.Time) {
		r := a.relays[id]
		if r == nil || r.holds() {
			return
		}
		// The refusal itself may still be on its way to us.
		r.comeBack = now.Add(min(d, retryFullMax))
		if r.state == BackingOff && r.reason == Full {
			r.retryAt = r.comeBack
		}
	})
}

// maxCommands bounds the commands that wait for the loop.
const maxCommands = 64

// tell has the loop do something. When too much is waiting it is dropped: what
// relays tell us is a hint.
func (a *AutoRelay) tell(f func(now time.Time)) {
	select {
	case a.commands <- f:
	default:
	}
}

// command has the loop do something and waits for the outcome. It returns when
// the round is over, so that Status shows what was done.
func (a *AutoRelay) command(f func(now time.Time) bool) bool {
	done := make(chan bool, 1)
	select {
	case a.commands <- func(now time.Time) {
		ok := f(now)
		a.answer = func() { done <- ok }
	}:
	case <-a.ended:
		return false
	}
	select {
	case ok := <-done:
		return ok
	case <-a.ended:
		return false
	}
}
