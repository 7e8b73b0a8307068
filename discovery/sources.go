package discovery

import (
	"context"
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/routing"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
)

// staticFinder yields the relays that the user named.
type staticFinder []peer.AddrInfo

func (staticFinder) Source() Source { return Static }

func (s staticFinder) Find(_ context.Context, found func(peer.AddrInfo)) error {
	for _, info := range s {
		found(info)
	}
	return nil
}

// maxProviders bounds how many relays one lookup takes: enough to choose
// from, few enough that a flood of false providers costs little.
const maxProviders = 32

// rendezvousFinder looks for providers of the namespace in the DHT.
type rendezvousFinder struct {
	routing   routing.ContentRouting
	namespace string
	self      peer.ID
}

func (*rendezvousFinder) Source() Source { return DHT }

func (f *rendezvousFinder) Find(ctx context.Context, found func(peer.AddrInfo)) error {
	key, err := rendezvousKey(f.namespace)
	if err != nil {
		return err
	}
	n := 0
	for info := range f.routing.FindProvidersAsync(ctx, key, maxProviders) {
		if info.ID != f.self {
			n++
		}
		found(info)
	}
	if n == 0 {
		return errors.New("the rendezvous has no relays yet")
	}
	return nil
}

// connectedFinder watches identify: a connected peer that speaks hop is a
// relay at no cost. It needs no rounds, so it is not a Finder.
type connectedFinder struct {
	host  host.Host
	found func(peer.AddrInfo)
	sub   event.Subscription
}

func newConnectedFinder(h host.Host, found func(peer.AddrInfo)) (*connectedFinder, error) {
	sub, err := h.EventBus().Subscribe([]any{
		new(event.EvtPeerIdentificationCompleted),
		new(event.EvtPeerProtocolsUpdated),
	}, eventbus.Name("causeway/discovery"), eventbus.BufSize(256))
	if err != nil {
		return nil, fmt.Errorf("subscribe to identify: %w", err)
	}
	return &connectedFinder{host: h, found: found, sub: sub}, nil
}

func (f *connectedFinder) run(ctx context.Context, want *signal) {
	defer f.sub.Close()
	wanted := want.changes() // kept until it closes, so that no change is missed
	f.checkAll(want)         // those who were connected before us
	for {
		select {
		case <-ctx.Done():
			return
		case <-wanted:
			wanted = want.changes()
			f.checkAll(want)
		case ev, ok := <-f.sub.Out():
			if !ok {
				return
			}
			switch ev := ev.(type) {
			case event.EvtPeerIdentificationCompleted:
				f.check(ev.Peer)
			case event.EvtPeerProtocolsUpdated:
				f.check(ev.Peer)
			}
		}
	}
}

func (f *connectedFinder) checkAll(want *signal) {
	if !want.isOn() {
		return
	}
	for _, p := range f.host.Network().Peers() {
		f.check(p)
	}
}

func (f *connectedFinder) check(p peer.ID) {
	// A peer behind a relay cannot be a relay for us (no circuits over
	// circuits), so only direct connections count.
	if f.host.Network().Connectedness(p) != network.Connected {
		return
	}
	if protos, err := f.host.Peerstore().SupportsProtocols(p, proto.ProtoIDv2Hop); err != nil || len(protos) == 0 {
		return
	}
	f.found(peer.AddrInfo{ID: p, Addrs: f.host.Peerstore().Addrs(p)})
}
