package main

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/routing"
	drouting "github.com/libp2p/go-libp2p/p2p/discovery/routing"
	dutil "github.com/libp2p/go-libp2p/p2p/discovery/util"

	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/testnet"
)

// bootRows are about the first circuit address.
func bootRows() []*scenario {
	var list []*scenario
	for i, know := range []struct {
		text  string
		start func(*world, []*relayHost) *subject
	}{
		// A list of relays lowers go-libp2p's minimum of 4 candidates to its
		// own length; a peer source, which is what discovery is, does not.
		{"in a static list", (*world).privateStatic},
		{"from a peer source", (*world).private},
	} {
		for n := 1; n <= 3; n++ {
			id := fmt.Sprint("1", string("abcdef"[3*i+n-1]))
			relays := "relays"
			if n == 1 {
				relays = "relay"
			}
			list = append(list, &scenario{
				id: id, row: 1, sides: everySide,
				figures: []figure{{
					id: id, unit: seconds, bound: bounded(1),
					what: fmt.Sprintf("first circuit address, %d %s %s", n, relays, know.text),
				}},
				run: func(w *world) values { return firstAddr(w, id, n, know.start) },
			})
		}
	}
	return append(list, &scenario{
		id: "2", row: 2, sides: bothSides,
		figures: []figure{{id: "2", what: "first circuit address, 3 relays at a DHT rendezvous", unit: seconds, bound: bounded(2)}},
		run:     rendezvous,
	})
}

// firstAddr starts a private node that knows n relays.
func firstAddr(w *world, id string, n int, start func(*world, []*relayHost) *subject) values {
	relays := w.relaysOf(n, limits{})
	time.Sleep(dust)
	begun := time.Now()
	s := start(w, relays)
	_, ok := until(horizon, func() bool { return s.live() > 0 })
	v := values{}
	v.took(id, time.Since(begun), ok)
	return v
}

const (
	dhtPrefix    protocol.ID = "/bench"
	rendezvousNS string      = "bench relays" // where the stock relays announce themselves
)

// rendezvous starts a private node that knows a bootstrap peer only. Stock
// nodes use kad-dht's routing discovery as a peer source, as its examples do.
func rendezvous(w *world) values {
	v := values{}
	if !w.side.stockNode() {
		boot := w.ownNode(w.public("bootstrap"), node.Config{Server: true, Relays: -1})
		info := *host.InfoFromHost(boot.Host())
		for range 3 {
			r := w.relay(limits{}, info)
			for e := range r.node.History(w.Context()) {
				if _, ok := e.(node.Announced); ok {
					break
				}
			}
		}
		time.Sleep(dust)
		begun := time.Now()
		s := w.behindNAT()
		s.node = w.ownNode(s.box, node.Config{Bootstrap: []peer.AddrInfo{info}, NoHolePunching: true})
		s.host = s.node.Host()
		_, ok := until(horizon, func() bool { return s.live() > 0 })
		v.took("2", time.Since(begun), ok)
		return v
	}

	ctx := w.Context()
	boot, _ := w.stockDHT(w.public("bootstrap"), nil, dht.ModeServer, libp2p.ForceReachabilityPublic())
	info := *host.InfoFromHost(boot)
	for range 3 {
		r := w.relay(limits{})
		w.must(r.host.Connect(ctx, info), "connect to the bootstrap peer")
		d := w.joinDHT(r.host, info, dht.ModeServer)
		dutil.Advertise(ctx, drouting.NewRoutingDiscovery(d), rendezvousNS)
	}
	time.Sleep(dust)
	begun := time.Now()
	s := w.behindNAT()
	ready := make(chan struct{})
	var discovery *drouting.RoutingDiscovery
	s.host, discovery = w.stockDHT(s.box, &info, dht.ModeAuto, libp2p.ForceReachabilityPrivate(),
		libp2p.EnableAutoRelayWithPeerSource(func(ctx context.Context, most int) <-chan peer.AddrInfo {
			<-ready
			found, err := discovery.FindPeers(ctx, rendezvousNS)
			if err != nil {
				none := make(chan peer.AddrInfo)
				close(none)
				return none
			}
			return found
		}))
	close(ready)
	_, ok := until(horizon, func() bool { return s.live() > 0 })
	v.took("2", time.Since(begun), ok)
	return v
}

// stockDHT starts a host with a DHT, joined through boot unless that is nil.
func (w *world) stockDHT(box *testnet.Host, boot *peer.AddrInfo, mode dht.ModeOpt, opts ...libp2p.Option) (host.Host, *drouting.RoutingDiscovery) {
	w.Helper()
	discovery := new(drouting.RoutingDiscovery)
	opts = append(opts, libp2p.Routing(func(h host.Host) (routing.PeerRouting, error) {
		d, err := dht.New(h, dht.ProtocolPrefix(dhtPrefix), dht.Mode(mode))
		if err == nil {
			*discovery = *drouting.NewRoutingDiscovery(d)
		}
		return d, err
	}))
	h := w.stockHost(box, w.key(), opts...)
	if boot != nil {
		w.must(h.Connect(w.Context(), *boot), "connect to the bootstrap peer")
	}
	return h, discovery
}

func (w *world) joinDHT(h host.Host, boot peer.AddrInfo, mode dht.ModeOpt) *dht.IpfsDHT {
	w.Helper()
	d, err := dht.New(h, dht.ProtocolPrefix(dhtPrefix), dht.Mode(mode), dht.BootstrapPeers(boot))
	w.must(err, "dht")
	w.must(d.Bootstrap(w.Context()), "dht bootstrap")
	return d
}
