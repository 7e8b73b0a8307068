package main

import (
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/autorelay"
)

// changeRows are about what changes and comes back.
func changeRows() []*scenario {
	return []*scenario{
		{
			id: "6", row: 6, sides: bothSides,
			figures: []figure{{id: "6", what: "private, public, private, relays died meanwhile: to a live address", unit: seconds, bound: bounded(1)}},
			run:     flip,
		},
		{
			id: "7", row: 7, sides: bothSides,
			figures: []figure{{id: "7", what: "relay gains an address: in our circuit addresses after", unit: seconds, bound: bounded(1)}},
			run:     gainAddr,
		},
		{
			id: "9a", row: 9, sides: everySide,
			figures: []figure{{id: "9a", what: "the only relay crashes and is back after 3 s: unreachable after that", unit: seconds, bound: bounded(1)}},
			run:     func(w *world) values { return restart(w, "9a", (*relayHost).crash) },
		},
		{
			id: "9b", row: 9, sides: everySide,
			figures: []figure{{id: "9b", what: "the only relay restarts in good order, 3 s: unreachable after that", unit: seconds, bound: bounded(1)}},
			run:     func(w *world) values { return restart(w, "9b", (*relayHost).stop) },
		},
		{
			id: "9c", row: 9, sides: bothSides,
			figures: []figure{{id: "9c", what: "both used relays drain, restart, one by one: without live address", unit: seconds, bound: bounded(0)}},
			run:     rolling,
		},
	}
}

// flip makes the node public for a while, in which its relays vanish.
//
// Stock: by the event that its AutoNAT emits. Ours: by AutoRelay.Want, which
// is what package node does with a verdict, on an AutoRelay of its own whose
// addresses go to the host by the same event as package node's; there is no
// way in the simulated network to open a port of a NAT box and close it again.
func flip(w *world) values {
	relays := w.relaysOf(candidates, limits{})
	var s *subject
	var turn func(public bool)
	if w.side.stockNode() {
		s = w.private(relays)
		em, err := s.host.EventBus().Emitter(new(event.EvtLocalReachabilityChanged), eventbus.Stateful)
		w.must(err, "emitter")
		turn = func(public bool) {
			r := network.ReachabilityPrivate
			if public {
				r = network.ReachabilityPublic
			}
			w.must(em.Emit(event.EvtLocalReachabilityChanged{Reachability: r}), "emit reachability")
		}
	} else {
		s, turn = w.bareAutoRelay(relays)
	}
	s.settle(2)
	used := s.used()
	turn(true)
	time.Sleep(time.Minute)
	for _, r := range used {
		r.vanish()
	}
	// Long enough for every time-out of the transport.
	time.Sleep(5 * time.Minute)
	turn(false)
	took, ok := until(horizon, func() bool { return s.live() > 0 })
	v := values{}
	v.took("6", took, ok)
	return v
}

// bareAutoRelay starts a private host with our AutoRelay and nothing else, and
// returns the switch that a verdict would turn.
func (w *world) bareAutoRelay(relays []*relayHost) (*subject, func(public bool)) {
	w.Helper()
	s := w.behindNAT()
	s.host = w.stockHost(s.box, w.key(), libp2p.ForceReachabilityPrivate())
	em, err := s.host.EventBus().Emitter(new(event.EvtAutoRelayAddrsUpdated), eventbus.Stateful)
	w.must(err, "emitter")
	a, err := autorelay.New(autorelay.Config{
		Host: s.host,
		OnAddrs: func(addrs []ma.Multiaddr) {
			em.Emit(event.EvtAutoRelayAddrsUpdated{RelayAddrs: addrs}) //nolint:errcheck // fails after Close only
		},
	})
	w.must(err, "autorelay")
	a.Want(true)
	for _, r := range relays {
		a.Add(autorelay.Candidate{AddrInfo: r.info(), Source: "static"})
	}
	go a.Run(w.Context()) //nolint:errcheck // ends with the process
	return s, func(public bool) { a.Want(!public) }
}

// gainAddr makes a relay listen on another port.
func gainAddr(w *world) values {
	s := w.private(w.relaysOf(candidates, limits{}))
	s.settle(2)
	r := s.used()[0]
	extra := r.box.ListenAddr(port + 1)
	w.must(r.host.Network().Listen(extra), "listen on a second port")
	took, ok := until(horizon, func() bool {
		return slices.ContainsFunc(s.circuits()[r.id()], func(a ma.Multiaddr) bool {
			return strings.HasPrefix(a.String(), extra.String()+"/")
		})
	})
	v := values{}
	v.took("7", took, ok)
	return v
}

// downtime is how long a relay that restarts is away.
const downtime = 3 * time.Second

// restart ends the only relay that there is, in a given way, and starts it
// again with the same key and port.
func restart(w *world, id string, end func(*relayHost)) values {
	relays := w.relaysOf(1, limits{})
	r := relays[0]
	s := w.privateStatic(relays)
	s.settle(1)
	end(r)
	time.Sleep(downtime)
	r.start()
	took, ok := until(horizon, func() bool { return s.live() > 0 })
	v := values{}
	v.took(id, took, ok)
	return v
}

// rolling drains both used relays, one after the other, restarts each half a
// minute after it began to drain, and goes on to the next a minute later.
func rolling(w *world) values {
	s := w.private(w.relaysOf(candidates, limits{}))
	s.settle(2)
	without := &span{holds: func() bool { return s.live() == 0 }}
	forSome := func(d time.Duration) { watch(d, func() bool { return false }, without) }
	for _, r := range s.used() {
		r.drain()
		forSome(drainFor)
		r.stop()
		forSome(downtime)
		r.start()
		forSome(time.Minute)
	}
	// And until the node is back to two.
	_, ok := watch(horizon, func() bool { return s.live() >= 2 }, without)
	v := values{}
	v.took("9c", without.total, ok || s.live() > 0)
	return v
}
