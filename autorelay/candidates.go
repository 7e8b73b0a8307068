package autorelay

import (
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Candidate is a peer that may be a relay.
type Candidate struct {
	peer.AddrInfo
	// Source says where it came from, for people to read.
	Source string
	// Alive tells that we are connected to it right now and that it offers
	// the hop protocol, which is reason enough to try again early.
	Alive bool
}

const (
	// maxQueued bounds candidates that wait for the loop; more are dropped,
	// discovery will bring them again.
	maxQueued = 256
	// maxKnown bounds the relays that are remembered, good and bad.
	maxKnown = 512
)

// sourceSibling is the source of relays that another one named.
const sourceSibling = "sibling"

// Add offers a candidate. It never blocks; when the queue is full the
// candidate is dropped.
func (a *AutoRelay) Add(c Candidate) {
	select {
	case a.candidates <- c:
	default:
	}
}

func (a *AutoRelay) addCandidate(c Candidate, now time.Time) {
	addrs := a.usable(c.Addrs)
	if c.ID == a.cfg.Host.ID() || (len(addrs) == 0 && !c.Alive) {
		return
	}
	r := a.relays[c.ID]
	if r != nil && r.removed {
		r.removed, r.addrs = false, nil
	}
	if r == nil {
		if len(a.relays) >= maxKnown && !a.forgetOne() {
			return
		}
		r = &relay{id: c.ID, text: c.ID.String(), state: Known, since: now}
		a.relays[c.ID] = r
	}
	if !slices.Contains(r.sources, c.Source) {
		r.sources = append(r.sources, c.Source)
		a.emit(Event{Kind: Found, Relay: c.ID, Detail: c.Source, Time: now})
	}
	// A relay is not to be believed about the addresses of another.
	if len(addrs) > 0 && (c.Source != sourceSibling || len(r.addrs) == 0) {
		r.addrs = addrs
	}
	if c.Alive && r.reason != Full && r.reason != Forbidden {
		r.sooner()
	}
}

// forgetOne makes room by forgetting the relay that failed most, and of several
// one that we know least of.
func (a *AutoRelay) forgetOne() bool {
	worse := func(x, y *relay) bool {
		return x.failures > y.failures || x.failures == y.failures && x.rtt == 0 && y.rtt > 0
	}
	var worst *relay
	for _, r := range a.relays {
		if !r.holds() && !r.busy && r.wish == NoWish && (worst == nil || worse(r, worst)) {
			worst = r
		}
	}
	if worst == nil {
		return false
	}
	delete(a.relays, worst.id)
	return true
}
