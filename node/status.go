package node

import (
	"time"

	"github.com/causeway-p2p/causeway/autorelay"
	"github.com/causeway-p2p/causeway/internal/maddr"
	"github.com/causeway-p2p/causeway/portmap"
	"github.com/causeway-p2p/causeway/reachability"
	"github.com/causeway-p2p/causeway/relay"
)

// Status is a snapshot of the node, as the control socket, `peer status` and
// --json show it.
type Status struct {
	ID      string    `json:"id"`
	Version string    `json:"version"`
	Network string    `json:"network"`
	Started time.Time `json:"started,omitzero"`
	// Listen are the addresses that the node listens on, Addrs those that it
	// tells others.
	Listen []string `json:"listen"`
	Addrs  []string `json:"addrs"`
	// Reachable tells whether others can reach the node, directly or through
	// a relay.
	Reachable    bool                 `json:"reachable"`
	Reachability reachability.Verdict `json:"reachability"`
	// PortMapping is what the router in front of this machine lets in; missing
	// where it is not asked.
	PortMapping *portmap.Status `json:"port_mapping,omitempty"`
	// Connections counts peers, RoutingTable those that the DHT routes by.
	Connections  int `json:"connections"`
	RoutingTable int `json:"routing_table"`
	// AutoRelay is missing where no relays are sought, Relay where the node
	// never serves as one.
	AutoRelay *autorelay.Status `json:"autorelay,omitempty"`
	Relay     *relay.Status     `json:"relay,omitempty"`
	// Paths are the peers that we have a relayed connection to, and why it is
	// not a direct one, and those that a direct one has been found to.
	Paths []DirectPath `json:"paths,omitempty"`
	// Pushes tells how our circuit addresses become known.
	Pushes PushStatus `json:"pushes"`
	// ForeignRelays are those we are connected to only to reach somebody.
	ForeignRelays []ForeignRelay `json:"foreign_relays,omitempty"`
}

// Status returns a snapshot. Before Start most of it is empty.
func (n *Node) Status() Status {
	n.mu.Lock()
	running := n.started && !n.closed
	n.mu.Unlock()
	s := Status{
		ID: n.id.String(), Version: Version, Network: n.cfg.Network,
		Listen: []string{}, Addrs: []string{},
	}
	if !running {
		return s
	}
	s.Started = n.startedAt
	for _, a := range n.host.Network().ListenAddresses() {
		if !maddr.IsCircuit(a) {
			s.Listen = append(s.Listen, a.String())
		}
	}
	for _, a := range n.host.Addrs() {
		s.Addrs = append(s.Addrs, a.String())
	}
	s.Reachable = n.Reachable()
	s.Reachability = n.reachability.Verdict()
	if n.mapper != nil {
		ps := n.mapper.Status()
		s.PortMapping = &ps
	}
	s.Connections = len(n.host.Network().Peers())
	s.RoutingTable = n.dht.RoutingTable().Size()
	s.Paths = n.paths()
	s.Pushes = n.verifier.status()
	s.ForeignRelays = n.circuits.foreign.status(n.keepsRelay)
	if n.autorelay != nil {
		as := n.autorelay.Status()
		s.AutoRelay = &as
	}
	if n.relay != nil {
		rs := n.relay.Status()
		s.Relay = &rs
	}
	return s
}
