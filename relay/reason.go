package relay

import (
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
)

// Reason says why something was refused or ended. The log, the metrics, the
// relay notices and, as far as circuit v2 has a word for it, the wire use the
// same ones.
type Reason string

// Why a reservation or a circuit is refused.
const (
	Malformed     Reason = "malformed"      // the request makes no sense
	OverCircuit   Reason = "over-circuit"   // asked for over another relay
	ToSelf        Reason = "to-self"        // a circuit to whoever asks for it
	Denied        Reason = "denied"         // by the ACL, a ban, or the validator
	TooOften      Reason = "too-often"      // more requests than the rate allows
	Draining      Reason = "draining"       // the relay leaves
	Stopping      Reason = "stopping"       // the relay is gone in a moment
	Overloaded    Reason = "overloaded"     // the process is short of memory or file descriptors
	Full          Reason = "full"           // the relay's reservations are taken
	ClassFull     Reason = "class-full"     // those of the peer's class are
	AddressFull   Reason = "address-full"   // those of the peer's IP address are
	SubnetFull    Reason = "subnet-full"    // those of its /24 or /48 are
	SystemFull    Reason = "as-full"        // those of its autonomous system are
	NoReservation Reason = "no-reservation" // the destination holds none
	PeerCircuits  Reason = "peer-circuits"  // one end has all circuits it may have, or the source all to this destination
	AddrCircuits  Reason = "ip-circuits"    // the peers at the source's IP address have
	CircuitsFull  Reason = "circuits-full"  // the relay's circuits are taken
	Quota         Reason = "quota"          // the month's bytes are used up
	Unreachable   Reason = "unreachable"    // the destination does not take the circuit
)

// Why a circuit, or a reservation, that stood has ended. Denied, Draining,
// Stopping and Quota are among these too.
const (
	Closed   Reason = "closed"     // the peers closed it
	Bytes    Reason = "byte-limit" // it has carried what it may
	Time     Reason = "time-limit" // it has lasted as long as it may
	PeerGone Reason = "peer-gone"  // one end reset it, or its connection ended
	Stalled  Reason = "stalled"    // one end has not taken anything for too long
	Kicked   Reason = "kicked"     // by the operator
	Expired  Reason = "expired"    // the reservation was not refreshed
)

// refusals and ends are all reasons of their kind, for the metrics.
var (
	refusals = []Reason{
		Malformed, OverCircuit, ToSelf, Denied, TooOften, Draining, Stopping, Overloaded, Full, ClassFull,
		AddressFull, SubnetFull, SystemFull, NoReservation, PeerCircuits, AddrCircuits, CircuitsFull, Quota, Unreachable,
	}
	ends = []Reason{Closed, Bytes, Time, PeerGone, Stalled, Kicked, Denied, Draining, Stopping, Quota}
)

// status is the word that circuit v2 has for a refusal
// (github.com/libp2p/specs/blob/master/relay/circuit-v2.md, "Status codes and
// meaning").
func (r Reason) status() pbv2.Status {
	switch r {
	case "":
		return pbv2.Status_OK
	case Malformed:
		return pbv2.Status_MALFORMED_MESSAGE
	case OverCircuit, ToSelf, Denied, Draining, Stopping:
		return pbv2.Status_PERMISSION_DENIED
	case Full, ClassFull, AddressFull, SubnetFull, SystemFull:
		return pbv2.Status_RESERVATION_REFUSED
	case NoReservation:
		return pbv2.Status_NO_RESERVATION
	case Unreachable:
		return pbv2.Status_CONNECTION_FAILED
	}
	return pbv2.Status_RESOURCE_LIMIT_EXCEEDED
}
