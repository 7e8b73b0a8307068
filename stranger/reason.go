package stranger

import (
	"errors"

	"github.com/causeway-p2p/causeway/stranger/pb"
)

// Reason is why nobody dialled: the same word in the log and, as a number, on
// the wire.
type Reason string

const (
	Malformed  Reason = "malformed"   // not an IP address with TCP or QUIC
	NotPublic  Reason = "not-public"  // private, loopback, multicast, …
	NotYours   Reason = "not-yours"   // the asker is not connected from there
	OwnAddress Reason = "own-address" // of the one asked, or of a server that asks
	Relayed    Reason = "relayed"     // the request came through a relay
	CannotDial Reason = "cannot-dial" // no such transport or IP family here
	TooMany    Reason = "too-many"    // a rate is used up
	Busy       Reason = "busy"        // too many dials under way
	Other      Reason = "other"       // what a later version added
	nobody     Reason = "nobody"      // to callers, ErrNobody
)

func (r Reason) sentence() string {
	switch r {
	case Malformed:
		return "it is not an IP address with TCP or QUIC"
	case NotPublic:
		return "the address is not on the public internet"
	case NotYours:
		return "the connection does not come from that IP address"
	case OwnAddress:
		return "the address is the server's own"
	case Relayed:
		return "the connection goes through a relay"
	case CannotDial:
		return "it has no transport or no IP family for the address"
	case TooMany:
		return "too many requests in the last minute"
	case Busy:
		return "too many dials under way"
	}
	return "for a reason unknown here"
}

// RefusedError: nobody has dialled, which says nothing about the address.
type RefusedError struct{ Reason Reason }

func (e *RefusedError) Error() string { return "refused: " + e.Reason.sentence() }

var (
	// ErrNobody: the server knows no third node that would dial. It says
	// nothing about the address.
	ErrNobody = errors.New("the server knows nobody who is a stranger here")
	// ErrDialFailed: a third node has dialled and not got through, says the
	// server.
	ErrDialFailed = errors.New("the stranger could not get through")

	errMessage = errors.New("the message makes no sense here")
)

func refuse(r Reason) error { return &RefusedError{Reason: r} }

var onWire = map[Reason]pb.Reason{
	Malformed: pb.Reason_MALFORMED, NotPublic: pb.Reason_NOT_PUBLIC, NotYours: pb.Reason_NOT_YOURS,
	OwnAddress: pb.Reason_OWN_ADDRESS, Relayed: pb.Reason_RELAYED, CannotDial: pb.Reason_CANNOT_DIAL,
	TooMany: pb.Reason_TOO_MANY, Busy: pb.Reason_BUSY, Other: pb.Reason_OTHER, nobody: pb.Reason_NOBODY,
}

// answerTo says on the wire what an exchange came to, if it came to anything.
func answerTo(err error) (*pb.Message, error) {
	a := &pb.Answer{}
	var refusal *RefusedError
	switch {
	case err == nil:
		a.Outcome = pb.Outcome_DIALLED
	case errors.Is(err, ErrDialFailed):
		a.Outcome = pb.Outcome_FAILED
	case errors.Is(err, ErrNobody):
		a.Reason = pb.Reason_NOBODY
	case errors.As(err, &refusal):
		a.Reason = onWire[refusal.Reason]
	default:
		return nil, err
	}
	return &pb.Message{Kind: &pb.Message_Answer{Answer: a}}, nil
}

// outcomeOf is what an answer says: nil if somebody got through.
func outcomeOf(a *pb.Answer) error {
	switch a.GetOutcome() {
	case pb.Outcome_DIALLED:
		return nil
	case pb.Outcome_FAILED:
		return ErrDialFailed
	}
	if a.GetReason() == pb.Reason_NOBODY {
		return ErrNobody
	}
	for r, n := range onWire {
		if n == a.GetReason() {
			return refuse(r)
		}
	}
	return refuse(Other)
}
