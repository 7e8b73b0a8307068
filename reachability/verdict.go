package reachability

import (
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
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
	// Confidence is what the verdict rests on.
	Confidence Confidence `json:"confidence"`
	// Weak marks a verdict that rests on a single server's word, or on a hint.
	Weak bool `json:"weak"`
	// Proven: strangers get through, at one address at least. Only then does
	// the node serve others, as a relay or in the DHT.
	Proven bool `json:"proven"`
	// Insured: the node is public as far as is known, but in some family only
	// hosts that it talks to got through, which a NAT may let in and others
	// not. It keeps a relay until a stranger gets through.
	Insured bool `json:"insured"`
	// Because is the evidence in one sentence.
	Because string `json:"because"`
	// NAT is what is known of the box in between.
	NAT NAT `json:"nat"`
	// Transports is the verdict per address family and transport.
	Transports []TransportVerdict `json:"transports"`
	// Addrs is the evidence per address.
	Addrs []AddrVerdict `json:"addrs"`
	// Since is when Reachability last changed.
	Since time.Time `json:"since"`
}

// TransportVerdict is the verdict on one transport over one address family.
type TransportVerdict struct {
	Family       string       `json:"family"`    // ip4 or ip6
	Transport    string       `json:"transport"` // quic, tcp, ws, webtransport or webrtc
	Reachability Reachability `json:"reachability"`
	Confidence   Confidence   `json:"confidence"`
	Proven       bool         `json:"proven"`
}

// AddrVerdict is the evidence on one address.
type AddrVerdict struct {
	Addr         string       `json:"addr"`
	Reachability Reachability `json:"reachability"`
	Confidence   Confidence   `json:"confidence"`
	// Proven: a host that we never sent anything to got through; or there is
	// nothing in between that could tell it from others.
	Proven      bool      `json:"proven"`
	Source      string    `json:"source"`     // observed, mapping, interface or announced
	DialledBy   int       `json:"dialled_by"` // servers whose last dial-back arrived
	FailedBy    int       `json:"failed_by"`  // servers whose last dial-back did not
	LastChecked time.Time `json:"last_checked,omitzero"`
}

// Interface reports whether the address is that of one of our interfaces.
func (a AddrVerdict) Interface() bool { return a.Source == fromInterface.String() }

// NeedsRelay reports whether some peers cannot, or may not be able to, dial
// the node directly. A node that is reachable over IPv6 only still needs
// circuit addresses for all who have only IPv4, and the other way round if it
// has IPv6 addresses at all.
func (v Verdict) NeedsRelay() bool { return v.IPv4 != Public || v.IPv6 == Private || v.Insured }

// NeedsCircuit reports whether a circuit through a relay at this address would
// reach the node for somebody who cannot dial it directly: an address of the
// family in which the node is reachable itself would not.
func (v Verdict) NeedsCircuit(relay ma.Multiaddr) bool {
	if !v.NeedsRelay() {
		return false
	}
	v4, v6 := families(relay)
	return v.Insured || v4 && v.IPv4 != Public || v6 && v.IPv6 != Public
}

// Unreachable returns the addresses that servers tried and could not dial, as
// a set of their string forms: they are not worth advertising. Where nothing is
// known to be in the way, one server's word is not enough: the node is public,
// the address that of an interface, and the fault may be the server's.
func (v Verdict) Unreachable() map[string]bool {
	set := make(map[string]bool)
	for _, a := range v.Addrs {
		doubtful := v.Reachability == Public && a.Interface() && a.FailedBy < 2
		if a.Reachability == Private && !doubtful {
			set[a.Addr] = true
		}
	}
	return set
}

// host is the reachability that the libp2p host and its DHT are told: to serve
// others, strangers must get through.
func (v Verdict) host() Reachability {
	if v.Reachability == Public && !v.Proven {
		return Private
	}
	return v.Reachability
}

// answers reports whether the answer is that of w, whatever the evidence.
func (v Verdict) answers(w Verdict) bool {
	return v.Reachability == w.Reachability && v.IPv4 == w.IPv4 && v.IPv6 == w.IPv6 &&
		v.Confidence == w.Confidence && v.Weak == w.Weak && v.Proven == w.Proven && v.Insured == w.Insured
}

// same ignores times and counts: whoever follows verdicts wants to hear of
// changes, not of every probe.
func (v Verdict) same(w Verdict) bool {
	return v.answers(w) && v.Because == w.Because &&
		slices.EqualFunc(v.Addrs, w.Addrs, func(a, b AddrVerdict) bool {
			return a.Addr == b.Addr && a.Reachability == b.Reachability
		}) && maps.Equal(v.Unreachable(), w.Unreachable())
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
