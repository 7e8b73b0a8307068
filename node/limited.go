package node

import (
	"context"
	"fmt"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
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
type frank struct{ host.Host }

// NewStream implements host.Host. If there is only a limited connection, and
// ctx does not allow that, the error is a *LimitedError.
func (h frank) NewStream(ctx context.Context, p peer.ID, protos ...protocol.ID) (network.Stream, error) {
	if allowed, _ := network.GetAllowLimitedConn(ctx); allowed {
		return h.Host.NewStream(ctx, p, protos...)
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
	return h.Host.NewStream(ctx, p, protos...)
}

// AllAddrs are the host's addresses, those included that it does not tell
// others.
func (h frank) AllAddrs() []ma.Multiaddr {
	if all, ok := h.Host.(interface{ AllAddrs() []ma.Multiaddr }); ok {
		return all.AllAddrs()
	}
	return h.Addrs()
}
