package autorelay

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	// improveFirst is when, after everything is in place, a better relay is
	// first looked for: the first ones were those that answered first.
	improveFirst = 20 * time.Second
	// improveEvery is the pause between two looks, spread by a half.
	improveEvery = 10 * time.Minute
	// remeasure is how long a measured round trip time is good: routes and
	// load change, but seldom by much.
	remeasure = 2 * time.Hour
	// improveBy is how much better another relay must be to be worth a change
	// of address.
	improveBy = 0.7
)

// improve compares, now and then, the worst relay we hold with one of the
// others, and takes that if it is clearly better: first reserve, then release.
func (a *AutoRelay) improve(ctx context.Context, now time.Time) {
	if a.scarce(now) {
		return
	}
	a.feel(ctx, now)
	if a.improveAt.IsZero() {
		a.improveAt = now.Add(improveFirst)
	}
	if now.Before(a.improveAt) {
		return
	}
	a.improveAt = now.Add(improveEvery/2 + rand.N(improveEvery))
	due := func(r *relay) bool {
		return r.failures == 0 && (r.measured.IsZero() || now.Sub(r.measured) > remeasure)
	}
	r := a.pick(now, func(r *relay) bool { return r.wish == Preferred && due(r) })
	if r == nil {
		r = a.pick(now, due)
	}
	if r != nil {
		a.measure(ctx, r, now)
	}
}

// anyRelay is for pick.
func anyRelay(*relay) bool { return true }

// challenge decides about a relay that was measured; visited tells that we
// connected to it only for that.
func (a *AutoRelay) challenge(ctx context.Context, r *relay, visited bool, now time.Time) {
	worst := a.worst(now)
	if a.active && r.wish != Banned && worst != nil && a.cost(r, now) < improveBy*a.cost(worst, now) {
		r.ousts = worst.id
		a.reserve(ctx, r, now)
		return
	}
	r.state, r.since = Known, now
	if visited && r.wish != Pinned {
		a.disconnect(r)
	}
}

// worst is the relay we would give up first, if any.
func (a *AutoRelay) worst(now time.Time) *relay {
	var worst *relay
	for _, r := range a.relays {
		if r.state == Reserved && r.wish == NoWish && (worst == nil || a.cost(r, now) > a.cost(worst, now)) {
			worst = r
		}
	}
	return worst
}
