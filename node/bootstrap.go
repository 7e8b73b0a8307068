package node

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"

	"github.com/causeway-p2p/causeway/internal/dialerr"
)

// bootstrap connects to the bootstrap peers and lets the DHT look around, and
// does so again whenever the node has lost everybody.
func (n *Node) bootstrap(ctx context.Context) error {
	peers := bootstrapPeers(n.cfg)
	if len(peers) == 0 {
		return n.dht.Bootstrap(ctx)
	}
	sub, err := n.host.EventBus().Subscribe(new(event.EvtPeerConnectednessChanged), eventbus.Name("causeway/bootstrap"))
	if err != nil {
		return fmt.Errorf("subscribe to connections: %w", err)
	}
	defer sub.Close()
	again := time.Second
	joined := false // a peer may have found us before we have found anybody
	for {
		if !joined || len(n.host.Network().Peers()) == 0 {
			if who, err := n.connectAny(ctx, peers); err == nil {
				joined = true
				n.events.emit(Joined{At: now(), Peer: who})
				again = time.Second
				if err := n.dht.Bootstrap(ctx); err != nil && ctx.Err() == nil {
					log.Warn("dht bootstrap", "err", err)
				}
			} else if ctx.Err() == nil {
				n.events.emit(JoinFailed{At: now(), Err: err.Error(), Again: again})
				pause(ctx, again)
				again = min(2*again, time.Minute)
				continue
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-sub.Out():
			if !ok {
				return nil
			}
		}
	}
}

const (
	// reuniteFirst and reuniteMost bound the pause between two looks for
	// bootstrap peers that are gone; it doubles, with jitter, while they are.
	reuniteFirst = time.Second
	reuniteMost  = time.Minute
)

// reunite looks for bootstrap peers that went away, on a private network: one
// that restarts knows nobody, and is cut off until somebody finds it.
func (n *Node) reunite(ctx context.Context) error {
	if !n.cfg.private() || len(n.cfg.Bootstrap) == 0 {
		return nil
	}
	again := reuniteFirst
	for ctx.Err() == nil {
		pause(ctx, again)
		var gone []peer.AddrInfo
		for _, info := range n.cfg.Bootstrap {
			if info.ID != n.id && n.host.Network().Connectedness(info.ID) != network.Connected {
				gone = append(gone, info)
			}
		}
		if len(gone) == 0 {
			again = reuniteFirst
			continue
		}
		if _, err := n.connectAny(ctx, gone); err != nil {
			log.Debug("bootstrap peers are gone", "count", len(gone), "err", err)
		}
		again = min(2*again, reuniteMost)
	}
	return nil
}

// connectAny dials all bootstrap peers and returns the first that answers;
// the other dials go on beside.
func (n *Node) connectAny(ctx context.Context, peers []peer.AddrInfo) (peer.ID, error) {
	type outcome struct {
		id  peer.ID
		err error
	}
	outcomes := make(chan outcome, len(peers))
	for _, info := range peers {
		n.parts.Go(func() {
			dctx, cancel := context.WithTimeout(ctx, connectTimeout)
			defer cancel()
			n.clearDialBackoff(info.ID)
			outcomes <- outcome{info.ID, n.host.Connect(dctx, info)}
		})
	}
	var first error
	for range peers {
		o := <-outcomes
		if o.err == nil {
			return o.id, nil
		}
		if first == nil {
			first = fmt.Errorf("%s: %w", ShortID(o.id), dialerr.Short(o.err))
		}
	}
	return "", first
}
