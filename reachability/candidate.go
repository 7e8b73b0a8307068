package reachability

import (
	"bytes"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// source says how we came to know an address of ours. A higher one wins.
type source int

const (
	fromObserved  source = iota // a peer saw us there (identify)
	fromInterface               // one of our interfaces or port mappings has it
	fromAnnounced               // the operator says so
)

func (s source) String() string {
	return [...]string{"observed", "interface", "announced"}[s]
}

const (
	// maxObserved bounds the observed addresses that are tracked: a symmetric
	// NAT shows every peer another one, and peers may invent them.
	maxObserved = 6
	// maxOwn bounds interface and announced addresses.
	maxOwn = 24
	// maxWitnesses bounds observers and outcomes kept per address.
	maxWitnesses = 8
	// observedTTL is how long an observed address lives when nobody repeats
	// it and nobody who saw it is connected any more: RFC 4787 section 4.3 lets NATs forget idle UDP mappings after 2 to 5
	// minutes, so an old observation says nothing about today's mapping.
	observedTTL = 10 * time.Minute
)

// candidate is one address at which the node might be reachable.
type candidate struct {
	addr      ma.Multiaddr
	source    source
	observers map[peer.ID]time.Time
	lastSeen  time.Time
	inFlight  bool
	next      time.Time // when to probe again

	outcomes  map[peer.ID]outcomeAt // the latest per server
	reachable Reachability
	failures  int // in a row
	declines  int // in a row
}

type outcomeAt struct {
	outcome outcome
	at      time.Time
	asked   time.Time // later than at if the server declined since
}

func newCandidate(addr ma.Multiaddr, src source, now time.Time) *candidate {
	c := &candidate{
		addr: addr, source: src, lastSeen: now, next: now, reachable: Unknown,
		observers: make(map[peer.ID]time.Time),
		outcomes:  make(map[peer.ID]outcomeAt),
	}
	if src == fromAnnounced && !manet.IsPublicAddr(addr) {
		c.reachable = Public
	}
	return c
}

func (c *candidate) key() string { return string(c.addr.Bytes()) }

// probeable reports whether AutoNAT servers judge such an address at all.
func (c *candidate) probeable() bool { return manet.IsPublicAddr(c.addr) }

// trusted reports whether we are sure enough that the address is ours to pay
// for its dial data (30 to 100 kB, autonat v2 spec, "amplification attack
// prevention"). A single peer's word is not enough.
func (c *candidate) trusted() bool { return c.source != fromObserved || len(c.observers) >= 2 }

const (
	// publicPatience is the number of failures in a row that turn a reachable
	// address unreachable: one lost packet must not stop a relay.
	publicPatience = 3

	recheckDoubt   = 5 * time.Second  // a reachable address failed: ask again at once
	confirmOther   = time.Second      // ask a second server
	confirmSame    = time.Minute      // only one server known: ask it again
	recheckPublic  = 15 * time.Minute // confirmed by two servers
	recheckPrivate = 10 * time.Minute // a NAT seldom opens by itself
	afterDecline   = 10 * time.Second // busy, or cannot dial this transport
	afterDeclines  = 5 * time.Minute  // declined three times in a row
)

// record takes in what one server found, and says when to ask next.
func (c *candidate) record(r result, otherServer bool, now time.Time) {
	if r.outcome == declined {
		c.declines++
		c.next = now.Add(afterDecline)
		if c.declines >= 3 {
			c.next = now.Add(afterDeclines)
		}
		// Remember it, so that another server is asked first; but it does not
		// take back what the server found before.
		if o, judged := c.outcomes[r.server]; judged {
			o.asked = now
			c.outcomes[r.server] = o
		} else {
			c.remember(r, now)
		}
		return
	}
	c.declines = 0
	c.remember(r, now)
	if r.outcome == dialled {
		c.failures = 0
		c.reachable = Public
	} else {
		c.failures++
		if c.reachable != Public || c.failures >= publicPatience {
			c.reachable = Private
		}
	}
	dialledBy, failedBy := c.tally()
	switch {
	case c.reachable == Public && c.failures > 0:
		c.next = now.Add(recheckDoubt)
	case c.reachable == Public && dialledBy >= 2:
		c.next = now.Add(recheckPublic)
	case c.reachable == Private && failedBy >= 2:
		c.next = now.Add(recheckPrivate)
	case otherServer:
		c.next = now.Add(confirmOther)
	default:
		c.next = now.Add(confirmSame)
	}
}

func (c *candidate) remember(r result, now time.Time) {
	c.outcomes[r.server] = outcomeAt{outcome: r.outcome, at: now, asked: now}
	if len(c.outcomes) <= maxWitnesses {
		return
	}
	var oldest peer.ID
	for id, o := range c.outcomes {
		if oldest == "" || o.at.Before(c.outcomes[oldest].at) {
			oldest = id
		}
	}
	delete(c.outcomes, oldest)
}

// tally counts the servers whose latest word is for and against the address.
func (c *candidate) tally() (dialledBy, failedBy int) {
	for _, o := range c.outcomes {
		switch o.outcome {
		case dialled:
			dialledBy++
		case failed:
			failedBy++
		}
	}
	return dialledBy, failedBy
}

// updateOwnAddrs follows the addresses of our interfaces, and forgets observed
// ones that nobody repeated.
func (t *Tracker) updateOwnAddrs(now time.Time) {
	t.looked = now
	own := make(map[string]source)
	for _, a := range t.cfg.Announced {
		if len(own) < maxOwn {
			own[string(a.Bytes())] = fromAnnounced
		}
	}
	for _, a := range t.directAddrs() {
		key := string(a.Bytes())
		if _, announced := own[key]; !announced && manet.IsPublicAddr(a) && len(own) < maxOwn {
			own[key] = fromInterface
		}
	}
	for key, src := range own {
		if c := t.addrs[key]; c != nil {
			c.source = max(c.source, src)
			c.lastSeen = now
			continue
		}
		addr, err := ma.NewMultiaddrBytes([]byte(key))
		if err != nil {
			continue
		}
		t.addrs[key] = newCandidate(addr, src, now)
	}
	for key, c := range t.addrs {
		if _, ours := own[key]; ours || c.inFlight {
			continue
		}
		if c.source != fromObserved {
			c.source = fromObserved // gone from the interface; keep it while peers see it
		}
		if len(c.observers) == 0 || now.Sub(c.lastSeen) > observedTTL && !t.observerConnected(c) {
			delete(t.addrs, key)
		}
	}
}

// observerConnected reports whether a peer that saw us at c still has a
// connection: identify speaks once per connection, and the NAT keeps a mapping
// that is in use.
func (t *Tracker) observerConnected(c *candidate) bool {
	for id := range c.observers {
		if t.cfg.Host.Network().Connectedness(id) == network.Connected {
			return true
		}
	}
	return false
}

// directAddrs are the host's own addresses, circuit addresses excluded,
// whatever its AddrsFactory hides.
func (t *Tracker) directAddrs() []ma.Multiaddr {
	if h, ok := t.cfg.Host.(interface{ AllAddrs() []ma.Multiaddr }); ok {
		return slices.DeleteFunc(h.AllAddrs(), isCircuit)
	}
	return slices.DeleteFunc(slices.Clone(t.cfg.Host.Addrs()), isCircuit)
}

// observe takes in the address at which a peer says it saw us. It counts only
// if the connection uses a port that we listen on: any other would be
// forgotten by the NAT, and refused by us.
func (t *Tracker) observe(ev event.EvtPeerIdentificationCompleted, now time.Time) {
	a := ev.ObservedAddr
	if a == nil || ev.Conn == nil || isCircuit(a) || isCircuit(ev.Conn.RemoteMultiaddr()) ||
		!manet.IsPublicAddr(a) || !t.listening(ev.Conn.LocalMultiaddr()) {
		return
	}
	key := string(a.Bytes())
	// A peer has one word per transport: with every identify push it could
	// invent another address.
	for k, other := range t.addrs {
		if k != key && slices.Equal(shape(other.addr), shape(a)) {
			delete(other.observers, ev.Peer)
		}
	}
	c := t.addrs[key]
	if c == nil {
		if t.observedCount() >= maxObserved && !t.evictObserved() {
			return
		}
		c = newCandidate(a, fromObserved, now)
		t.addrs[key] = c
	}
	c.lastSeen = now
	if len(c.observers) < maxWitnesses {
		wasTrusted := c.trusted()
		c.observers[ev.Peer] = now
		if !wasTrusted && c.trusted() && c.reachable != Public {
			c.next = now // other servers may be asked now
		}
	}
}

// evictObserved makes room for an observed address: inventors come first, but
// must not keep out what honest peers see later. What two peers agree on, or a
// server reached, stays; and so does the last verdict.
func (t *Tracker) evictObserved() bool {
	var judged int
	for _, c := range t.addrs {
		if c.reachable != Unknown {
			judged++
		}
	}
	var victim *candidate
	for _, c := range t.addrs {
		if c.trusted() || c.inFlight || c.reachable == Public || (c.reachable != Unknown && judged == 1) {
			continue
		}
		if victim == nil || c.lastSeen.Before(victim.lastSeen) {
			victim = c
		}
	}
	if victim == nil {
		return false
	}
	delete(t.addrs, victim.key())
	return true
}

// shape is the protocols of an address, without their values.
func shape(a ma.Multiaddr) []int {
	codes := make([]int, len(a))
	for i := range a {
		codes[i] = a[i].Protocol().Code
	}
	return codes
}

func (t *Tracker) observedCount() (n int) {
	for _, c := range t.addrs {
		if c.source == fromObserved {
			n++
		}
	}
	return n
}

// listening reports whether the local end of a connection is one of our
// listening sockets: same port, same protocols above it.
func (t *Tracker) listening(local ma.Multiaddr) bool {
	_, rest := ma.SplitFirst(local)
	return slices.ContainsFunc(t.cfg.Host.Network().ListenAddresses(), func(l ma.Multiaddr) bool {
		_, lrest := ma.SplitFirst(l)
		return len(rest) > 0 && rest.Equal(lrest)
	})
}

// byUrgency returns the candidates, the likeliest first: what the operator
// announced, then interfaces, then observations by many, then by address, so
// that the order is stable.
func (t *Tracker) byUrgency() []*candidate {
	all := make([]*candidate, 0, len(t.addrs))
	for _, c := range t.addrs {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *candidate) int {
		if a.source != b.source {
			return int(b.source) - int(a.source)
		}
		if len(a.observers) != len(b.observers) {
			return len(b.observers) - len(a.observers)
		}
		return bytes.Compare(a.addr.Bytes(), b.addr.Bytes())
	})
	return all
}

func isCircuit(a ma.Multiaddr) bool {
	_, err := a.ValueForProtocol(ma.P_CIRCUIT)
	return err == nil
}
