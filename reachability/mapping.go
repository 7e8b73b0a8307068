package reachability

import (
	"cmp"
	"net/netip"
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
	// maxSights bounds the observations that are kept.
	maxSights = 64
	// maxTold bounds the addresses that a hole puncher is told, of each
	// transport: what all agree on, and what a symmetric NAT showed lately.
	maxTold = 8
	// quicAge is how long UDP is held to work after the last QUIC connection
	// lived. One that died did so 30 s after the last packet (quic-go's idle
	// timeout), and its peers are dialled again at once.
	quicAge = time.Minute
	// quicDoubt is how many peers that offer QUIC are reached over TCP alone
	// before UDP is held to be blocked: with one it may be its own fault.
	quicDoubt = 2
)

// sight is where somebody saw one of our listening sockets.
type sight struct {
	by       peer.ID
	from     netip.AddrPort // of the observer
	network  string         // udp or tcp
	local    string         // the port of ours
	at       netip.AddrPort // where it saw us
	addr     ma.Multiaddr   // the same
	outbound bool           // we dialled it: the NAT made the mapping for it
	conn     network.Conn
	last     time.Time
}

type sightKey struct {
	from     netip.AddrPort
	network  string
	local    string
	outbound bool
}

// see keeps an observation for what it tells of the NAT.
func (t *Tracker) see(ev event.EvtPeerIdentificationCompleted, now time.Time) {
	a := carrier(ev.ObservedAddr)
	if a == nil || ev.Conn == nil || maddr.IsCircuit(a) || maddr.IsCircuit(ev.Conn.RemoteMultiaddr()) ||
		!manet.IsPublicAddr(a) || !t.listening(ev.Conn.LocalMultiaddr()) {
		return
	}
	at, nw, ok := endpoint(a)
	from, nw2, ok2 := endpoint(ev.Conn.RemoteMultiaddr())
	if !ok || !ok2 || nw != nw2 {
		return
	}
	s := sight{
		by: ev.Peer, from: from, network: nw, local: portOf(ev.Conn.LocalMultiaddr()), at: at, addr: a,
		outbound: t.dialled(ev.Conn), conn: ev.Conn, last: now,
	}
	t.sights[sightKey{s.from, s.network, s.local, s.outbound}] = s
	if len(t.sights) <= maxSights {
		return
	}
	var oldest sightKey
	for k, s := range t.sights {
		if o, ok := t.sights[oldest]; !ok || s.last.Before(o.last) {
			oldest = k
		}
	}
	delete(t.sights, oldest)
}

// sweepSights forgets what observers that are gone saw a while ago, or, once the
// network has changed, at all.
func (t *Tracker) sweepSights(now time.Time) {
	for k, s := range t.sights {
		if t.standing(s) {
			s.last = now
			t.sights[k] = s
		} else if now.Sub(s.last) > observedTTL || s.last.Before(t.renewed) {
			delete(t.sights, k)
		}
	}
}

// standing reports whether the connection stands on which the observer saw us.
// Another one that it has says nothing of this mapping.
func (t *Tracker) standing(s sight) bool {
	return t.connected(s.by) && (s.conn == nil || !s.conn.IsClosed())
}

// nat says what the evidence shows of the NAT, over IPv4.
func (t *Tracker) nat(cands []*candidate, now time.Time) NAT {
	n := NAT{
		UDP: t.translation(cands, "udp"), TCP: t.translation(cands, "tcp"),
		UDPBlocked: NotTold, Hairpin: t.hairpinFact(),
	}
	switch {
	case t.quicLives(now):
		n.UDPBlocked = No
	case t.quicFailed() >= quicDoubt:
		n.UDPBlocked = Yes
		// Whatever was seen before: nothing is translated any more.
		n.UDP = Translation{Mapping: NotKnown, Filtering: NotKnown}
	}
	return n
}

// quicLives reports whether a QUIC connection to somebody out there lives, or
// did a moment ago.
func (t *Tracker) quicLives(now time.Time) bool {
	for _, c := range t.cfg.Host.Network().Conns() {
		if a := c.RemoteMultiaddr(); overQUIC(a) && !c.IsClosed() && !c.Stat().Opened.Before(t.renewed) {
			t.quicSeen.Store(now.UnixNano())
			return true
		}
	}
	seen := t.quicSeen.Load()
	return seen > 0 && now.Sub(time.Unix(0, seen)) < quicAge
}

// overQUIC reports whether the other end of a connection is out there, and it
// goes over QUIC.
func overQUIC(remote ma.Multiaddr) bool {
	return !maddr.IsCircuit(remote) && maddr.Transport(remote) == "quic" && manet.IsPublicAddr(remote)
}

func (t *Tracker) hairpinFact() Fact {
	if f := t.hairpin.Load(); f != nil {
		return *f
	}
	return NotTold
}

// translation says what the NAT does to one transport protocol.
func (t *Tracker) translation(cands []*candidate, nw string) Translation {
	tr := Translation{Mapping: NotKnown, Filtering: NotKnown}
	var mine []*candidate // of this protocol, over IPv4
	for _, c := range cands {
		if ap, of, ok := endpoint(c.addr); ok && of == nw && ap.Addr().Is4() && c.probeable() {
			mine = append(mine, c)
		}
	}
	tr.Mapping, tr.External = t.mapping(nw)
	own := func(c *candidate) bool { return c.source == fromInterface }
	switch {
	case slices.ContainsFunc(mine, own):
		tr.Mapping = NoNAT
		mine = slices.DeleteFunc(mine, func(c *candidate) bool { return !own(c) })
	default:
		mine = slices.DeleteFunc(mine, func(c *candidate) bool { return c.source != fromObserved || !c.trusted() && c.reachable == Private })
	}
	for _, c := range mine {
		tr.Filtering = looser(tr.Filtering, c.filtering())
	}
	if tr.Filtering == NotKnown && (tr.Mapping == AddressDependent || tr.Mapping == AddressAndPortDependent) {
		// Nobody but the observer itself can be let in at its mapping.
		tr.Filtering = AddressAndPortDependent
	}
	return tr
}

// filtering is what dial-backs show: they come from an address of the server's
// that we know, and from a port that we do not.
func (c *candidate) filtering() Behavior {
	switch {
	case c.reachable == Public && (!c.proof.IsZero() || c.source == fromInterface):
		return EndpointIndependent
	case c.reachable == Public, c.filtered:
		return AddressDependent // or looser, while no stranger has tried
	case c.reachable == Private:
		return AddressAndPortDependent
	}
	return NotKnown
}

func looser(a, b Behavior) Behavior {
	for _, x := range []Behavior{EndpointIndependent, AddressDependent, AddressAndPortDependent} {
		if a == x || b == x {
			return x
		}
	}
	return NotKnown
}

// mapping compares where observers saw one listening socket (RFC 5780 section
// 4.3, with peers in the place of a server's addresses). One observer who tells
// another story than most is a liar.
func (t *Tracker) mapping(nw string) (Behavior, []string) {
	bySocket := make(map[string][]sight)
	for _, s := range t.sights {
		if s.network == nw && s.outbound && s.at.Addr().Is4() && s.from.Addr().Is4() {
			bySocket[s.local] = append(bySocket[s.local], s)
		}
	}
	var sights []sight // of the socket that most have seen
	for _, port := range sortedKeys(bySocket) {
		if len(bySocket[port]) > len(sights) {
			sights = bySocket[port]
		}
	}
	saw := make(map[netip.AddrPort]map[netip.Addr]bool) // external endpoint: observers
	observers := make(map[netip.Addr][]netip.AddrPort)  // observer: external endpoints
	for _, s := range sights {
		if saw[s.at] == nil {
			saw[s.at] = make(map[netip.Addr]bool)
		}
		saw[s.at][s.from.Addr()] = true
		observers[s.from.Addr()] = append(observers[s.from.Addr()], s.at)
	}
	external := make([]netip.AddrPort, 0, len(saw))
	for at := range saw {
		external = append(external, at)
	}
	slices.SortFunc(external, func(a, b netip.AddrPort) int {
		if n := len(saw[b]) - len(saw[a]); n != 0 {
			return n
		}
		return a.Compare(b)
	})
	switch {
	case len(external) == 0:
		return NotKnown, nil
	case len(observers) < 2:
		return NotKnown, texts(external)
	case len(saw[external[0]]) >= 2 && 2*len(saw[external[0]]) > len(observers):
		return EndpointIndependent, texts(external[:1])
	}
	// Per address only if some observer saw two of our connections at one.
	behavior := AddressAndPortDependent
	for _, seen := range observers {
		if len(seen) > 1 {
			behavior = AddressDependent
			if slices.ContainsFunc(seen, func(at netip.AddrPort) bool { return at != seen[0] }) {
				return AddressAndPortDependent, texts(external)
			}
		}
	}
	return behavior, texts(external)
}

func texts(aps []netip.AddrPort) []string {
	out := make([]string, len(aps))
	for i, ap := range aps {
		out[i] = ap.String()
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// quicFailed counts the peers that we reached over TCP although they have QUIC
// addresses, which are dialled first, since the network changed.
func (t *Tracker) quicFailed() (n int) {
	if !t.listensOn("quic") {
		return 0
	}
	for _, c := range t.cfg.Host.Network().Conns() {
		if !t.dialled(c) || maddr.IsCircuit(c.RemoteMultiaddr()) || !manet.IsPublicAddr(c.RemoteMultiaddr()) || c.Stat().Opened.Before(t.renewed) {
			continue
		}
		if t := maddr.Transport(c.RemoteMultiaddr()); t != "tcp" && t != "ws" {
			continue
		}
		if slices.ContainsFunc(t.cfg.Host.Peerstore().Addrs(c.RemotePeer()), func(a ma.Multiaddr) bool {
			v4, _ := families(a)
			return v4 && maddr.Transport(a) == "quic" && manet.IsPublicAddr(a) && !maddr.IsCircuit(a)
		}) {
			n++
		}
	}
	return n
}

func (t *Tracker) listensOn(transport string) bool {
	return slices.ContainsFunc(t.cfg.Host.Network().ListenAddresses(), func(l ma.Multiaddr) bool {
		return maddr.Transport(l) == transport
	})
}

// observed lists the addresses at which our listening sockets are seen.
func (t *Tracker) observed(cands []*candidate, n NAT) []ma.Multiaddr {
	order := map[Reachability]int{Public: 0, Unknown: 1, Private: 2}
	ranked := slices.Clone(cands)
	slices.SortStableFunc(ranked, func(a, b *candidate) int {
		if d := order[a.reachable] - order[b.reachable]; d != 0 {
			return d
		}
		return b.rank() - a.rank()
	})
	dependent := func(nw string) bool {
		m := map[string]Behavior{"udp": n.UDP.Mapping, "tcp": n.TCP.Mapping}[nw]
		return m == AddressDependent || m == AddressAndPortDependent
	}
	var out []ma.Multiaddr
	told := make(map[string]int)
	tell := func(a ma.Multiaddr, most int) {
		ap, _, ok := endpoint(a)
		if !ok || !manet.IsPublicAddr(a) {
			return
		}
		place := ap.Addr().String() + maddr.Transport(a)
		if told[place] < most && !slices.ContainsFunc(out, a.Equal) {
			told[place]++
			out = append(out, a)
		}
	}
	for _, c := range ranked {
		_, nw, _ := endpoint(c.addr)
		switch {
		case c.source != fromObserved:
			tell(c.addr, maxTold)
		case dependent(nw):
			tell(c.addr, maxTold)
		case c.trusted() || c.reachable == Public:
			tell(c.addr, 2)
		}
	}
	sights := make([]sight, 0, len(t.sights))
	for _, s := range t.sights {
		sights = append(sights, s)
	}
	slices.SortFunc(sights, func(a, b sight) int {
		if d := b.last.Compare(a.last); d != 0 {
			return d
		}
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.by, b.by))
	})
	for _, s := range sights {
		if dependent(s.network) {
			tell(s.addr, maxTold)
		} else {
			tell(s.addr, 1) // one peer's word, where there is nothing better
		}
	}
	return out
}

// unobserved lists the transports over which nobody sees where we are: no peer
// is connected that we dialled from the listening socket. With a public IPv4
// address of our own there is nothing to see.
func (t *Tracker) unobserved(cands []*candidate) []string {
	var out []string
	for _, transport := range []string{"quic", "tcp"} {
		if !t.listensOn(transport) {
			continue
		}
		own := slices.ContainsFunc(cands, func(c *candidate) bool {
			v4, _ := families(c.addr)
			return v4 && c.source == fromInterface && maddr.Transport(c.addr) == transport
		})
		seen := false
		for _, s := range t.sights {
			seen = seen || s.outbound && maddr.Transport(s.addr) == transport && t.standing(s)
		}
		if !own && !seen {
			out = append(out, transport)
		}
	}
	return out
}
