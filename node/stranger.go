package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/reachability"
	"github.com/causeway-p2p/causeway/stranger"
)

func (n *Node) newStranger() (err error) {
	n.stranger, err = stranger.New(n.host, stranger.Config{NewDialer: n.cfg.newDialer})
	return err
}

// strangers are what package reachability asks for.
type strangers struct{ *stranger.Stranger }

func (s strangers) Ask(ctx context.Context, via peer.ID, addr ma.Multiaddr, nonce uint64) error {
	err := s.Stranger.Ask(ctx, via, addr, nonce)
	if errors.Is(err, stranger.ErrDialFailed) {
		return fmt.Errorf("%w: %w", reachability.ErrNotReached, err)
	}
	return err
}

// newDialer makes a host that dials one address for somebody else, with nothing
// of the node's own: no identity, no port, no resources, no opinion on which
// addresses are worth a dial.
func (c Config) newDialer() (host.Host, error) {
	opts := []libp2p.Option{
		libp2p.NoListenAddrs,
		libp2p.UserAgent(c.UserAgent),
		libp2p.ResourceManager(&network.NullResourceManager{}), // package stranger allows 4, for seconds
		libp2p.UDPBlackHoleSuccessCounter(nil),
		libp2p.IPv6BlackHoleSuccessCounter(nil),
		libp2p.SwarmOpts(swarm.WithDialRanker(swarm.NoDelayDialRanker)),
		libp2p.DisableIdentifyAddressDiscovery(),
		libp2p.DisableMetrics(),
		libp2p.Ping(false),
	}
	if len(c.Transports) > 0 {
		return libp2p.New(append(opts, c.Transports...)...)
	}
	return libp2p.New(append(opts, libp2p.Transport(libp2pquic.NewTransport), libp2p.Transport(tcp.NewTCPTransport))...)
}
