package node

import "github.com/causeway-p2p/causeway/reachability"

// Kind is what a node is behind, as others meet it: the word for a mapping and
// a filtering (RFC 4787, RFC 5780) taken together.
type Kind string

const (
	KindUnknown           Kind = "unknown"
	KindPublic            Kind = "public"             // anyone dials it
	KindFullCone          Kind = "full cone"          // one mapping for all, and anyone may send to it
	KindAddressRestricted Kind = "address-restricted" // one mapping, for hosts that it sent to
	KindPortRestricted    Kind = "port-restricted"    // one mapping, for IP and port that it sent to
	KindCone              Kind = "cone"               // one of these three
	KindSymmetric         Kind = "symmetric"          // another mapping for each destination
	KindUDPBlocked        Kind = "UDP blocked"        // TCP only
	KindOnly443           Kind = "TCP 443 only"       // nothing else gets out
)

// Ease is a kind in plain words.
func (k Kind) Ease() string {
	switch k {
	case KindPublic:
		return "none in the way"
	case KindFullCone, KindAddressRestricted, KindPortRestricted, KindCone:
		return "easy"
	case KindSymmetric:
		return "hard"
	case KindUDPBlocked, KindOnly443:
		return "a firewall"
	}
	return "unknown"
}

// kindOf names what the NAT does to one transport protocol. Where there is none
// and the filtering is not known, nothing is: a firewall may be in the way.
func kindOf(t reachability.Translation) Kind {
	switch t.Mapping {
	case reachability.AddressDependent, reachability.AddressAndPortDependent:
		return KindSymmetric
	case reachability.EndpointIndependent, reachability.NoNAT:
	default:
		return KindUnknown
	}
	switch t.Filtering {
	case reachability.NoNAT:
		return KindPublic
	case reachability.EndpointIndependent:
		if t.Mapping == reachability.NoNAT {
			return KindPublic
		}
		return KindFullCone
	case reachability.AddressDependent:
		return KindAddressRestricted
	}
	switch {
	case t.Filtering == reachability.AddressAndPortDependent:
		return KindPortRestricted
	case t.Mapping == reachability.EndpointIndependent:
		return KindCone
	}
	return KindUnknown
}

// Chance is how likely a direct path is.
type Chance string

const (
	ChanceUnknown   Chance = "unknown"
	ChanceYes       Chance = "yes"       // by dialling
	ChancePunch     Chance = "punch"     // by a hole punch, or because the other side dials
	ChanceSometimes Chance = "sometimes" // by guessing ports
	ChanceRelay     Chance = "relay"     // not directly
)

// String says it in words.
func (c Chance) String() string {
	switch c {
	case ChanceYes:
		return "yes"
	case ChancePunch:
		return "yes, within a second"
	case ChanceSometimes:
		return "sometimes (ports must be guessed)"
	case ChanceRelay:
		return "only through a relay"
	}
	return "not known yet"
}

// Outlook is the best guess for the peers behind one kind of NAT.
type Outlook struct {
	Peers  Kind   `json:"peers"`
	Direct Chance `json:"direct"`
}

// outlookKinds are the kinds that peers are told apart by.
var outlookKinds = []Kind{
	KindPublic, KindFullCone, KindAddressRestricted, KindPortRestricted, KindSymmetric, KindUDPBlocked, KindOnly443,
}

// outlook guesses for every kind of peer. The TCP kind counts where UDP is
// blocked on either side.
func outlook(own, overTCP Kind) []Outlook {
	list := make([]Outlook, len(outlookKinds))
	for i, other := range outlookKinds {
		list[i] = Outlook{Peers: other, Direct: chance(own, overTCP, other)}
	}
	return list
}

// noOutlook is that of a node that reaches nobody.
func noOutlook() []Outlook {
	list := make([]Outlook, len(outlookKinds))
	for i, other := range outlookKinds {
		list[i] = Outlook{Peers: other, Direct: ChanceUnknown}
	}
	return list
}

func chance(own, overTCP, other Kind) Chance {
	switch {
	case own == KindOnly443 || other == KindOnly443:
		// Peers listen on ports of their own, which such a network lets nobody
		// dial; relays are there on 443.
		return ChanceRelay
	case other == KindUDPBlocked:
		// Nothing is known of its NAT for TCP; most keep the mapping.
		return overTCPOnly(natPair(firstKnown(overTCP, own), KindPortRestricted))
	case own == KindUDPBlocked:
		return overTCPOnly(natPair(overTCP, other))
	}
	return natPair(own, other)
}

// overTCPOnly: ports are guessed with UDP packets only. Hundreds of TCP
// handshakes would look like an attack, and NATs remember each for minutes.
func overTCPOnly(c Chance) Chance {
	if c == ChanceSometimes {
		return ChanceRelay
	}
	return c
}

// firstKnown is the first kind that is known.
func firstKnown(a, b Kind) Kind {
	if a == KindUnknown || a == KindUDPBlocked {
		return b
	}
	return a
}

// natPair is what two NATs let through. A hole can be punched if each side knows
// where the other's packets will come from, or lets packets in from ports that
// it has not sent to. A cone of which no more is known is taken to be
// port-restricted, as most are.
func natPair(own, other Kind) Chance {
	loose := func(k Kind) bool { return k == KindFullCone || k == KindAddressRestricted }
	switch {
	case other == KindPublic:
		return ChanceYes
	case own == KindPublic:
		return ChancePunch // it is told through a relay, and dials us
	case own == KindUnknown || own == KindUDPBlocked:
		return ChanceUnknown
	case own == KindSymmetric && other == KindSymmetric:
		return ChanceRelay
	case own == KindSymmetric && !loose(other), other == KindSymmetric && !loose(own):
		return ChanceSometimes
	}
	return ChancePunch
}
