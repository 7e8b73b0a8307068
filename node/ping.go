package node

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"

	"github.com/causeway-p2p/causeway/internal/echo"
)

// Ping is one round trip to a peer.
type Ping struct {
	RTT  time.Duration `json:"rtt_ns"`
	Path Path          `json:"path"`
}

// Ping makes one round trip to a peer, connecting first if need be, and tells
// which path it took.
func (n *Node) Ping(ctx context.Context, p peer.ID) (Ping, error) {
	return withPeer(ctx, n, p, func(ctx context.Context, h host.Host, _ bool) (out Ping, err error) {
		out.RTT, out.Path, err = pingOver(ctx, h, p)
		return out, err
	})
}

// pingOver pings over the best connection that h has right now. The round trip
// is that of the answer alone, not of opening the stream.
func pingOver(ctx context.Context, h host.Host, p peer.ID) (time.Duration, Path, error) {
	s, err := h.NewStream(network.WithNoDial(allowLimited(ctx), "ping"), p, ping.ID)
	if err != nil {
		return 0, Path{}, err
	}
	defer s.Reset()
	rtt, err := echo.Ask(ctx, s)
	if err == nil {
		h.Peerstore().RecordLatency(p, rtt)
	}
	return rtt, PathOf(s.Conn()), err
}
