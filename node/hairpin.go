package node

import (
	"context"
	"net"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/causeway-p2p/causeway/internal/maddr"
	"github.com/causeway-p2p/causeway/reachability"
)

// Does the NAT lead back in what we send to our own external address (RFC 4787
// section 6)? A throw-away host dials us there. Where nothing comes back, that
// tells something only if the NAT lets in more than answers: of the packets
// that it does lead back, others stop at its filter.

const (
	// hairpinTimeout is far longer than a router takes.
	hairpinTimeout = 2 * time.Second
	// hairpinEvery is how often it is looked whether there is another external
	// address to try.
	hairpinEvery = 2 * time.Second
)

// watchHairpin tries each external address once, and again when more is known of
// the filter, until ctx ends.
func (n *Node) watchHairpin(ctx context.Context) error {
	tick := time.NewTicker(hairpinEvery)
	defer tick.Stop()
	var tried string
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		nat := n.reachability.NAT()
		a := n.external(nat)
		if a == nil || tried == a.String()+string(nat.UDP.Filtering) {
			continue
		}
		tried = a.String() + string(nat.UDP.Filtering)
		n.reachability.SetHairpin(n.hairpin(ctx, a, nat.UDP.Filtering))
	}
}

// external is where others see our QUIC socket, once it is known what the NAT
// does; nil before that and without a NAT.
func (n *Node) external(nat reachability.NAT) ma.Multiaddr {
	if nat.UDP.Mapping != reachability.EndpointIndependent || nat.UDP.Filtering == reachability.NotKnown {
		return nil
	}
	for _, a := range n.reachability.Observed() {
		if _, err := a.ValueForProtocol(ma.P_IP4); err == nil && maddr.Transport(a) == "quic" {
			return a
		}
	}
	return nil
}

func (n *Node) hairpin(ctx context.Context, a ma.Multiaddr, filtering reachability.Behavior) reachability.Fact {
	dialer, err := n.cfg.newDialer()
	if err != nil {
		return reachability.NotTold
	}
	defer dialer.Close()
	opened := filtering == reachability.EndpointIndependent
	if na, err := manet.ToNetAddr(a[:2]); err == nil {
		to := na.(*net.UDPAddr).AddrPort()
		n.reachability.Contacted(to.Addr()) // we are no stranger to ourselves
		if s := n.sockets(); s != nil && filtering == reachability.AddressDependent {
			// What we send there ourselves lets in all that comes from there.
			opened = s.Send(make([]byte, 1), to) == nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, hairpinTimeout)
	defer cancel()
	err = dialer.Connect(network.WithForceDirectDial(ctx, "hairpin"), peer.AddrInfo{ID: n.id, Addrs: []ma.Multiaddr{a}})
	switch {
	case err == nil:
		return reachability.Yes
	case opened:
		return reachability.No
	}
	return reachability.NotTold
}
