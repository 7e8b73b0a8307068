package auth

import (
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/auth/pb"
	"github.com/causeway-p2p/causeway/internal/logging"
	"github.com/causeway-p2p/causeway/internal/oneshot"
)

var log = logging.For("auth")

// bounds are for relays with thousands of peers: each presents its token twice
// an hour, and a few times more in a row when it has a new one.
var bounds = oneshot.Bounds{
	Timeout: 5 * time.Second, // a packet that is sent a second time or two
	Burst:   10, Interval: 6 * time.Second,
	Peers: 8192, Streams: 512,
}

// Relay is what a relay does with the tokens that it is shown. Its functions
// may be called concurrently and must not block.
type Relay struct {
	// Accept decides on a token, which takes the place of those that the peer
	// showed before, and says what the peer is granted. It must Verify the
	// token: all that is known is that its signature is good. A nil token
	// gives back what was granted. Of an error the peer gets the Reason, or
	// NotTaken if there is none in it.
	Accept func(from peer.ID, s *Signed) (Grant, error)
	// Refused is told of every refusal, also of what did not get to Accept. If
	// nil, nobody is.
	Refused func(from peer.ID, why Reason)
}

// Receive makes the host take tokens. There is one receiver per host. After
// stop has returned the relay's functions are not called any more, so they must
// not call stop. A message that makes no sense, and what is beyond 10 a minute
// from one peer, is reset.
func Receive(h host.Host, r Relay) (stop func()) {
	return oneshot.Serve(h, Protocol, bounds, r.take)
}

func (r Relay) take(s network.Stream) error {
	var m pb.Present
	if err := oneshot.Read(s, maxMessage, &m); err != nil {
		return err
	}
	from := s.Conn().RemotePeer()
	g, err := r.decide(from, m.GetToken())
	answer := granted(g, time.Now())
	if err != nil {
		why := reasonOf(err)
		log.Debug("token refused", "peer", from, "reason", string(why))
		if r.Refused != nil {
			r.Refused(from, why)
		}
		answer = refused(why)
	}
	if err := oneshot.Write(s, answer); err != nil {
		return err
	}
	return s.Close()
}

func (r Relay) decide(from peer.ID, sealed []byte) (Grant, error) {
	if len(sealed) == 0 {
		return r.Accept(from, nil)
	}
	s, err := open(sealed)
	if err != nil {
		return Grant{}, err
	}
	return r.Accept(from, s)
}
