package node

import (
	"context"
	"net"
	"net/netip"
	"slices"

	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/direct"
	"github.com/causeway-p2p/causeway/reachability"
)

// newUpgrader makes relayed connections direct, from what reachability knows of
// our addresses and our NAT.
func (n *Node) newUpgrader() (*direct.Upgrader, error) {
	return direct.New(direct.Config{
		Host: n.host, Door: n.circuits.door, Addrs: n.reachability.Observed, NAT: n.translation,
		Sockets: n.sockets(),
		Arrived: n.arrived, Carrier: n.carrierAddrs,
		OnDial: n.reachability.Contacted, OnEvent: n.directEvent, Registerer: n.cfg.Registerer,
	})
}

// translation is our NAT in the words of package direct.
func (n *Node) translation() direct.NAT {
	nat := n.reachability.NAT()
	return direct.NAT{
		UDPMapping: behavior(nat.UDP.Mapping), UDPFiltering: behavior(nat.UDP.Filtering),
		TCPMapping: behavior(nat.TCP.Mapping), UDPBlocked: nat.UDPBlocked == reachability.Yes,
	}
}

func behavior(b reachability.Behavior) direct.Behavior {
	switch b {
	case reachability.EndpointIndependent, reachability.NoNAT:
		return direct.EndpointIndependent
	case reachability.AddressDependent:
		return direct.AddressDependent
	case reachability.AddressAndPortDependent:
		return direct.AddressAndPortDependent
	}
	return direct.Unknown
}

func (n *Node) directEvent(e direct.Event) {
	n.events.emit(DirectAttempt{
		At: At{e.Time}, Peer: e.Peer, Outcome: e.Outcome, Why: e.Why, Took: e.Took, Attempt: e.Attempt, Guesses: e.Guesses,
		Ours: e.Ours, Theirs: e.Theirs,
	})
	n.lookWhyRelayed(e)
}

// sockets is UDP beneath QUIC: nil if there is none, or if the transports are
// not the machine's.
func (n *Node) sockets() direct.Sockets {
	switch {
	case n.cfg.Sockets != nil:
		return n.cfg.Sockets
	case n.circuits.quic == nil:
		return nil
	}
	return udpSockets{n.circuits.quic}
}

// udpSockets are the machine's.
type udpSockets struct{ quic *quicreuse.ConnManager }

// Addrs implements direct.Sockets. It names the network that the default route
// leaves by, and no others: those of containers and VPNs are nobody's LAN.
func (udpSockets) Addrs() ([]net.Addr, error) {
	// Connecting a UDP socket sends nothing.
	var d net.Dialer
	probe, err := d.DialContext(context.Background(), "udp4", "11.0.0.1:9")
	if err != nil {
		return nil, nil //nolint:nilerr // no default route, no LAN
	}
	defer probe.Close()
	source := probe.LocalAddr().(*net.UDPAddr).IP
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return !ok || !n.IP.Equal(source)
	}), nil
}

// Open implements direct.Sockets.
func (udpSockets) Open() (net.PacketConn, error) { return net.ListenUDP("udp4", nil) }

// Send implements direct.Sockets.
func (s udpSockets) Send(b []byte, to netip.AddrPort) error {
	dst := net.UDPAddrFromAddrPort(to)
	tr, err := s.quic.TransportForDial("udp4", dst)
	if err != nil {
		return err
	}
	defer tr.DecreaseCount()
	_, err = tr.WriteTo(b, dst)
	return err
}

// Listen puts the door beside the listener for circuits: it is the one of the
// host's listeners that is ours.
func (c *circuits) Listen(a ma.Multiaddr) (transport.Listener, error) {
	l, err := c.Client.Listen(a)
	if err != nil {
		return nil, err
	}
	return c.door.Listener(l), nil
}

// DirectPath is how it stands with a direct path to a peer with a relayed one.
type DirectPath struct {
	direct.PeerStatus
	Path Path `json:"path"`
}

// paths tells how it stands with all of them.
func (n *Node) paths() []DirectPath {
	if n.upgrader == nil {
		return nil
	}
	var out []DirectPath
	for _, s := range n.upgrader.Status() {
		s.Why = whyRelayed(s, n.strict.holds())
		out = append(out, DirectPath{PeerStatus: s, Path: pathTo(n.host.Network(), s.Peer)})
	}
	return out
}

// whyRelayed is why there is no direct path. Where only TCP port 443
// gets out, that explains it better than what the attempt saw.
func whyRelayed(s direct.PeerStatus, only443 bool) string {
	if only443 && !s.Direct && s.Why != "" {
		return "only TCP port 443 gets out of here, and peers listen on other ports"
	}
	return s.Why
}
