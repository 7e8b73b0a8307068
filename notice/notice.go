// Package notice is what a relay tells the peers that hold a reservation with
// it: that it is about to stop, and where else to go; that it is full; why a
// circuit has ended.
//
// On the wire it is /causeway/relay-notice/1.0.0
// (docs/protocols/relay-notice.md): one stream per notice, one varint-delimited
// protobuf message on it. The relay calls [Send], the peer [Receive].
//
// A notice is a hint from whoever is connected. That its sender is a relay we
// hold a reservation with, and what follows from it, is for the receiver to
// decide; this package bounds what a hostile sender can cost.
package notice

import (
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/causeway-p2p/causeway/internal/oneshot"
)

// Protocol is the protocol ID.
const Protocol protocol.ID = "/causeway/relay-notice/1.0.0"

// Notice is one message. Exactly one field is set.
type Notice struct {
	Draining *Draining
	Load     *Load
	Ended    *Ended
}

// Draining tells that the relay is about to stop.
type Draining struct {
	// Within is when it closes what is left, from now, in whole seconds from 0
	// (at any moment) to 24 hours.
	Within time.Duration
	// Siblings are relays that the operator names instead: at most 8, with at
	// most 8 addresses each, or none. They are not verified in any way, and
	// may lie on private networks.
	Siblings []peer.AddrInfo
}

// Load tells how full the relay is.
type Load struct {
	Reservations, MaxReservations int
	// Full tells that somebody was refused for lack of room: a peer that holds
	// another reservation is asked to leave.
	Full bool
	// RetryAfter is for a peer that was just refused for lack of room: when to
	// ask again, in whole seconds up to 24 hours. If zero, as it sees fit.
	RetryAfter time.Duration
}

// Ended tells that circuits of the peer have ended.
type Ended struct {
	Circuits []Circuit // at most MaxEnded
}

// Circuit is one that has ended.
type Circuit struct {
	// Peer is the other end.
	Peer peer.ID
	// Reason is one of package relay's, or one that a later version added: 1
	// to 32 characters of a-z and -.
	Reason string
	// Sent and Received are the bytes that the relay has passed on, from and to
	// the peer that is told.
	Sent, Received int64
	// Lasted is in whole milliseconds.
	Lasted time.Duration
}

// Speaks tells whether a peer said in identify that it receives notices.
func Speaks(h host.Host, p peer.ID) bool { return oneshot.Speaks(h, p, Protocol) }
