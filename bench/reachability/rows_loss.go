package main

import (
	"time"
)

// lossRows are about relays that go away.
func lossRows() []*scenario {
	return []*scenario{
		{
			id: "3a", row: 3, sides: everySide,
			figures: []figure{
				{id: "3a", what: "1 of 2 used relays vanishes: stale address kept", unit: seconds, bound: bounded(3)},
				{id: "3b", what: "  … without any live circuit address", unit: seconds, bound: bounded(0)},
			},
			run: func(w *world) values { return vanish(w, 1, "3a", "3b", "") },
		},
		{
			id: "3c", row: 3, sides: everySide,
			figures: []figure{
				{id: "3c", what: "both used relays vanish, 4 others live: stale addresses kept", unit: seconds, bound: bounded(3)},
				{id: "3d", what: "  … without a live circuit address after the first noticing", unit: seconds, bound: bounded(0)},
				{id: "3e", what: "  … without a live circuit address in all", unit: seconds, bound: bounded(3)},
			},
			run: func(w *world) values { return vanish(w, 2, "3c", "3e", "3d") },
		},
		{
			id: "4", row: 4, sides: everySide,
			figures: []figure{
				{id: "4a", what: "relay's service stops, connection stays: its address is gone", unit: seconds, bound: bounded(1)},
				{id: "4b", what: "  … and there is another in its place", unit: seconds, bound: bounded(1)},
			},
			run: serviceStops,
		},
		{
			// With go-libp2p's relays on all sides: ours have no switch to
			// refuse a single peer yet.
			id: "5", row: 5, sides: []side{stock, mixed},
			figures: []figure{
				{id: "5", what: "refresh refused by both, 6 candidates: no circuit address for", unit: seconds, bound: bounded(0)},
			},
			run: refreshRefused,
		},
	}
}

// candidates is how many relays there are where more are known than used.
const candidates = 6

// vanish takes n used relays off the network at once.
func vanish(w *world, n int, stale, without, after string) values {
	s := w.private(w.relaysOf(candidates, limits{}))
	s.settle(2)
	gone := s.used()[:n]
	for _, r := range gone {
		r.vanish()
	}
	kept := func() (k int) {
		for _, r := range gone {
			if s.through(r) {
				k++
			}
		}
		return k
	}
	begun := time.Now()
	noticed := time.Duration(-1) // when the first of the stale addresses went
	staleSpan := &span{holds: func() bool { return kept() > 0 }}
	withoutSpan := &span{holds: func() bool { return s.live() == 0 }}
	afterSpan := &span{holds: func() bool {
		if noticed < 0 && kept() < n {
			noticed = time.Since(begun)
		}
		return noticed >= 0 && s.live() == 0
	}}
	_, ok := watch(horizon, func() bool { return kept() == 0 && s.live() > 0 }, staleSpan, withoutSpan, afterSpan)
	v := values{}
	v.took(stale, staleSpan.total, ok || kept() == 0)
	v.took(without, withoutSpan.total, ok || s.live() > 0)
	if after != "" {
		v.took(after, afterSpan.total, ok || s.live() > 0)
	}
	return v
}

// serviceStops removes the hop protocol of a used relay.
func serviceStops(w *world) values {
	s := w.private(w.relaysOf(candidates, limits{}))
	s.settle(2)
	r := s.used()[0]
	r.withdraw()
	gone := &span{holds: func() bool { return s.through(r) }}
	took, ok := watch(horizon, func() bool { return !s.through(r) && s.live() >= 2 }, gone)
	v := values{}
	v.took("4a", gone.total, ok || !s.through(r))
	v.took("4b", took, ok)
	return v
}

// refreshRefused makes both relays refuse when the node wants to stay.
func refreshRefused(w *world) values {
	// Short enough that a refresh comes; on each side it does so in its own
	// time: go-libp2p's 2 to 3 minutes before the end.
	s := w.private(w.relaysOf(candidates, limits{ttl: 5 * time.Minute}))
	s.settle(2)
	for _, r := range s.used() {
		r.deny.Store(true)
	}
	without := &span{holds: func() bool { return !s.any() }}
	// Until the node uses two relays that did not refuse it.
	_, ok := watch(horizon, func() bool {
		good := 0
		for _, r := range s.used() {
			if !r.deny.Load() {
				good++
			}
		}
		return good >= 2
	}, without)
	v := values{}
	v.took("5", without.total, ok || s.any())
	return v
}
