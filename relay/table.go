package relay

import (
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/relay/fair"
)

// table is what the relay owes to whom: the reservations, the circuits, and the
// counts that bound them. Every operation on it takes the same time, however
// many there are.
type table struct {
	mu       sync.Mutex // guards the fields below
	held     map[peer.ID]*reservation
	expiry   wheel
	lapsed   []peer.ID // whose reservation was found to be over, since the last sweep
	ips      counts[netip.Addr]
	subnets  counts[netip.Prefix]
	systems  counts[uint32]
	classes  counts[string] // reservations by the name of their class
	ends     map[peer.ID]*end
	circuits map[uint64]*circuit
	pairs    counts[pair]       // circuits from a source to a destination
	sources  counts[netip.Addr] // circuits by where they were opened
	last     uint64             // the number of the newest circuit
}

// reservation is a peer's right to be reached through us.
type reservation struct {
	peer          peer.ID
	origin        origin
	class         *Class
	made, expires time.Time
	asked         time.Time // when the peer asked for it last
	told          time.Time // when it was last asked to make room

	// The wheel's: see expiry.go.
	slot       int64
	prev, next *reservation
}

// origin is where a request comes from, as far as it is counted. The zero value
// is a transport without IP addresses.
type origin struct {
	ip     netip.Addr
	system uint32 // 0 if it is not known
}

// host is the address as far as it tells hosts apart: of IPv6 the /64, which a
// host has to itself.
func (o origin) host() netip.Addr {
	if !o.ip.Is6() {
		return o.ip
	}
	p, _ := o.ip.Prefix(64)
	return p.Addr()
}

// subnet is the /24 (IPv4) or /48 (IPv6) of an address.
func (o origin) subnet() netip.Prefix {
	bits := 24
	if o.ip.Is6() {
		bits = 48
	}
	p, _ := o.ip.Prefix(bits) // zero for the zero address
	return p
}

// pair is a source and a destination.
type pair struct{ src, dst peer.ID }

// perPair is how many circuits one source may have to one destination, of those
// that either may have in all: a stranger must not be able to take them all.
func perPair(most int) int { return min(most, max(4, most/4)) }

// end is a peer with circuits, which share its part of the bandwidth.
type end struct {
	circuits    map[*circuit]struct{}
	share       *fair.Share
	rate, burst int64 // of share
}

func newTable() *table {
	return &table{
		held: make(map[peer.ID]*reservation), expiry: newWheel(), ends: make(map[peer.ID]*end), circuits: make(map[uint64]*circuit),
		ips: make(counts[netip.Addr]), subnets: make(counts[netip.Prefix]), systems: make(counts[uint32]), classes: make(counts[string]),
		pairs: make(counts[pair]), sources: make(counts[netip.Addr]),
	}
}

// counts counts by key, and forgets keys at zero.
type counts[K comparable] map[K]int

func (c counts[K]) add(k K, n int) {
	if c[k] += n; c[k] <= 0 {
		delete(c, k)
	}
}

// reserve gives p a reservation, or refreshes the one that it has: a peer never
// holds two, wherever it comes from. fresh tells which.
func (t *table) reserve(p peer.ID, from origin, class *Class, pol *policy, now time.Time) (expires time.Time, fresh bool, why Reason) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.heldLocked(p, now)
	if old != nil {
		t.dropLocked(old) // it must not stand in its own way
	}
	if why = t.roomLocked(from, class, pol); why != "" {
		if old != nil {
			// It moved to where there is no room, or the limits were lowered.
			// What it was promised holds, and is not prolonged.
			t.putLocked(old)
		}
		return time.Time{}, false, why
	}
	r := old
	if r == nil {
		r = &reservation{peer: p, made: now}
	}
	r.origin, r.class, r.asked, r.expires = from, class, now, now.Add(pol.ReservationTTL)
	t.putLocked(r)
	return r.expires, old == nil, ""
}

// roomLocked tells what keeps one more reservation out.
func (t *table) roomLocked(from origin, class *Class, pol *policy) Reason {
	switch {
	case len(t.held) >= pol.Reservations:
		return Full
	case class.Reservations > 0 && t.classes[class.Name] >= class.Reservations:
		return ClassFull
	case !from.ip.IsValid():
		return ""
	case t.ips[from.host()] >= pol.ReservationsPerIP:
		return AddressFull
	case t.subnets[from.subnet()] >= pol.ReservationsPerSubnet:
		return SubnetFull
	case from.system != 0 && t.systems[from.system] >= pol.ReservationsPerASN:
		return SystemFull
	}
	return ""
}

func (t *table) putLocked(r *reservation) {
	t.held[r.peer] = r
	t.expiry.add(r)
	t.countLocked(r, 1)
}

func (t *table) dropLocked(r *reservation) {
	delete(t.held, r.peer)
	t.expiry.remove(r)
	t.countLocked(r, -1)
}

func (t *table) countLocked(r *reservation, n int) {
	t.classes.add(r.class.Name, n)
	if !r.origin.ip.IsValid() {
		return
	}
	t.ips.add(r.origin.host(), n)
	t.subnets.add(r.origin.subnet(), n)
	if r.origin.system != 0 {
		t.systems.add(r.origin.system, n)
	}
}

// heldLocked is the reservation of a peer, unless it is over: that is not left
// to the next sweep, which tells of it.
func (t *table) heldLocked(p peer.ID, now time.Time) *reservation {
	r := t.held[p]
	if r != nil && !now.Before(r.expires) {
		t.dropLocked(r)
		t.lapsed = append(t.lapsed, p)
		return nil
	}
	return r
}

// cancel ends a reservation, unless it was asked for again after t0, if that is
// not zero. It tells whether there was one.
func (t *table) cancel(p peer.ID, t0 time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.held[p]
	if r == nil || (!t0.IsZero() && r.asked.After(t0)) {
		return false
	}
	t.dropLocked(r)
	return true
}

// sweep ends the reservations that were not refreshed, and returns whose.
func (t *table) sweep(now time.Time) []peer.ID {
	t.mu.Lock()
	defer t.mu.Unlock()
	gone := t.lapsed
	t.lapsed = nil
	for _, r := range t.expiry.due(now) {
		gone = append(gone, r.peer)
		t.dropLocked(r)
	}
	return gone
}

func (t *table) reservations() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.held)
}

// has tells whether p holds a reservation.
func (t *table) has(p peer.ID, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.heldLocked(p, now) != nil
}

// holders lists those who hold a reservation, in random order as Go's maps are.
func (t *table) holders() []peer.ID {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]peer.ID, 0, len(t.held))
	for p := range t.held {
		list = append(list, p)
	}
	return list
}

// askable lists up to n holders who were not asked to make room since t0, and
// notes that they are asked now. It looks at a sample: this is done again soon,
// and there may be very many.
func (t *table) askable(n int, t0, now time.Time, willing func(peer.ID) bool) []peer.ID {
	var list []peer.ID
	for _, p := range t.sample(8*n, t0) {
		if len(list) == n {
			break
		}
		if willing(p) { // not under the lock
			list = append(list, p)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range list {
		if r := t.held[p]; r != nil {
			r.told = now
		}
	}
	return list
}

func (t *table) sample(n int, t0 time.Time) []peer.ID {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []peer.ID
	looked := 0
	for p, r := range t.held {
		if looked++; looked > 8*n || len(list) == n {
			break
		}
		if !r.told.After(t0) {
			list = append(list, p)
		}
	}
	return list
}

// open takes the place of a circuit, whose ends are set and whose class is that
// of its source, unless something keeps it out. The destination needs a
// reservation unless it is reached through another relay. Who is trusted more
// decides what the circuit may.
func (t *table) open(c *circuit, elsewhere bool, pol *policy, now time.Time, share func() *fair.Share) Reason {
	t.mu.Lock()
	defer t.mu.Unlock()
	held := t.heldLocked(c.dst, now)
	if held == nil && !elsewhere {
		return NoReservation
	}
	c.payer = c.src
	if held != nil && held.class.rank >= c.class.rank {
		c.class, c.payer = held.class, c.dst
	}
	if len(t.circuits) >= pol.Circuits {
		return CircuitsFull
	}
	if most := c.class.CircuitsPerPeer; most > 0 && max(t.countOfLocked(c.src), t.countOfLocked(c.dst)) >= most {
		return PeerCircuits
	}
	if most := c.class.CircuitsPerPeer; most > 0 && t.pairs[pair{c.src, c.dst}] >= perPair(most) {
		return PeerCircuits
	}
	if c.from.IsValid() && t.sources[c.from] >= pol.CircuitsPerIP {
		return AddrCircuits
	}
	for _, p := range []peer.ID{c.src, c.dst} {
		e := t.ends[p]
		if e == nil {
			e = &end{circuits: make(map[*circuit]struct{}, 1), share: share()}
			t.ends[p] = e
		}
		e.circuits[c] = struct{}{}
	}
	s := t.ends[c.payer].shareFor(c.class)
	c.up.flow, c.down.flow = s.Flow(), s.Flow()
	t.last++
	c.id, c.opened = t.last, now
	t.circuits[c.id] = c
	t.countCircuitLocked(c, 1)
	return ""
}

func (t *table) countCircuitLocked(c *circuit, n int) {
	t.pairs.add(pair{c.src, c.dst}, n)
	if c.from.IsValid() {
		t.sources.add(c.from, n)
	}
}

// shareFor is the share of the bandwidth in which all circuits of a peer are,
// at the rate of its best class.
func (e *end) shareFor(class *Class) *fair.Share {
	if class.Rate != e.rate || class.Burst != e.burst {
		e.rate, e.burst = class.Rate, class.Burst
		e.share.SetRate(e.rate, e.burst)
	}
	return e.share
}

func (t *table) countOf(p peer.ID) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.countOfLocked(p)
}

func (t *table) countOfLocked(p peer.ID) int {
	if e := t.ends[p]; e != nil {
		return len(e.circuits)
	}
	return 0
}

// close gives a circuit's place back, and returns the ends that have no other.
func (t *table) close(c *circuit) (idle []peer.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, open := t.circuits[c.id]; open {
		delete(t.circuits, c.id)
		t.countCircuitLocked(c, -1)
	}
	for _, p := range []peer.ID{c.src, c.dst} {
		e := t.ends[p]
		if e == nil {
			continue
		}
		delete(e.circuits, c)
		if len(e.circuits) == 0 {
			delete(t.ends, p)
			idle = append(idle, p)
		}
	}
	return idle
}

// circuitsOf lists the circuits of one peer, or all if it is empty.
func (t *table) circuitsOf(p peer.ID) []*circuit {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []*circuit
	if p != "" {
		if e := t.ends[p]; e != nil {
			for c := range e.circuits {
				list = append(list, c)
			}
		}
		return list
	}
	for _, c := range t.circuits {
		list = append(list, c)
	}
	return list
}

// heldInfo is what others may see of a reservation.
type heldInfo struct {
	peer          peer.ID
	origin        origin
	class         *Class
	made, expires time.Time
	circuits      int
}

func (t *table) list() []heldInfo {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]heldInfo, 0, len(t.held))
	for p, h := range t.held {
		out = append(out, heldInfo{p, h.origin, h.class, h.made, h.expires, t.countOfLocked(p)})
	}
	return out
}

// setClass puts a reservation into another class, which it may overfill.
func (t *table) setClass(p peer.ID, class *Class) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h := t.held[p]; h != nil {
		t.countLocked(h, -1)
		h.class = class
		t.countLocked(h, 1)
	}
}

// setRate changes the rate of a peer's circuits.
func (t *table) setRate(p peer.ID, class *Class) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.ends[p]; e != nil {
		e.shareFor(class)
	}
}

func (t *table) openCircuits() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.circuits)
}
