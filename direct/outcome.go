package direct

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Outcome is how an attempt at a direct connection ended. The event, the
// metric, the status and the log use the same words.
type Outcome string

const (
	// What led to a direct connection.
	Dialled Outcome = "dialled" // one side could be dialled as it was
	Punched Outcome = "punched" // both dialled at once
	LAN     Outcome = "lan"     // over a network that both are on
	Guessed Outcome = "guessed" // by guessing the ports of a symmetric NAT

	// What did not.
	TimedOut    Outcome = "timed_out"    // nothing came back
	Unsupported Outcome = "unsupported"  // the peer does not speak DCUtR
	NoAddrs     Outcome = "no_addrs"     // neither has an address that the other could dial
	Interrupted Outcome = "interrupted"  // the relayed connection ended first
	BadMessage  Outcome = "bad_message"  // the peer broke the protocol
	MissedPorts Outcome = "missed_ports" // none of the guessed ports was right
	Refused     Outcome = "refused"      // the peer did not want to
)

// outcomes are all there are, so that each is a counter from the start.
var outcomes = []Outcome{
	Dialled, Punched, LAN, Guessed,
	TimedOut, Unsupported, NoAddrs, Interrupted, BadMessage, MissedPorts, Refused,
}

// Direct reports whether there is a direct connection now.
func (o Outcome) Direct() bool { return o == Dialled || o == Punched || o == LAN || o == Guessed }

// Event tells how an attempt ended.
type Event struct {
	Time    time.Time
	Peer    peer.ID
	Outcome Outcome
	// Why is a sentence about what stood in the way; empty if nothing did.
	Why string
	// Took is the time since the attempt began.
	Took time.Duration
	// Attempt counts from 1, since the relayed connection came.
	Attempt int
	// Guesses is how many packets we sent to guess ports, or to have ours
	// guessed.
	Guesses int
	// Ours and Theirs are the kinds of the two NATs, as far as known.
	Ours, Theirs string
}

// PeerStatus tells how it stands with a peer that we have a relayed connection
// to, or had before the direct one that stands.
type PeerStatus struct {
	Peer   peer.ID   `json:"peer"`
	Direct bool      `json:"direct"`
	Since  time.Time `json:"since"` // of the relayed connection
	// DirectSince is when the direct connection came; zero if there is none.
	DirectSince time.Time `json:"direct_since,omitzero"`
	Attempts    int       `json:"attempts"` // at a direct one
	// Outcome and Why are those of the last attempt; empty before it ended.
	Outcome Outcome `json:"outcome,omitempty"`
	Why     string  `json:"why,omitempty"`
	// Again is when it is tried again; zero if that is for the peer to begin.
	Again time.Time `json:"again,omitzero"`
}

// Status tells how it stands with all peers with a relayed connection, and with
// those that have a direct one in its place.
func (u *Upgrader) Status() []PeerStatus {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := make([]PeerStatus, 0, len(u.status))
	for _, s := range u.status {
		out = append(out, s)
	}
	return out
}

// explain says in a sentence why two NATs cannot be passed, as far as that
// follows from what is known of them.
func explain(o Outcome, ours, theirs NAT) string {
	switch {
	case o.Direct():
		return ""
	case o == Unsupported:
		return "the peer does not speak DCUtR"
	case o == NoAddrs:
		return "neither side has a public address that others saw"
	case o == Interrupted:
		return "the relayed connection ended meanwhile"
	case o == BadMessage:
		return "the peer broke the protocol"
	case o == Refused:
		return "the peer did not want to"
	case ours.UDPMapping.unpredictable() && theirs.UDPMapping.unpredictable():
		return "both NATs use another port for every destination, so that neither side can tell where to dial"
	case o == MissedPorts && ours.UDPMapping.unpredictable():
		return "our NAT uses another port for every destination, and none of those that the peer guessed was right"
	case o == MissedPorts:
		return "the peer's NAT uses another port for every destination, and none of those that we guessed was right"
	case ours.UDPBlocked && theirs.UDPBlocked:
		return "UDP is blocked on both sides, and TCP did not get through either"
	case ours.UDPBlocked && ours.TCPMapping.unpredictable():
		return "UDP is blocked here, and over TCP our NAT uses another port for every destination"
	case ours.UDPBlocked:
		return "UDP is blocked here, and TCP did not get through"
	case theirs.UDPBlocked && theirs.TCPMapping.unpredictable():
		return "UDP is blocked over there, and over TCP the peer's NAT uses another port for every destination"
	case theirs.UDPBlocked:
		return "UDP is blocked over there, and TCP did not get through"
	case ours.UDPMapping.unpredictable():
		return "our NAT uses another port for every destination, and the peer's lets only in whom it dialled"
	case theirs.UDPMapping.unpredictable():
		return "the peer's NAT uses another port for every destination, and ours lets only in whom we dialled"
	}
	return "nothing came back in time"
}
