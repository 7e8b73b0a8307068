package node

import (
	"context"
	"fmt"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multistream"
)

// LimitedError: a stream was asked for without leave to use a relayed
// connection with limits, and there is no other to the peer. It wraps
// network.ErrLimitedConn.
type LimitedError struct{ Peer peer.ID }

func (e *LimitedError) Error() string {
	return fmt.Sprintf("only a limited connection over a relay leads to %s; use network.WithAllowLimitedConn, or wait for a direct one", ShortID(e.Peer))
}

func (e *LimitedError) Unwrap() error { return network.ErrLimitedConn }

// frank is a host that says at once when only a limited connection leads to a
// peer. go-libp2p's waits for a direct one until the context ends, or for a
// minute (v0.51, p2p/net/swarm/swarm.go, NewStream).
// And it opens no streams over a relay that leaves if there is another way: the
// swarm prefers the connection with the most streams, which then never ends.
type frank struct {
	host.Host
	farewells *farewells
}

// NewStream implements host.Host. If there is only a limited connection, and
// ctx does not allow that, the error is a *LimitedError.
func (h frank) NewStream(ctx context.Context, p peer.ID, protos ...protocol.ID) (network.Stream, error) {
	if allowed, _ := network.GetAllowLimitedConn(ctx); allowed {
		return h.newStream(ctx, p, protos)
	}
	nw := h.Network()
	if noDial, _ := network.GetNoDial(ctx); !noDial && p != h.ID() && nw.Connectedness(p) == network.NotConnected {
		if err := h.Connect(ctx, peer.AddrInfo{ID: p}); err != nil {
			return nil, err
		}
	}
	if nw.Connectedness(p) == network.Limited {
		return nil, &LimitedError{Peer: p}
	}
	return h.newStream(ctx, p, protos)
}

// newStream opens a stream on the connection that the swarm chooses or, if some
// are over relays that leave, on the best of the others.
func (h frank) newStream(ctx context.Context, p peer.ID, protos []protocol.ID) (network.Stream, error) {
	if conns := h.Network().ConnsToPeer(p); !h.farewells.none() && len(protos) > 0 {
		staying := h.farewells.staying(conns)
		allowed, _ := network.GetAllowLimitedConn(ctx)
		if c := bestOf(staying); c != nil && len(staying) < len(conns) && (allowed || !c.Stat().Limited) {
			return h.openOn(ctx, c, protos)
		}
	}
	return h.Host.NewStream(ctx, p, protos...)
}

// openOn opens a stream on a connection, with the first of the protocols that the
// peer speaks. As with go-libp2p's host, that takes no round trip if identify has
// told it already.
func (h frank) openOn(ctx context.Context, c network.Conn, protos []protocol.ID) (network.Stream, error) {
	s, err := c.NewStream(ctx)
	if err != nil {
		return nil, err
	}
	known, err := h.Peerstore().SupportsProtocols(c.RemotePeer(), protos...)
	if err == nil && len(known) > 0 {
		return negotiateLazily(s, known[0])
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	spoken, err := multistream.SelectOneOf(protos, s)
	if !stop() {
		err = ctx.Err()
	}
	if err == nil {
		err = s.SetProtocol(spoken)
	}
	if err != nil {
		s.Reset()
		return nil, fmt.Errorf("negotiate a protocol: %w", err)
	}
	return s, nil
}

// AllAddrs are the host's addresses, those included that it does not tell
// others.
func (h frank) AllAddrs() []ma.Multiaddr {
	if all, ok := h.Host.(interface{ AllAddrs() []ma.Multiaddr }); ok {
		return all.AllAddrs()
	}
	return h.Addrs()
}
