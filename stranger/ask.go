package stranger

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/internal/oneshot"
	"github.com/causeway-p2p/causeway/stranger/pb"
)

// askTimeout is more than serveTimeout, so that it is the server who gives up.
const askTimeout = serveTimeout + 2*time.Second

// Ask has a server, to which we are connected, find somebody who dials addr and
// hands over the nonce. It returns when the server has answered, in the worst
// case after 18 seconds; a nonce that arrives may do so before. Nil and
// ErrDialFailed are what the server says; ErrNobody, a *RefusedError and all
// other errors mean that nobody has dialled, or that nobody knows.
func (s *Stranger) Ask(ctx context.Context, via peer.ID, addr ma.Multiaddr, nonce uint64) error {
	t, err := parseTarget(addr.Bytes())
	if err == nil {
		err = s.ask(ctx, via, t, nonce)
	}
	if err != nil {
		return fmt.Errorf("stranger for %s by %s: %w", addr, via, err)
	}
	return nil
}

func (s *Stranger) ask(ctx context.Context, via peer.ID, t target, nonce uint64) error {
	m := &pb.Ask{Addr: t.addr.Bytes(), Nonce: nonce}
	for _, p := range s.contacts(t.ip.Is4()) {
		m.Known = append(m.Known, prefixToWire(p))
	}
	var outcome error
	err := oneshot.Call(ctx, s.host, via, Protocol, askTimeout, func(st network.Stream) (err error) {
		_, outcome, err = inquire(st, &pb.Message{Kind: &pb.Message_Ask{Ask: m}}, maxData)
		return err
	})
	if err != nil {
		return err
	}
	return outcome
}

// contacts are the networks of one IP family that we are or were in contact
// with, those first whose hosts a server could choose: we know what a peer
// speaks only if it was connected, and libp2p keeps its addresses for 15 minutes
// after that (peerstore.RecentlyConnectedAddrTTL), longer than a NAT remembers.
func (s *Stranger) contacts(four bool) []netip.Prefix {
	var out []netip.Prefix
	add := func(a ma.Multiaddr) {
		ip, ok := publicIP(a)
		if !ok || ip.Is4() != four || len(out) == maxKnown {
			return
		}
		if p := around(ip); !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	conns := s.host.Network().Conns()
	for _, c := range conns {
		if oneshot.Speaks(s.host, c.RemotePeer(), Protocol) {
			add(c.RemoteMultiaddr())
		}
	}
	for _, p := range s.host.Peerstore().PeersWithAddrs() {
		if p != s.host.ID() && oneshot.Speaks(s.host, p, Protocol) {
			for _, a := range s.host.Peerstore().Addrs(p) {
				add(a)
			}
		}
	}
	for _, c := range conns {
		add(c.RemoteMultiaddr())
	}
	return out
}
