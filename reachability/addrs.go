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

	"github.com/causeway-p2p/causeway/internal/maddr"
)

const (
	// maxObserved bounds the observed addresses that are tracked: a symmetric
	// NAT shows every peer another one, and peers may invent them.
	maxObserved = 6
	// maxOwn bounds interface, mapped and announced addresses.
	maxOwn = 24
	// observedTTL is how long an observed address lives when nobody repeats
	// it and nobody who saw it is connected any more: RFC 4787 section 4.3
	// lets NATs forget idle UDP mappings after 2 to 5 minutes, so an old
	// observation says nothing about today's mapping.
	observedTTL = 10 * time.Minute

	// An address of ours that goes and comes back is left alone for a time
	// that doubles with every round, so that a link that flaps turns the
	// verdict a few times and not for as long as it does so.
	flapMemory  = 10 * time.Minute
	flapPause   = 15 * time.Second
	maxFlapWait = 5 * time.Minute
)

// flaps is how often an address of ours went away lately.
type flaps struct {
	times int
	last  time.Time
}

// wait is how long an address that came back has to stand until it is probed.
func (f flaps) wait(now time.Time) time.Duration {
	if f.times < 2 || now.Sub(f.last) > flapMemory {
		return 0
	}
	return min(flapPause<<min(f.times-2, 8), maxFlapWait)
}

// updateOwnAddrs follows the addresses of our interfaces and mappings, and
// forgets observed ones that nobody repeated.
func (t *Tracker) updateOwnAddrs(now time.Time) {
	t.looked = now
	interfaces, err := manet.InterfaceMultiaddrs()
	if err != nil {
		log.Debug("interfaces not listed", "err", err)
	}
	sockets := t.directAddrs(interfaces)
	t.here.set(sockets, interfaces)
	own := t.ownAddrs(sockets)
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
		c := newCandidate(addr, src, now)
		if src == fromAnnounced && isName(addr) && !t.announcesIP() {
			c.takeWord()
		}
		wait := t.gone[key].wait(now)
		c.next, c.cameBack = now.Add(wait), wait > 0
		t.addrs[key] = c
	}
	for key, c := range t.addrs {
		if _, ours := own[key]; ours {
			continue
		}
		if c.source != fromObserved {
			c.source = fromObserved // gone from the interface; keep it while peers see it
			t.wentAway(key, now)
		}
		if len(c.asking) > 0 {
			continue
		}
		if len(c.observers) == 0 || now.Sub(c.lastSeen) > observedTTL && !t.observerConnected(c) {
			delete(t.addrs, key)
		}
	}
}

// ownAddrs are the addresses that need no observer, by their bytes.
func (t *Tracker) ownAddrs(sockets []ma.Multiaddr) map[string]source {
	own := make(map[string]source)
	add := func(addrs []ma.Multiaddr, src source) {
		for _, a := range addrs {
			key := string(a.Bytes())
			if _, known := own[key]; !known && len(own) < maxOwn && (src == fromAnnounced || manet.IsPublicAddr(a)) {
				own[key] = src
			}
		}
	}
	add(t.cfg.Announced, fromAnnounced)
	add(sockets, fromInterface)
	if mapped := t.mapped.Load(); mapped != nil {
		add(*mapped, fromMapped)
	}
	return own
}

// announcesIP reports whether a public IP address is announced. Servers judge
// that, and so the names beside it. Names alone they do not: go-libp2p's refuse
// them, except for WebSocket (v0.51, p2p/protocol/autonatv2/server.go, CanDial).
// We do not resolve them: behind Docker or a balancer the answer may be another.
func (t *Tracker) announcesIP() bool {
	return slices.ContainsFunc(t.cfg.Announced, func(a ma.Multiaddr) bool { return manet.IsPublicAddr(a) && !isName(a) })
}

func (t *Tracker) wentAway(key string, now time.Time) {
	f := t.gone[key]
	if now.Sub(f.last) > flapMemory {
		f.times = 0
	}
	if len(t.gone) >= maxOwn {
		for k, g := range t.gone {
			if now.Sub(g.last) > flapMemory || len(t.gone) >= 2*maxOwn {
				delete(t.gone, k)
			}
		}
	}
	t.gone[key] = flaps{times: f.times + 1, last: now}
}

// observerConnected reports whether a peer that saw us at c still has a
// connection: identify speaks once per connection, and the NAT keeps a mapping
// that is in use.
func (t *Tracker) observerConnected(c *candidate) bool {
	for id := range c.observers {
		if t.connected(id) {
			return true
		}
	}
	return false
}

func (t *Tracker) connected(id peer.ID) bool {
	return t.cfg.Host.Network().Connectedness(id) == network.Connected
}

// directAddrs are the addresses of our sockets on the interfaces as they are
// now, whatever the AddrsFactory hides. The host's own list, and the swarm's,
// are up to a minute old (go-libp2p v0.51, p2p/net/swarm/swarm_addr.go).
func (t *Tracker) directAddrs(interfaces []ma.Multiaddr) []ma.Multiaddr {
	if len(interfaces) == 0 { // they could not be listed
		return t.cfg.Host.Network().ListenAddresses()
	}
	var out []ma.Multiaddr
	for _, l := range t.cfg.Host.Network().ListenAddresses() {
		if resolved, err := manet.ResolveUnspecifiedAddress(l, interfaces); err == nil {
			out = append(out, resolved...)
		}
	}
	return slices.DeleteFunc(out, maddr.IsCircuit)
}

// observe takes in the address at which a peer says it saw us. It counts only
// if the connection uses a port that we listen on: any other would be
// forgotten by the NAT, and refused by us.
func (t *Tracker) observe(ev event.EvtPeerIdentificationCompleted, now time.Time) {
	a := carrier(ev.ObservedAddr)
	if a == nil || ev.Conn == nil || maddr.IsCircuit(a) || maddr.IsCircuit(ev.Conn.RemoteMultiaddr()) ||
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
	c.local = portOf(ev.Conn.LocalMultiaddr())
	if len(c.observers) < maxWitnesses {
		wasTrusted := c.trusted()
		c.observers[ev.Peer] = now
		if !wasTrusted && c.trusted() {
			c.hasten(now) // other servers may be asked now
		}
	}
	t.replaceStale(c)
}

// replaceStale forgets the addresses in whose place a new one came when the
// network changed: same door, and nobody connected who sees us there.
func (t *Tracker) replaceStale(by *candidate) {
	for key, c := range t.addrs {
		if c != by && c.source == fromObserved && !c.renewed.IsZero() && c.fleeting() && len(c.asking) == 0 &&
			c.door() == by.door() && !t.observerConnected(c) {
			delete(t.addrs, key)
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
		if c.trusted() || len(c.asking) > 0 || c.reachable == Public || (c.reachable != Unknown && judged == 1) {
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

func (t *Tracker) observedCount() (n int) {
	for _, c := range t.addrs {
		if c.source == fromObserved {
			n++
		}
	}
	return n
}

// listening reports whether the local end of a connection is one of our
// listening sockets: same port, same protocols above it, or TLS beside plain TCP.
func (t *Tracker) listening(local ma.Multiaddr) bool {
	_, rest := ma.SplitFirst(carrier(local))
	return slices.ContainsFunc(t.cfg.Host.Network().ListenAddresses(), func(l ma.Multiaddr) bool {
		_, lrest := ma.SplitFirst(l)
		return len(rest) > 0 && rest.Equal(lrest)
	})
}

// byUrgency returns the candidates, the likeliest first: what the operator
// announced, then interfaces, then mappings, then observations by many, then
// by address, so that the order is stable.
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
