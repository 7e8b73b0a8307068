package auth

import (
	"errors"
	"math"
	"time"

	"github.com/causeway-p2p/causeway/auth/pb"
)

// maxMessage bounds either message without its length prefix, in bytes. It is
// more than a token needs, for what later versions add.
const maxMessage = 4096

var errAnswer = errors.New("the relay's answer makes no sense")

func granted(g Grant, now time.Time) *pb.Answer {
	w := &pb.Granted{Class: g.Class, Limits: limitsToWire(g.Limits)}
	if !g.Expires.IsZero() {
		// Rounded up, so that what is left is not said to be for ever.
		w.ExpiresSeconds = uint64(max(1, math.Ceil(g.Expires.Sub(now).Seconds())))
	}
	return &pb.Answer{Outcome: &pb.Answer_Granted{Granted: w}}
}

func refused(err error) *pb.Answer {
	return &pb.Answer{Outcome: &pb.Answer_Refused{Refused: &pb.Refused{Reason: onWire[reasonOf(err)]}}}
}

// reasonOf makes a reason of what the relay's own code returned.
func reasonOf(err error) Reason {
	var why Reason
	if errors.As(err, &why) {
		if _, known := onWire[why]; known {
			return why
		}
	}
	return NotTaken
}

// outcome is what an answer tells a peer. A refusal is a Reason.
func outcome(m *pb.Answer, now time.Time) (Grant, error) {
	switch o := m.GetOutcome().(type) {
	case *pb.Answer_Refused:
		return Grant{}, reasonFromWire(o.Refused.GetReason())
	case *pb.Answer_Granted:
		limits, err := limitsFromWire(o.Granted.GetLimits())
		class := o.Granted.GetClass()
		if err != nil || class != "" && !validClass.MatchString(class) {
			return Grant{}, errAnswer
		}
		g := Grant{Class: class, Limits: limits}
		if s := o.Granted.GetExpiresSeconds(); s > 0 {
			g.Expires = now.Add(time.Duration(min(s, maxGrant)) * time.Second)
		}
		return g, nil
	}
	return Grant{}, errAnswer
}

// maxGrant bounds the seconds that a relay may promise: a hundred years.
const maxGrant = 100 * 365 * 24 * 3600
