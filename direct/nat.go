package direct

import "github.com/causeway-p2p/causeway/direct/pb"

// Behavior is what a NAT distinguishes destinations by (RFC 4787 sections 4.1
// and 5).
type Behavior int

const (
	Unknown Behavior = iota
	EndpointIndependent
	AddressDependent
	AddressAndPortDependent
)

// NAT is what is known of a peer's NAT. A node without one maps and filters
// endpoint-independently.
type NAT struct {
	UDPMapping, UDPFiltering Behavior
	TCPMapping               Behavior
	// UDPBlocked tells that UDP does not get out of the network at all.
	UDPBlocked bool
}

// unpredictable: nobody can be told where packets to them will come from.
func (b Behavior) unpredictable() bool { return b == AddressDependent || b == AddressAndPortDependent }

// kind is the class of a NAT in the words of RFC 3489 section 5, as a label.
func (n NAT) kind() string {
	switch {
	case n.UDPBlocked:
		return "udp_blocked"
	case n.UDPMapping.unpredictable():
		return "symmetric"
	case n.UDPMapping == Unknown:
		return "unknown"
	}
	switch n.UDPFiltering {
	case EndpointIndependent:
		return "full_cone"
	case AddressDependent:
		return "address_restricted"
	case AddressAndPortDependent:
		return "port_restricted"
	}
	return "cone"
}

func (b Behavior) wire() *pb.HolePunch_Behavior { return pb.HolePunch_Behavior(b).Enum() }

func fromWire(b pb.HolePunch_Behavior) Behavior {
	if b < 0 || int(b) > int(AddressAndPortDependent) {
		return Unknown // of a later version
	}
	return Behavior(b)
}
