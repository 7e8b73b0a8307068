package autorelay

import (
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/internal/maddr"
)

// handleEvent follows what the swarm and identify say about our relays.
func (a *AutoRelay) handleEvent(ev any, now time.Time) {
	switch ev := ev.(type) {
	case event.EvtPeerConnectednessChanged:
		// Even if the relay is connected again by now, it has dropped the
		// reservation with the old connection.
		r := a.relays[ev.Peer]
		if r != nil && r.holds() && ev.Connectedness != network.Connected {
			why := ConnectionLost
			if r.state == Draining {
				why = Drained
			}
			a.lose(r, why, "", now)
		}
	case event.EvtLocalAddressesUpdated:
		if ownAddrsChanged(ev) {
			a.probeAll()
			for _, r := range a.relays { // it may have been our fault
				if r.reason == Unreachable || r.reason == ProbesMissed || r.reason == ConnectionLost {
					r.sooner()
				}
			}
		}
	case event.EvtPeerIdentificationCompleted:
		if r := a.relays[ev.Peer]; r != nil {
			r.told = a.usable(told(ev))
		}
	case event.EvtPeerProtocolsUpdated:
		r := a.relays[ev.Peer]
		if r == nil {
			return
		}
		if slices.Contains(ev.Removed, proto.ProtoIDv2Hop) && r.holds() {
			why := HopWithdrawn
			if r.state == Draining {
				why = Drained
			}
			a.lose(r, why, "", now)
		}
		if slices.Contains(ev.Added, proto.ProtoIDv2Hop) {
			r.sooner()
		}
	}
}

// told returns the addresses that a relay tells of itself, in its signed peer
// record if it has one: the connection they came over is authenticated as well.
// go-libp2p v0.51 does not put these records into the peerstore
// (p2p/protocol/identify/id.go), so they are taken from the event.
func told(ev event.EvtPeerIdentificationCompleted) []ma.Multiaddr {
	if ev.SignedPeerRecord != nil {
		if rec, err := ev.SignedPeerRecord.Record(); err == nil {
			if pr, ok := rec.(*peer.PeerRecord); ok && pr.PeerID == ev.Peer {
				return pr.Addrs
			}
		}
	}
	return ev.ListenAddrs
}

// ownAddrsChanged tells a change of our network from one of our circuit
// addresses.
func ownAddrsChanged(ev event.EvtLocalAddressesUpdated) bool {
	direct := func(u event.UpdatedAddress) bool { return u.Action != event.Maintained && !maddr.IsCircuit(u.Address) }
	return slices.ContainsFunc(ev.Current, direct) || slices.ContainsFunc(ev.Removed, direct)
}
