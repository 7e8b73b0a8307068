package portmap

import (
	"fmt"
	"net/netip"
	"strings"
)

// State is how far port mapping has come.
type State string

const (
	Off       State = "off"        // nothing to map, or no need
	Searching State = "searching"  // for a gateway
	NoGateway State = "none"       // nobody answered
	Refused   State = "refused"    // somebody did, and maps nothing
	Mapped    State = "mapped"     // at least one port, at a public address
	DoubleNAT State = "double-nat" // mapped, at an address that is private itself
)

// Status is a snapshot.
type Status struct {
	State State `json:"state"`
	// Text tells it in a sentence.
	Text string `json:"text"`
	// Gateway is the router that maps, and Method how it is talked to.
	Gateway string `json:"gateway,omitempty"`
	Method  Method `json:"method,omitempty"`
	// External is the address that the gateway says it has.
	External netip.Addr `json:"external,omitzero"`
	Mappings []Mapping  `json:"mappings,omitempty"`
	// Because is why there is no mapping, or not of every port.
	Because string `json:"because,omitempty"`
}

// sentence composes Text from the rest.
func sentence(s Status) string {
	switch s.State {
	case Off:
		return "ports are not mapped: " + s.Because
	case Searching:
		return "looking for a router that maps ports"
	case NoGateway:
		return "no router maps ports here: " + s.Because
	case Refused:
		return fmt.Sprintf("the router %s maps no port over %s: %s", s.Gateway, s.Method, s.Because)
	}
	var ports []string
	for _, m := range s.Mappings {
		p := m.Port.String()
		if m.External.Port() != m.Number {
			p += fmt.Sprintf(" as %d", m.External.Port())
		}
		ports = append(ports, p)
	}
	text := fmt.Sprintf("the router %s maps %s at %s (%s)", s.Gateway, strings.Join(ports, ", "), s.External, s.Method)
	if s.State == DoubleNAT {
		text += ", which is not an address of the internet: there is another NAT behind it"
	}
	if s.Because != "" {
		text += "; " + s.Because
	}
	return text
}
