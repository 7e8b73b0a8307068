package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/routing"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// lookupTimeout bounds one search for a peer in the DHT.
	lookupTimeout = 10 * time.Second
	// lookupGrace is how much longer than before further answers are waited
	// for with each attempt: the first may be stale, or a lie.
	lookupGrace = 250 * time.Millisecond
)

// lookup asks the DHT for the peer's addresses, which end up in the peerstore.
// It takes the first answer that has any, and those that follow within grace.
//
// It does not wait until kad-dht's own search ends, which asks dead servers
// too, and it keeps that from dialling the peer (see dhtHost). FindPeer would
// do the same, but asks nobody about a peer that we are connected to (v0.42,
// routing.go), be it over a dead path.
func (n *Node) lookup(ctx context.Context, p peer.ID, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, lookedUp{}, p), lookupTimeout)
	qctx, events := routing.RegisterForQueryEvents(ctx)
	ended := make(chan error, 1)
	go func() {
		_, err := n.dht.GetClosestPeers(qctx, string(p))
		ended <- err
		close(ended)
	}()
	defer func() {
		cancel()
		for range ended { // the search is over
		}
	}()
	book := n.host.Peerstore()
	var enough <-chan time.Time
	for {
		select {
		case e, ok := <-events:
			if !ok {
				events = nil // the time is up
				continue
			}
			addrs := answerFor(p, e)
			if n.cfg.Network == PublicNetwork {
				addrs = publicAddrs(addrs)
			}
			if len(addrs) == 0 {
				continue
			}
			book.AddAddrs(p, addrs, peerstore.TempAddrTTL)
			if grace <= 0 {
				return nil
			}
			if enough == nil {
				enough = time.After(grace)
			}
		case <-enough:
			return nil
		case err := <-ended:
			if len(book.Addrs(p)) > 0 {
				return nil
			}
			if n.dht.RoutingTable().Size() == 0 {
				return fmt.Errorf("%w %s: no DHT server is connected", ErrPeerNotFound, p)
			}
			if err != nil {
				log.Debug("lookup ended", "peer", p, "err", err)
			}
			return fmt.Errorf("%w %s", ErrPeerNotFound, p)
		}
	}
}

// dhtHost is the host as the DHT has it. kad-dht asks whom it looks for as
// well, since nobody is nearer to the key, and dials the peer for that.
type dhtHost struct{ host.Host }

// lookedUp is the context key for the peer that is looked up.
type lookedUp struct{}

var errLookedUp = errors.New("it is looked up, not dialled")

func (h dhtHost) Connect(ctx context.Context, info peer.AddrInfo) error {
	if p, ok := ctx.Value(lookedUp{}).(peer.ID); ok && p == info.ID {
		return errLookedUp
	}
	return h.Host.Connect(ctx, info)
}

// answerFor takes the addresses of p out of what a DHT server answered.
func answerFor(p peer.ID, e *routing.QueryEvent) []ma.Multiaddr {
	if e.Type != routing.PeerResponse {
		return nil
	}
	for _, info := range e.Responses {
		if info.ID == p {
			return info.Addrs
		}
	}
	return nil
}
