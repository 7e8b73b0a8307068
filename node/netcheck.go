package node

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/causeway-p2p/causeway/internal/maddr"
	"github.com/causeway-p2p/causeway/portmap"
	"github.com/causeway-p2p/causeway/reachability"
)

// Netcheck answers two questions: can others reach this node, and whom can it
// reach directly? What nobody could tell so far is "unknown", which is not "no".
type Netcheck struct {
	Time time.Time     `json:"time"`
	Took time.Duration `json:"took_ns"`
	// Headline is the answer in a sentence.
	Headline string `json:"headline"`
	// Settled: the verdict rests on more than one server's word, and the node
	// is online.
	Settled bool `json:"settled"`
	// Online: somebody of the node's network answers. If nobody does, the
	// verdict is what was found when somebody did, and whatever else depends on
	// the network is unknown.
	Online reachability.Fact `json:"online"`
	// Reachable: others reach the node, directly or through a relay.
	Reachable bool `json:"reachable"`
	// Reachability is the verdict with its evidence.
	Reachability reachability.Verdict `json:"reachability"`

	// Kind is what the node is behind, and Ease the same in plain words. What
	// it is derived from is the verdict's NAT.
	Kind Kind   `json:"kind"`
	Ease string `json:"ease"`
	// OverTCP is what it is behind as far as TCP goes, which is what counts
	// where UDP is blocked.
	OverTCP Kind `json:"over_tcp"`

	// UDP gets out of this network, and answers come back.
	UDP reachability.Fact `json:"udp"`
	// IPv6: the node listens on a public IPv6 address.
	IPv6 reachability.Fact `json:"ipv6"`
	// CaptivePortal: a web page must be clicked before anything works.
	CaptivePortal reachability.Fact `json:"captive_portal"`
	// Only443: relays answer on TCP port 443 and on no other.
	Only443 reachability.Fact `json:"only_443"`
	// Only443TLS: and there over TLS only; what is not TLS gets no answer.
	Only443TLS reachability.Fact `json:"only_443_tls"`
	// PortMapping is what the router lets in; missing where it is not asked.
	PortMapping *portmap.Status `json:"port_mapping,omitempty"`

	// Relays are how far the relays are that we hold or were told of, and the
	// peers that we join through.
	Relays []RelayRTT `json:"relays"`
	// Peers is the best guess whom the node can reach directly.
	Peers []Outlook `json:"peers"`
}

// Netcheck reports what is known of the way between this node and the
// internet. Besides that, it measures: an echo or a TCP connect to at most 6
// relays and bootstrap peers that the user named or that serve us, a connection
// that begins in plain to those that only TLS on port 443 reaches, and one GET
// of Config.PortalURL, unless the last is fresh. It takes 2 seconds at most.
// Before Start it knows nothing.
func (n *Node) Netcheck(ctx context.Context) Netcheck { return n.netcheck(ctx, n.cfg.PortalURL) }

// NetcheckAsking is Netcheck with another URL than Config.PortalURL.
func (n *Node) NetcheckAsking(ctx context.Context, portalURL string) (Netcheck, error) {
	if err := checkPortalURL(portalURL); err != nil {
		return Netcheck{}, err
	}
	return n.netcheck(ctx, portalURL), nil
}

func (n *Node) netcheck(ctx context.Context, portalURL string) Netcheck {
	network := n.strict.here()
	r := Netcheck{
		Time: time.Now(), Relays: []RelayRTT{},
		Reachability: reachability.Verdict{
			Reachability: reachability.Unknown, IPv4: reachability.Unknown, IPv6: reachability.Unknown,
			Confidence: reachability.NoEvidence, Because: "the node is not running",
			NAT:        unknownNAT(),
			Transports: []reachability.TransportVerdict{}, Addrs: []reachability.AddrVerdict{},
		},
		Online: reachability.NotTold, UDP: reachability.NotTold, IPv6: reachability.NotTold,
		CaptivePortal: reachability.NotTold, Only443: reachability.NotTold, Only443TLS: reachability.NotTold,
	}
	n.mu.Lock()
	running := n.started && !n.closed
	n.mu.Unlock()
	if running {
		n.measure(ctx, portalURL, &r)
	}
	r.conclude()
	n.strict.found(network, r.Kind == KindOnly443)
	r.Took = time.Since(r.Time)
	return r
}

func unknownNAT() reachability.NAT {
	unknown := reachability.Translation{Mapping: reachability.NotKnown, Filtering: reachability.NotKnown}
	return reachability.NAT{UDP: unknown, TCP: unknown, UDPBlocked: reachability.NotTold, Hairpin: reachability.NotTold}
}

// measure fills in what the rooms know and what can be tried now.
func (n *Node) measure(ctx context.Context, portalURL string, r *Netcheck) {
	var wg sync.WaitGroup
	if portalURL != NoPortalURL && len(n.cfg.Transports) == 0 {
		wg.Go(func() { r.CaptivePortal = n.portal.ask(ctx, portalURL) })
	}
	wg.Go(func() { r.Relays, r.Only443, r.Only443TLS = n.probeRelays(ctx) })
	wg.Wait()
	r.Reachability = n.reachability.Verdict()
	r.Reachable = n.Reachable()
	r.Online = n.online(r.Relays)
	r.UDP = n.udpWorks()
	if n.mapper != nil {
		ps := n.mapper.Status()
		r.PortMapping = &ps
	}
	r.IPv6 = n.hasIPv6()
}

// outside reports whether an address is one of a peer out there. One on this
// machine or on the LAN shows nothing, unless the LAN is all there is.
func (n *Node) outside(a ma.Multiaddr) bool {
	return manet.IsPublicAddr(a) || n.cfg.AllowPrivate && !manet.IsIPLoopback(a)
}

// online: a peer that was probed answers, or one out there is connected. It is
// no if there is neither, and those that we join through had time to answer.
func (n *Node) online(probed []RelayRTT) reachability.Fact {
	if slices.ContainsFunc(probed, func(r RelayRTT) bool { return r.RTT > 0 }) ||
		slices.ContainsFunc(n.host.Network().Conns(), func(c network.Conn) bool { return n.outside(c.RemoteMultiaddr()) }) {
		return reachability.Yes
	}
	if len(probed) == 0 || time.Since(n.startedAt) < probeTimeout {
		return reachability.NotTold
	}
	return reachability.No
}

// udpWorks: some peer out there answers over QUIC.
func (n *Node) udpWorks() reachability.Fact {
	for _, c := range n.host.Network().Conns() {
		a := c.RemoteMultiaddr()
		if _, err := a.ValueForProtocol(ma.P_UDP); err == nil && n.outside(a) && !maddr.IsCircuit(a) && c.Stat().Direction == network.DirOutbound {
			return reachability.Yes
		}
	}
	return reachability.NotTold
}

func (n *Node) hasIPv6() reachability.Fact {
	addrs, err := n.host.Network().InterfaceListenAddresses()
	if err != nil {
		return reachability.NotTold
	}
	for _, a := range addrs {
		if _, v6 := familyOf(a); v6 && manet.IsPublicAddr(a) {
			return reachability.Yes
		}
	}
	return reachability.No
}

func familyOf(a ma.Multiaddr) (v4, v6 bool) {
	if len(a) == 0 {
		return false, false
	}
	return a[0].Protocol().Code == ma.P_IP4, a[0].Protocol().Code == ma.P_IP6
}

// conclude derives what follows from the facts.
func (r *Netcheck) conclude() {
	offline := r.Online == reachability.No
	r.Settled = Settled(r.Reachability) && !offline
	if offline {
		r.Reachable = false
		r.Reachability.NAT = unknownNAT()
	}
	switch {
	case r.UDP == reachability.Yes:
		r.Only443, r.Only443TLS = reachability.No, reachability.No
	case r.Only443 == reachability.Yes && r.Reachability.NAT.UDPBlocked != reachability.Yes:
		// UDP worked a moment ago, and nothing but a port of TCP does now.
	default:
		r.UDP = not(r.Reachability.NAT.UDPBlocked)
	}
	r.Kind = KindUnknown
	if !offline {
		r.Kind = r.kind()
	}
	r.Ease, r.OverTCP = r.Kind.Ease(), kindOf(r.Reachability.NAT.TCP)
	r.Peers = outlook(r.Kind, r.OverTCP)
	if r.Kind == KindUnknown && r.Online != reachability.Yes {
		r.Peers = noOutlook()
	}
	r.Headline = r.headline()
}

// Settled reports whether a verdict rests on more than one server's word.
func Settled(v reachability.Verdict) bool {
	return v.Confidence == reachability.Strong || v.Confidence == reachability.Proven
}

func not(f reachability.Fact) reachability.Fact {
	switch f {
	case reachability.Yes:
		return reachability.No
	case reachability.No:
		return reachability.Yes
	}
	return reachability.NotTold
}

// kind is what the node is behind. The NAT's own behaviour counts more than
// the verdict, which an address-restricted NAT makes too good while no stranger
// has tried.
func (r *Netcheck) kind() Kind {
	v, udp := r.Reachability, kindOf(r.Reachability.NAT.UDP)
	switch {
	case r.Only443 == reachability.Yes:
		return KindOnly443
	case r.UDP == reachability.No:
		return KindUDPBlocked
	case v.Reachability == reachability.Public && !v.Insured && (udp == KindUnknown || v.IPv4 == reachability.Public):
		return KindPublic
	}
	return udp
}

func (r *Netcheck) headline() string {
	v := r.Reachability
	switch {
	case r.CaptivePortal == reachability.Yes:
		return "A captive portal is in the way: open a web page in a browser and sign in."
	case r.Online == reachability.No && r.CaptivePortal == reachability.No:
		return "The internet answers, and none of the peers that this node joins its network through."
	case r.Online == reachability.No:
		return "Nobody answers: this machine seems to be offline, or none of the peers that it joins its network through can be reached."
	case v.Reachability == reachability.Public && v.IPv4 == reachability.Private:
		return "Others can dial this node over IPv6. Those who have only IPv4 need a relay."
	case v.Reachability == reachability.Public && v.Insured && v.Weak:
		return "A server that this node talks to can dial it. Whether strangers can is not known yet, so it keeps a relay."
	case v.Reachability == reachability.Public && v.Insured:
		return "Others that this node has talked to can dial it. No stranger got through yet, so it keeps a relay."
	case v.Reachability == reachability.Public && v.Weak:
		return "Others can dial this node, by one server's word so far."
	case v.Reachability == reachability.Public:
		return "Others can dial this node."
	case r.Reachable:
		return "Others reach this node through a relay. " + r.consequence()
	case v.Reachability == reachability.Private:
		return "Others cannot dial this node, and it has no relay. " + r.consequence()
	}
	return "It is not known yet whether others can reach this node: " + v.Because + "."
}

func (r *Netcheck) consequence() string {
	if r.Kind == KindOnly443 && r.Only443TLS == reachability.Yes {
		return "Only TLS on TCP port 443 gets out of here: peers are reached through relays that speak WebSocket over TLS."
	}
	return r.Kind.consequence(r.OverTCP)
}

// consequence is what a kind means for direct paths.
func (k Kind) consequence(overTCP Kind) string {
	if k == KindUDPBlocked && overTCP == KindSymmetric {
		return "UDP is blocked here, and over TCP its NAT is hard: peers behind strict NATs stay on the relay."
	}
	switch k {
	case KindPublic, KindFullCone, KindAddressRestricted, KindPortRestricted, KindCone:
		return "Its NAT is easy: most peers get a direct path within a second."
	case KindSymmetric:
		return "Its NAT is hard: peers behind strict NATs stay on the relay."
	case KindUDPBlocked:
		return "UDP is blocked here: direct paths run over TCP."
	case KindOnly443:
		return "Only TCP port 443 gets out of here: peers are reached through relays."
	}
	return "What kind of NAT it is behind is not known yet."
}
