package main

import (
	"context"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/node"
)

// dialRows are about reaching somebody else who is behind relays.
func dialRows() []*scenario {
	return []*scenario{{
		id: "8", row: 8, sides: bothSides,
		figures: []figure{
			// The bound is on the connection. The first answer takes two more
			// round trips of 100 ms each over it (identify, then a stream), so
			// even with no dead relay in the way it is not there in 0.5 s.
			{id: "8a", what: "dial a peer at [dead relay, live relay]: connection stands", unit: seconds, bound: bounded(0.5)},
			{id: "8b", what: "  … and it has answered a ping", unit: seconds},
			{id: "8c", what: "dial a peer at [live relay, dead relay]: connection stands", unit: seconds, bound: bounded(0.5)},
			{id: "8d", what: "  … and it has answered a ping", unit: seconds},
		},
		run: func(w *world) values {
			v := values{}
			dialPastDead(w, v, "8a", "8b", 0)
			dialPastDead(w, v, "8c", "8d", 1)
			return v
		},
	}}
}

// dialPastDead lets a node dial a peer that has just lost one of its two relays
// and does not know it yet. The caller knows the peer's addresses, and neither
// relay. dead is the dead relay's place among the addresses.
func dialPastDead(w *world, v values, stands, answered string, dead int) {
	w.Helper()
	w.relays = nil
	relays := w.relaysOf(2, limits{})
	callee := w.privateStatic(relays)
	callee.settle(2)
	var addrs []ma.Multiaddr
	order := []*relayHost{relays[0], relays[1]}
	for _, r := range order {
		addrs = append(addrs, callee.circuits()[r.id()]...)
	}
	box := w.behindNAT().box
	to := peer.AddrInfo{ID: callee.host.ID(), Addrs: addrs}
	var caller host.Host
	var connect func(context.Context) error
	if w.side.stockNode() {
		caller = w.stockHost(box, w.key())
		connect = func(ctx context.Context) error {
			ctx = network.WithAllowLimitedConn(ctx, "bench")
			if err := caller.Connect(ctx, to); err != nil {
				return err
			}
			return (<-ping.Ping(ctx, caller, to.ID)).Error
		}
	} else {
		n := w.ownNode(box, node.Config{Relays: -1, NoHolePunching: true})
		caller = n.Host()
		caller.Peerstore().AddAddrs(to.ID, addrs, peerstore.TempAddrTTL)
		connect = func(ctx context.Context) error { // and ping
			_, err := n.Ping(ctx, to.ID)
			return err
		}
	}
	time.Sleep(time.Second)
	order[dead].vanish()
	ctx, cancel := context.WithTimeout(w.Context(), time.Hour)
	defer cancel()
	begun := time.Now()
	var stood time.Duration
	caller.Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
		if c.RemotePeer() == to.ID && stood == 0 {
			stood = time.Since(begun)
		}
	}})
	err := connect(ctx)
	if err != nil {
		w.Logf("dial: %v", err)
	}
	took := time.Since(begun)
	synctest.Wait()
	v.took(answered, took, err == nil)
	v.took(stands, stood, stood > 0)
}
