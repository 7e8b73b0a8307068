package autorelay

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// relay is what we know of one relay.
type relay struct {
	id       peer.ID
	text     string         // id as people read it; base58 is slow
	addrs    []ma.Multiaddr // where to dial it
	told     []ma.Multiaddr // what it last told of itself through identify
	sources  []string       // who found it, the first first; each once, and there are few kinds
	state    State
	since    time.Time // of the state
	busy     bool      // a call is under way
	again    bool      // to be asked again after that call
	removed  bool      // by the user; forgotten when that call ends
	rtt      time.Duration
	measured time.Time // when measure last found rtt
	blamed   time.Time // when its past was last made worse
	saidBye  time.Time // when it last said that it leaves
	shedAt   time.Time // when we gave its slot back in scarcity; zero if not
	spareTil time.Time // until when it counts as having room to spare
	load     float64   // 0 to 1, as the relay last told; 0 if not known
	roomy    bool      // its last reservation allowed circuits of some size
	comeBack time.Time // when it wants to be asked again
	feeler   bool      // asked only to see whether it has room
	wish     Wish
	ousts    peer.ID // asked in order to take this one's place; empty otherwise

	// while Reserved or Draining
	shown     bool      // advertised; otherwise it is the warm standby
	held      time.Time // since when
	expires   time.Time
	leavesAt  time.Time // while Draining: when it leaves, as it said
	refreshAt time.Time
	vouched   []ma.Multiaddr // the addresses in its reservation
	limitData uint64         // bytes each way; 0 = unlimited
	limitTime time.Duration  // 0 = unlimited
	probe     *probing
	missed    int // probes in a row

	// while BackingOff
	retryAt  time.Time
	lostAt   time.Time // when we last lost it; zero if it never served us
	failures int       // in a row
	flaps    int       // reservations in a row that ended early
	reason   Reason
	detail   string
}

// holds reports whether we have a reservation that works.
func (r *relay) holds() bool { return r.state == Reserved || r.state == Draining }

const (
	// settle is the pause before a relay that we just lost is tried again: a
	// restart needs a moment, and the first who come back get the slots.
	settle = 200 * time.Millisecond
	// retryFirst and retryMax bound the pause after failures: it doubles,
	// with full jitter, so that a crowd does not come back at one moment.
	retryFirst = 2 * time.Second
	retryMax   = time.Minute
	// retryFull applies when a relay has no room, which changes slowly, and
	// retryForbidden when it does not want us, which seldom changes.
	retryFull, retryFullMax           = 30 * time.Second, 10 * time.Minute
	retryForbidden, retryForbiddenMax = 10 * time.Minute, 2 * time.Hour
	// restartWindow is how long after its loss a relay counts as restarting:
	// while nothing else serves us, it is tried again after restartRetry, and
	// once it has been away for longer than a restart takes (restartUsual) after
	// restartShare of that time, so that it is used again soon after its return
	// and yet left in peace.
	restartWindow = time.Minute
	restartUsual  = 25 * time.Second
	restartRetry  = 400 * time.Millisecond
	restartShare  = 0.25
	// maxTTL caps what a relay may promise; go-libp2p's relays give 1 h.
	maxTTL = 24 * time.Hour
	// minTTL is the shortest reservation that is worth holding.
	minTTL = 10 * time.Second
	// steady is how long a reservation must have held for its loss to be an
	// accident. Relays that keep losing us sooner would have us change our
	// addresses, and tell everybody, several times a second.
	steady = time.Minute
	// flapsForgiven is how many early losses in a row are accidents too.
	flapsForgiven = 1
)

// lose handles the end of a reservation that we wanted to keep: the standby
// takes its place, the relay is tried again soon, others at once.
func (a *AutoRelay) lose(r *relay, why Reason, detail string, now time.Time) {
	wasShown := r.shown
	if now.Sub(r.held) < steady {
		r.flaps++
	} else {
		r.flaps = 0
	}
	if r.state == Reserved { // a relay that announced its end did nothing wrong
		a.blame(r, now)
	}
	a.drop(r, why, detail, now)
	r.state, r.since, r.lostAt = BackingOff, now, now
	r.reason, r.detail = why, detail
	r.failures = 0
	r.retryAt = now.Add(settle)
	switch why {
	case HopWithdrawn:
		r.failures = 1
		r.retryAt = now.Add(retryFull)
	case Full, Forbidden:
		r.failures = 1
		r.retryAt = now.Add(backoff(why, 1))
	}
	if r.flaps > flapsForgiven {
		r.failures = r.flaps
		r.retryAt = now.Add(backoff(why, r.flaps))
	}
	if why == ProbesMissed {
		// The connection is dead, only the transport does not know it yet.
		// Closing it also ends the circuits that run over it, so that their
		// users look for another way. It may block on the dead peer.
		r.retryAt = later(r.retryAt, now.Add(restartRetry))
		a.work.Go(func() { a.cfg.Host.Network().ClosePeer(r.id) })
	}
	if wasShown {
		a.lastLost, a.lostAt = r, now
		a.fillShown(now)
	}
}

// foundBy names the sources, for people to read.
func (r *relay) foundBy() string { return strings.Join(r.sources, ", ") }

// drop forgets the reservation itself.
func (a *AutoRelay) drop(r *relay, why Reason, detail string, now time.Time) {
	if r.probe != nil {
		r.probe.stop()
		r.probe = nil
	}
	a.cfg.Host.ConnManager().Unprotect(r.id, protectTag)
	r.expires, r.refreshAt, r.leavesAt = time.Time{}, time.Time{}, time.Time{}
	r.vouched, r.missed = nil, 0
	r.since, r.shown = now, false
	a.emit(Event{Kind: Lost, Relay: r.id, Reason: why, Detail: detail, Time: now})
}

// blameAgain is how often an outage counts in the relay's past: about as often
// as a refresh would have while it served us.
const blameAgain = 30 * time.Minute

func (a *AutoRelay) blame(r *relay, now time.Time) {
	r.blamed = now
	a.cfg.History.note(r.id, bad, now)
}

// fail handles a relay that did not give us a reservation.
func (a *AutoRelay) fail(r *relay, why Reason, detail string, now time.Time) {
	r.state, r.since = BackingOff, now
	r.reason, r.detail = why, detail
	r.failures++
	r.retryAt = now.Add(backoff(why, r.failures))
	if (why == Unreachable || why == Misbehaved) && now.Sub(r.blamed) >= blameAgain {
		a.blame(r, now)
	}
	if why == Full && a.countHeld() == 0 {
		// Whoever has nothing asks often: a full relay asks others to make room.
		r.retryAt = now.Add(min(backoff(Unreachable, r.failures), retryFull))
	}
	if why == Full && r.comeBack.After(now) {
		r.retryAt = r.comeBack
	}
	if a.restarting(r, now) {
		pause := a.restartPause(r, now)
		r.retryAt = now.Add(pause/2 + rand.N(pause/2))
	}
}

// restartPause is the pause before a relay that restarts is tried again. When
// several went at one time it is rather we who are offline: then the attempts
// of one are shared by all.
func (a *AutoRelay) restartPause(r *relay, now time.Time) time.Duration {
	pause := restartRetry
	if away := now.Sub(r.lostAt); away > restartUsual {
		pause = time.Duration(restartShare * float64(away))
	}
	lost := 0
	for _, o := range a.relays {
		if !o.lostAt.IsZero() && now.Sub(o.lostAt) < restartWindow {
			lost++
		}
	}
	return min(pause*time.Duration(max(lost, 1)), retryMax)
}

// restarting reports whether r served us a moment ago, can just not be
// reached, and nothing else serves us: then it is worth hurrying.
func (a *AutoRelay) restarting(r *relay, now time.Time) bool {
	return !r.lostAt.IsZero() && now.Sub(r.lostAt) < restartWindow &&
		r.reason != Full && r.reason != Forbidden && r.reason != Misbehaved &&
		r.flaps <= flapsForgiven && a.countHeld() == 0
}

// sooner shortens the pause of a relay that shows signs of life, except for one
// that has made a habit of it.
func (r *relay) sooner() {
	if at := r.since.Add(settle); r.state == BackingOff && r.flaps <= flapsForgiven && at.Before(r.retryAt) {
		r.retryAt = at
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// backoff is the pause after the nth failure in a row, with full jitter but
// never less than a quarter, so that it cannot become a busy loop.
func backoff(why Reason, n int) time.Duration {
	base, limit := retryFirst, retryMax
	switch why {
	case Full:
		base, limit = retryFull, retryFullMax
	case Forbidden:
		base, limit = retryForbidden, retryForbiddenMax
	}
	d := min(base<<min(n-1, 10), limit)
	return d/4 + rand.N(d*3/4)
}

// expire ends reservations that ran out although we tried to refresh them, and
// those whose relay has gone as it said it would.
func (a *AutoRelay) expire(now time.Time) {
	for _, r := range a.relays {
		switch {
		case r.state == Reserved && !now.Before(r.expires):
			a.lose(r, Expired, r.detail, now)
		case r.state == Draining && (!now.Before(r.expires) || !now.Before(r.leavesAt) && !r.shown):
			a.lose(r, Drained, r.detail, now)
		case r.state == Draining && !now.Before(r.leavesAt):
			// It is still there, and all we have: ask whether it will stay.
			r.state, r.since, r.leavesAt, r.refreshAt = Reserved, now, time.Time{}, now
		}
	}
}

// startWork refreshes what is due and asks for what is missing.
func (a *AutoRelay) startWork(ctx context.Context, now time.Time) {
	if !a.active {
		return
	}
	asking, slow, again := 0, 0, 0
	for _, r := range a.relays {
		if r.state == Reserving && r.failures > 0 {
			again++
		}
		switch {
		case r.state == Reserved:
			if !r.busy && !now.Before(r.refreshAt) {
				a.reserve(ctx, r, now)
			}
		case r.state != Reserving: // of calls, only those for what is missing count
		case now.Sub(r.since) < hedge:
			asking++
		default:
			slow++
		}
	}
	missing := a.missing(now)
	if missing <= 0 {
		a.improve(ctx, now)
		return
	}
	// With nothing good in hand, ask more than needed: the first answer wins.
	doubtful := a.doubtful()
	if doubtful {
		missing = max(missing, parallel)
	}
	for asking < missing && asking+slow < max(missing, parallel) {
		r := a.pick(now, anyRelay)
		if r == nil {
			return
		}
		a.reserve(ctx, r, now)
		asking++
		if r.failures > 0 {
			again++
		}
	}
	// When all relays died, calls to them take every place for reserveTimeout.
	// One that has not failed does not wait for those that have.
	for doubtful && asking+slow-again < missing {
		r := a.pick(now, func(r *relay) bool { return r.failures == 0 })
		if r == nil {
			return
		}
		a.reserve(ctx, r, now)
		asking++
	}
}

const (
	// parallel is how many relays are asked at once while we have none, and how
	// many more that have not failed beside calls to those that have.
	parallel = 4
	// hedge is how long a call may take before the next relay is asked beside
	// it: those that are dead take until reserveTimeout to show it.
	hedge = time.Second
)
