package autorelay

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	// scarceFor is how long slots count as scarce after relays told us that
	// they are full: about as long as it takes until some are given back. It
	// is spread by a half, so that not all ask again at one moment.
	scarceFor = 10 * time.Minute
	// spareFor is for how long a relay counts as having room to spare. If that
	// changes, those who have nothing wait for as long, unless the relay says so.
	spareFor = 30 * time.Minute
	// scarceAfter is how many relays must be full, with no reservation given in
	// between, for slots to be scarce.
	scarceAfter = 2
)

// noteFull takes in that a relay had no room. When slots are scarce, whoever
// holds more than one gives the others back, so that nobody goes without.
func (a *AutoRelay) noteFull(r *relay, now time.Time) {
	a.fullRelays[r.id] = true
	r.shedAt, r.spareTil = time.Time{}, time.Time{}
	enough, held := scarceAfter, a.countHeld()
	if held >= a.cfg.Relays+a.cfg.Standby {
		enough = min(enough, len(a.relays)-held) // we have all we want, and there may be few others
	}
	if len(a.fullRelays) < enough || held == 0 {
		return
	}
	a.rest(now)
	a.shed(now)
}

const (
	// feelFirst is the least time after everything is in place until we feel
	// whether slots are scarce, spread by as much again: a crowd that comes at
	// one moment is all there by then.
	feelFirst = time.Minute
	// feelEvery is the pause between two times, spread by a half.
	feelEvery = 10 * time.Minute
)

// feel finds out whether slots are scarce, for relays that cannot tell: those
// that do not know relay notices. Whoever came early holds all that is wanted,
// is never refused, and would never learn that others have nothing. Two relays
// that we do not need are asked; what they give is given back at once.
func (a *AutoRelay) feel(ctx context.Context, now time.Time) {
	if a.feelAt.IsZero() {
		a.feelAt = now.Add(feelFirst + rand.N(feelFirst))
	}
	if now.Before(a.feelAt) {
		return
	}
	a.feelAt = now.Add(feelEvery/2 + rand.N(feelEvery))
	if a.countReserved() < 2 || !a.holdsMute() {
		return
	}
	for range scarceAfter {
		// One that was full before is as good to ask as any: where there are
		// few relays, there may be no other.
		r := a.pick(now, func(r *relay) bool { return (r.failures == 0 || r.reason == Full) && r.wish == NoWish })
		if r == nil {
			return
		}
		r.feeler = true
		a.reserve(ctx, r, now)
	}
}

// holdsMute reports whether one of the relays we hold does not know notices.
func (a *AutoRelay) holdsMute() bool {
	for _, r := range a.relays {
		if r.state != Reserved {
			continue
		}
		if protos, err := a.cfg.Host.Peerstore().SupportsProtocols(r.id, noticeID); err != nil || len(protos) == 0 {
			return true
		}
	}
	return false
}

// rest makes us content with what we hold for a while: what others gave back is
// for those who have nothing.
func (a *AutoRelay) rest(now time.Time) { a.scarceUntil = now.Add(scarceFor/2 + rand.N(scarceFor)) }

func (a *AutoRelay) scarce(now time.Time) bool { return now.Before(a.scarceUntil) }

// regained takes in that a relay gave us a slot. If it is one that we gave back
// for others, nobody wanted it, and giving it back again would help nobody.
func (r *relay) regained(now time.Time) {
	if !r.shedAt.IsZero() {
		r.shedAt, r.spareTil = time.Time{}, now.Add(spareFor)
	}
}

// shed gives back all reservations but the best, and but those that nobody else
// wanted.
func (a *AutoRelay) shed(now time.Time) {
	var keep *relay
	for _, r := range a.relays {
		if r.state == Reserved && (keep == nil || r.wish == Pinned || (keep.wish != Pinned && a.betterToShow(r, keep, now))) {
			keep = r
		}
	}
	if keep == nil {
		return
	}
	for _, r := range a.relays {
		if r.state == Reserved && r != keep && r.wish != Pinned && !now.Before(r.spareTil) {
			a.release(r, Shed, now)
			r.shedAt = now
		}
	}
	a.fillShown(now)
}
