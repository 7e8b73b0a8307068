package reachability

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Reachability is the answer to "can the internet dial us?".
type Reachability string

const (
	Unknown Reachability = "unknown" // nobody has tried yet
	Private Reachability = "private" // nobody got through
	Public  Reachability = "public"  // somebody got through
)

func (r Reachability) libp2p() network.Reachability {
	switch r {
	case Public:
		return network.ReachabilityPublic
	case Private:
		return network.ReachabilityPrivate
	}
	return network.ReachabilityUnknown
}

// Verdict says whether the internet can dial the node, and why we think so.
type Verdict struct {
	Reachability Reachability `json:"reachability"`
	// IPv4 and IPv6 are the same question per address family. "unknown" for a
	// family in which the node has no address.
	IPv4 Reachability `json:"ipv4"`
	IPv6 Reachability `json:"ipv6"`
	// Weak marks a verdict that rests on a single server's word.
	Weak bool `json:"weak"`
	// Because is the evidence in one sentence.
	Because string `json:"because"`
	// Addrs is the evidence per address.
	Addrs []AddrVerdict `json:"addrs"`
	// Since is when Reachability last changed.
	Since time.Time `json:"since"`
}

// AddrVerdict is the evidence on one address.
type AddrVerdict struct {
	Addr         string       `json:"addr"`
	Reachability Reachability `json:"reachability"`
	Source       string       `json:"source"`     // observed, interface or announced
	DialledBy    int          `json:"dialled_by"` // servers whose last dial-back arrived
	FailedBy     int          `json:"failed_by"`  // servers whose last dial-back did not
	LastChecked  time.Time    `json:"last_checked,omitzero"`
}

// NeedsRelay reports whether some peers cannot dial the node directly. A node
// that is reachable over IPv6 only still needs circuit addresses for all who
// have only IPv4, and the other way round if it has IPv6 addresses at all.
func (v Verdict) NeedsRelay() bool { return v.IPv4 != Public || v.IPv6 == Private }

// NeedsCircuit reports whether a circuit through a relay at this address would
// reach the node for somebody who cannot dial it directly: an address of the
// family in which the node is reachable itself would not.
func (v Verdict) NeedsCircuit(relay ma.Multiaddr) bool {
	if !v.NeedsRelay() {
		return false
	}
	v4, v6 := families(relay)
	return v4 && v.IPv4 != Public || v6 && v.IPv6 != Public
}

// Unreachable returns the addresses that servers tried and could not dial, as
// a set of their string forms: they are not worth advertising.
func (v Verdict) Unreachable() map[string]bool {
	set := make(map[string]bool)
	for _, a := range v.Addrs {
		if a.Reachability == Private {
			set[a.Addr] = true
		}
	}
	return set
}

// same ignores times and counts: whoever follows verdicts wants to hear of
// changes, not of every probe.
func (v Verdict) same(w Verdict) bool {
	return v.Reachability == w.Reachability && v.IPv4 == w.IPv4 && v.IPv6 == w.IPv6 &&
		v.Weak == w.Weak && v.Because == w.Because &&
		slices.EqualFunc(v.Addrs, w.Addrs, func(a, b AddrVerdict) bool {
			return a.Addr == b.Addr && a.Reachability == b.Reachability
		})
}

// reduce makes one verdict of all candidates: public if any address is,
// private if servers tried and nothing got through, unknown otherwise.
func reduce(cands []*candidate, servers int, now time.Time) Verdict {
	v := Verdict{Reachability: Unknown, IPv4: Unknown, IPv6: Unknown, Addrs: []AddrVerdict{}, Since: now}
	var publics, privates []*candidate
	for _, c := range cands {
		d, f := c.tally()
		av := AddrVerdict{
			Addr: c.addr.String(), Reachability: c.reachable, Source: c.source.String(),
			DialledBy: d, FailedBy: f,
		}
		for _, o := range c.outcomes {
			if o.at.After(av.LastChecked) {
				av.LastChecked = o.at
			}
		}
		v.Addrs = append(v.Addrs, av)
		switch c.reachable {
		case Public:
			publics = append(publics, c)
		case Private:
			privates = append(privates, c)
		}
		if c.reachable == Unknown {
			continue
		}
		v4, v6 := families(c.addr)
		if v4 {
			v.IPv4 = stronger(v.IPv4, c.reachable)
		}
		if v6 {
			v.IPv6 = stronger(v.IPv6, c.reachable)
		}
	}
	v.Reachability = stronger(v.IPv4, v.IPv6)
	switch v.Reachability {
	case Public:
		best := publics[0]
		for _, c := range publics[1:] {
			if bestBy, _ := best.tally(); bestBy < 2 {
				if by, _ := c.tally(); by >= 2 {
					best = c
				}
			}
		}
		d, f := best.tally()
		if best.source == fromAnnounced && !best.probeable() {
			v.Because = fmt.Sprintf("the operator announced %s; AutoNAT does not judge private addresses", describe(best.addr))
			break
		}
		v.Weak = d < 2
		v.Because = fmt.Sprintf("%d of %s dialled %s", d, plural(d+f, "server"), describe(best.addr))
	case Private:
		byServer := make(map[peer.ID]struct{})
		for _, c := range privates {
			for id, o := range c.outcomes {
				if o.outcome == failed {
					byServer[id] = struct{}{}
				}
			}
		}
		n := len(byServer)
		v.Weak = n < 2
		v.Because = fmt.Sprintf("%d of %s could not dial %s", n, plural(n, "server"), describe(privates[0].addr))
		if more := len(privates) - 1; more > 0 {
			v.Because += fmt.Sprintf(", nor %s more", plural(more, "address"))
		}
	default:
		v.Because = whyUnknown(cands, servers)
	}
	return v
}

func whyUnknown(cands []*candidate, servers int) string {
	switch {
	case servers == 0:
		return "no connected peer offers AutoNAT v2 yet"
	case len(cands) == 0:
		return "no public address of ours is known yet"
	case slices.ContainsFunc(cands, func(c *candidate) bool { return c.inFlight }):
		return "the first dial-back is on its way"
	case slices.ContainsFunc(cands, func(c *candidate) bool { return c.declines > 0 }):
		return "servers declined to dial us back so far"
	}
	return "no dial-back was asked for yet"
}

// stronger: one address that works makes a node reachable, whatever fails.
func stronger(a, b Reachability) Reachability {
	if a == Public || b == Public {
		return Public
	}
	if a == Private || b == Private {
		return Private
	}
	return Unknown
}

// families tells which address families an address serves. DNS names may
// resolve to both.
func families(a ma.Multiaddr) (v4, v6 bool) {
	first, _ := ma.SplitFirst(a)
	if first == nil {
		return false, false
	}
	switch first.Protocol().Code {
	case ma.P_IP4, ma.P_DNS4:
		return true, false
	case ma.P_IP6, ma.P_IP6ZONE, ma.P_DNS6:
		return false, true
	}
	return true, true
}

// describe says an address the way people do: "11.0.0.2:4001 over QUIC".
func describe(a ma.Multiaddr) string {
	transport := "TCP"
	a2, _ := ma.SplitFunc(a, func(c ma.Component) bool { return c.Protocol().Code == ma.P_P2P })
	for _, c := range a2 {
		switch c.Protocol().Code {
		case ma.P_QUIC_V1:
			transport = "QUIC"
		case ma.P_WS, ma.P_WSS:
			transport = "WebSocket"
		case ma.P_WEBTRANSPORT:
			transport = "WebTransport"
		case ma.P_WEBRTC_DIRECT:
			transport = "WebRTC"
		}
	}
	if na, err := manet.ToNetAddr(thinWaist(a2)); err == nil {
		return na.String() + " over " + transport
	}
	if len(a2) >= 2 {
		return net.JoinHostPort(a2[0].Value(), a2[1].Value()) + " over " + transport
	}
	return a.String()
}

// thinWaist cuts an address after its IP and port.
func thinWaist(a ma.Multiaddr) ma.Multiaddr {
	n := 2
	if len(a) > 0 && a[0].Protocol().Code == ma.P_IP6ZONE {
		n = 3
	}
	return a[:min(n, len(a))]
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if strings.HasSuffix(noun, "s") {
		noun += "e"
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
