package auth

import "github.com/causeway-p2p/causeway/auth/pb"

// Reason is why a token was refused: the same word in metrics, on the wire (as
// a number) and, as an error, in a sentence.
type Reason string

const (
	Malformed     Reason = "malformed"
	BadSignature  Reason = "bad signature"
	UnknownIssuer Reason = "unknown issuer"
	OtherPeer     Reason = "other peer"
	NotYetValid   Reason = "not yet valid"
	Expired       Reason = "expired"
	Revoked       Reason = "revoked"
	// NotTaken: the relay has no use for the token, for instance because it
	// does not know the class; or a reason that a later version added.
	NotTaken Reason = "not taken"
)

// Reasons are all of them, so that each can be counted from the start.
var Reasons = []Reason{Malformed, BadSignature, UnknownIssuer, OtherPeer, NotYetValid, Expired, Revoked, NotTaken}

// Error is the sentence. It makes sense on either side of the wire.
func (r Reason) Error() string {
	switch r {
	case Malformed:
		return "this is not a token"
	case BadSignature:
		return "the token was changed after it was signed"
	case UnknownIssuer:
		return "the relay does not know who signed the token"
	case OtherPeer:
		return "the token is for another peer"
	case NotYetValid:
		return "the token is not valid yet, by the relay's clock"
	case Expired:
		return "the token has expired, by the relay's clock"
	case Revoked:
		return "the token was revoked"
	}
	return "the relay has no use for the token"
}

var onWire = map[Reason]pb.Reason{
	Malformed: pb.Reason_MALFORMED, BadSignature: pb.Reason_BAD_SIGNATURE, UnknownIssuer: pb.Reason_UNKNOWN_ISSUER,
	OtherPeer: pb.Reason_OTHER_PEER, NotYetValid: pb.Reason_NOT_YET_VALID, Expired: pb.Reason_EXPIRED,
	Revoked: pb.Reason_REVOKED, NotTaken: pb.Reason_NOT_TAKEN,
}

func reasonFromWire(w pb.Reason) Reason {
	for r, n := range onWire {
		if n == w {
			return r
		}
	}
	return NotTaken
}
