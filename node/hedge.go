package node

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// How a peer behind several relays is dialled:
//
//	relay 1  ├─ get there ─┤├─ CONNECT … silence
//	relay 2  ├─ get there ─┤      hold      ├─ CONNECT ── handshakes ─▶ wins
//	relay 3  │   stagger   ├─ get there ─┤ cancelled
//
// Getting to a relay goes in parallel: to the best one at once, to the second
// as well unless we are connected to the first, to each further one a stagger
// later or when an earlier one failed. The CONNECT goes through the relay that
// was reached first; through another as soon as that failed or nothing has
// come from it for the time of a hold, so that in the usual case the peer sees
// one circuit only. The first circuit that stands wins, and the swarm, which
// started them all, cancels the others.

const (
	// stagger is the time between two relays that are got to, and the longest
	// hold; the figure is RFC 8305's (section 5, "Happy Eyeballs").
	stagger = 250 * time.Millisecond
	// minHold is the shortest hold: scheduling and one lost packet on a LAN.
	minHold = 100 * time.Millisecond
	// maxLanes is how many relays a dial tries within seconds; the swarm has
	// room for 8 dials per peer (swarm.DefaultPerPeerRateLimit), some of them
	// direct. Further relays follow at the pace of laneDelay.
	maxLanes  = 4
	laneDelay = time.Second
)

// holdFor is how long nothing may come from a relay under a CONNECT before
// another is tried as well. An answer takes one round trip to the relay and
// one from there to the peer, which is likely as long, and some margin.
func holdFor(h host.Host, relay peer.ID) time.Duration {
	rtt := h.Peerstore().LatencyEWMA(relay)
	if rtt == 0 {
		return stagger
	}
	return min(max(rtt*5/2, minHold), stagger)
}

// rank is the swarm's dial ranker: direct addresses as usual, and circuits
// beside them rather than after them. The race does the rest. Addresses on this
// machine and on its networks get a head start: what is there answers at once,
// and a relay beside it would win by chance.
func (c *circuits) rank(addrs []ma.Multiaddr) []network.AddrDelay {
	var direct []ma.Multiaddr
	circuits := make(map[peer.ID][]ma.Multiaddr)
	for _, a := range addrs {
		if info := relayOf(a); info != nil {
			circuits[info.ID] = append(circuits[info.ID], a)
		} else {
			direct = append(direct, a)
		}
	}
	c.tellContacts(direct)
	out := swarm.DefaultDialRanker(direct)
	var headStart time.Duration
	if slices.ContainsFunc(direct, manet.IsPrivateAddr) {
		headStart = minHold
	}
	for i, relay := range c.order(circuits) {
		for _, a := range circuits[relay] {
			out = append(out, network.AddrDelay{Addr: a, Delay: headStart + time.Duration(max(0, i+1-maxLanes))*laneDelay})
		}
	}
	return out
}

// tellContacts tells who is no stranger from now on, dial or not: the swarm
// reports no dial that fails.
func (c *circuits) tellContacts(addrs []ma.Multiaddr) {
	if c.contacted == nil {
		return
	}
	for _, a := range addrs {
		if ip, err := manet.ToIP(a); err == nil {
			if ip, ok := netip.AddrFromSlice(ip); ok {
				c.contacted(ip)
			}
		}
	}
}

// order sorts relays for a dial: those we are connected to, the nearest first;
// then the others.
func (c *circuits) order(relays map[peer.ID][]ma.Multiaddr) []peer.ID {
	type known struct {
		id    peer.ID
		class int
		rtt   time.Duration
	}
	list := make([]known, 0, len(relays))
	for id := range relays {
		k := known{id: id, class: 1, rtt: c.host.Peerstore().LatencyEWMA(id)}
		if c.host.Network().Connectedness(id) == network.Connected {
			k.class = 0
		}
		if k.rtt == 0 {
			k.rtt = time.Hour // not known: after those that are
		}
		list = append(list, k)
	}
	slices.SortFunc(list, func(x, y known) int {
		return cmp.Or(cmp.Compare(x.class, y.class), cmp.Compare(x.rtt, y.rtt), cmp.Compare(x.id, y.id))
	})
	out := make([]peer.ID, len(list))
	for i, k := range list {
		out[i] = k.id
	}
	return out
}

// race is what the dials to one peer through several relays share.
type race struct {
	// static
	began   time.Time
	stagger time.Duration
	free    int // lanes that may begin at once

	running int // dials under way; guarded by circuits.mu

	mu      sync.Mutex // guards the fields below
	order   []peer.ID
	lanes   map[peer.ID]bool // relays that were or are tried
	failed  int              // how many of them
	flying  int              // CONNECTs under way
	heard   time.Time        // when one of them was sent or showed life
	hold    time.Duration    // how long the last one may be silent
	changed chan struct{}    // closed and replaced when somebody may go on
}

// enter begins a dial to p through a relay and tells its rank. The rank is
// negative if the relay is tried already.
func (c *circuits) enter(p, relay peer.ID) (r *race, rank int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r = c.races[p]; r == nil {
		r = c.newRace(p)
		c.races[p] = r
	}
	rank, ok := r.join(relay)
	if !ok {
		return nil, -1
	}
	r.running++
	return r, rank
}

func (c *circuits) newRace(p peer.ID) *race {
	relays := make(map[peer.ID][]ma.Multiaddr)
	for _, a := range c.host.Peerstore().Addrs(p) {
		if info := relayOf(a); info != nil && !c.carries(info.ID, p) {
			relays[info.ID] = nil
		}
	}
	r := &race{
		began: time.Now(), stagger: stagger, free: 2,
		order: c.order(relays), lanes: make(map[peer.ID]bool), changed: make(chan struct{}),
	}
	if len(r.order) > 0 && c.host.Network().Connectedness(r.order[0]) == network.Connected {
		// It will most likely do, and a connection to the second is not free.
		r.free, r.stagger = 1, holdFor(c.host, r.order[0])
	}
	return r
}

// leave ends a dial.
func (c *circuits) leave(p peer.ID, r *race, err error) {
	c.mu.Lock()
	if r.running--; r.running == 0 {
		delete(c.races, p)
	}
	c.mu.Unlock()
	if err != nil {
		r.update(func() { r.failed++ })
	}
}

func (r *race) join(relay peer.ID) (rank int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lanes[relay] {
		return 0, false
	}
	r.lanes[relay] = true
	if rank = slices.Index(r.order, relay); rank < 0 {
		rank = len(r.order)
		r.order = append(r.order, relay)
	}
	return rank, true
}

// begin waits until the relay of this rank may be got to.
func (r *race) begin(ctx context.Context, rank int) error {
	return r.wait(ctx, func() time.Time {
		slot := r.began.Add(time.Duration(rank-r.free-r.failed+1) * r.stagger)
		if q := r.quietAt(); q.After(slot) {
			slot = q
		}
		return slot
	}, nil)
}

// turn waits until a CONNECT may be sent, and takes the turn.
func (r *race) turn(ctx context.Context, hold time.Duration) error {
	return r.wait(ctx, r.quietAt, func(now time.Time) {
		r.flying++
		r.heard, r.hold = now, hold
	})
}

// quietAt is when nothing will have been heard for too long. mu must be held.
func (r *race) quietAt() time.Time {
	if r.flying == 0 {
		return time.Time{}
	}
	return r.heard.Add(r.hold)
}

// landed ends a turn.
func (r *race) landed() { r.update(func() { r.flying-- }) }

// alive tells that something came from a relay under a CONNECT.
func (r *race) alive() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = time.Now()
}

func (r *race) update(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.changed)
	r.changed = make(chan struct{})
}

// wait waits until the time that at tells, which may change, and calls then.
// Both are called with mu held.
func (r *race) wait(ctx context.Context, at func() time.Time, then func(now time.Time)) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		r.mu.Lock()
		now := time.Now()
		d := at().Sub(now)
		if d <= 0 && then != nil {
			then(now)
		}
		changed := r.changed
		r.mu.Unlock()
		if d <= 0 {
			return nil
		}
		select {
		case <-time.After(d):
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
