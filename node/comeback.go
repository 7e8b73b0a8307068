package node

import (
	"slices"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
)

// A relay that has left and is back, after an update say, is one like any other.
// What it says in identify shows it.

// identifyQueue is how many wait to be looked at, more than come while one is: a
// full queue holds up libp2p.
const identifyQueue = 256

// identified tells what peers say of themselves, at first and when it changes.
func identified(h host.Host) (event.Subscription, error) {
	return h.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted),
		eventbus.BufSize(identifyQueue), eventbus.Name("causeway/moves"))
}

// heard takes in what a peer says of itself.
func (m *mover) heard(e event.EvtPeerIdentificationCompleted) {
	d := m.leaving[e.Peer]
	switch {
	case d == nil || d.back:
	case !slices.Contains(e.Protocols, proto.ProtoIDv2Hop):
		d.withdrawn = true
	case d.withdrawn || m.reconnected(d, e.Conn):
		log.Debug("a relay that left is back", "relay", d.relay)
		d.back = true
		clear(d.ends)
		m.farewells.set(d.relay, false)
	}
}

// reconnected reports whether a connection came after a relay had said that it
// leaves, and all of before have ended: one that drains keeps them, and offers its
// service for a moment still.
func (m *mover) reconnected(d *departure, c network.Conn) bool {
	return c.Stat().Opened.After(d.since) &&
		!slices.ContainsFunc(m.host.Network().ConnsToPeer(d.relay), func(c network.Conn) bool {
			return !c.IsClosed() && !c.Stat().Opened.After(d.since)
		})
}
