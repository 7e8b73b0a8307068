package node

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/causeway-p2p/causeway/internal/maddr"
	"github.com/causeway-p2p/causeway/netwatch"
)

func (n *Node) watchNetwork(ctx context.Context) error { return netwatch.Run(ctx, n.networkChanged) }

// networkChanged makes everybody look again whose knowledge was of the network
// as it was.
func (n *Node) networkChanged(c netwatch.Change) {
	dead := n.closeFrom(c.Removed)
	n.strict.moved()
	n.advertiser.moved(c)
	n.reachability.NetworkChanged()
	if n.mapper != nil {
		n.mapper.Changed()
	}
	if n.upgrader != nil {
		n.upgrader.Changed()
	}
	// What stands is not touched by an address that came besides, as docker
	// makes them all day.
	if besides := len(c.Removed) == 0 && !c.Route && !c.Link && c.Slept == 0; n.autorelay != nil && !besides {
		n.autorelay.Refresh()
	}
	n.events.emit(NetworkChanged{At: now(), Change: c, Closed: dead})
}

// closeFrom closes the connections from addresses that this machine has no
// more. No packet of theirs will arrive, and TCP would hope for minutes.
// Those of a socket for all addresses (most of QUIC's) are left alone: their
// packets leave from the new address, and the other side follows (RFC 9000
// section 9).
func (n *Node) closeFrom(gone []netip.Addr) (closed int) {
	if len(gone) == 0 {
		return 0
	}
	for _, c := range n.host.Network().Conns() {
		if !maddr.IsCircuit(c.LocalMultiaddr()) && slices.Contains(gone, maddr.IP(c.LocalMultiaddr())) {
			closed++
			n.parts.Go(func() { closeNow(c) })
		}
	}
	return closed
}

// closeNow may take a while: a muxer wants to say goodbye.
func closeNow(c network.Conn) {
	if err := c.Close(); err != nil {
		log.Debug("connection from an old address not closed well", "peer", c.RemotePeer(), "err", err)
	}
}

// staleAddrs is for how long go-libp2p's address manager (v0.51,
// host/basic/addrs_manager.go, interfaceAddrsCacheTTL) may not know which
// addresses the interfaces have.
const staleAddrs = time.Minute + time.Second

// moves are recent changes of the interfaces, which it has not noticed. They
// belong to the advertiser, and are guarded by its lock.
type moves struct {
	list map[netip.Addr]move
}

type move struct {
	came bool // or went
	at   time.Time
}

func (m *moves) note(c netwatch.Change, now time.Time) {
	if m.list == nil {
		m.list = make(map[netip.Addr]move)
	}
	for _, a := range c.Removed {
		m.list[a] = move{false, now}
	}
	for _, a := range c.Added {
		m.list[a] = move{true, now}
	}
}

// apply corrects what the address manager says, with our listen addresses at
// interfaces that it does not know.
func (m *moves) apply(direct, listen []ma.Multiaddr, now time.Time) []ma.Multiaddr {
	for a, v := range m.list {
		if now.Sub(v.at) > staleAddrs {
			delete(m.list, a)
		}
	}
	if len(m.list) == 0 {
		return direct
	}
	out := slices.DeleteFunc(slices.Clone(direct), func(a ma.Multiaddr) bool {
		v, known := m.list[maddr.IP(a)]
		return known && !v.came
	})
	var interfaces []ma.Multiaddr
	for a, v := range m.list {
		if i, err := manet.FromIP(a.AsSlice()); err == nil && v.came {
			interfaces = append(interfaces, i)
		}
	}
	slices.SortFunc(interfaces, ma.Multiaddr.Compare)
	for _, l := range listen {
		if maddr.IsCircuit(l) || !manet.IsIPUnspecified(l) {
			continue
		}
		if resolved, err := manet.ResolveUnspecifiedAddress(l, interfaces); err == nil {
			out = append(out, resolved...)
		}
	}
	return ma.Unique(out)
}
