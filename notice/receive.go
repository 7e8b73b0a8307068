package notice

import (
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/internal/oneshot"
	"github.com/causeway-p2p/causeway/notice/pb"
)

const (
	// receiveTimeout bounds the reading of one notice; the longest honest wait
	// is a packet that is sent a second time or two.
	receiveTimeout = 5 * time.Second
	// burst and interval bound what one sender may say: 10 notices at once,
	// and 10 a minute from then on. An honest relay sends two a minute.
	burst    = 10
	interval = 6 * time.Second
	// maxSenders bounds those whose allowance is kept. A peer has a handful of
	// relays; all others are strangers.
	maxSenders = 1024
	// maxReading bounds the notices that are being read.
	maxReading = 128
)

// Receive makes the host take notices and calls f for each. There is one
// receiver per host. f may be called concurrently and must not block; after
// stop has returned it is not called any more, so f must not call stop. A
// message that makes no sense, and what is beyond 10 a minute from one sender,
// is reset; a kind that a later version added is ignored.
func Receive(h host.Host, f func(from peer.ID, n Notice)) (stop func()) {
	return oneshot.Serve(h, Protocol, bounds, receiver{self: h.ID(), f: f}.take)
}

var bounds = oneshot.Bounds{
	Timeout: receiveTimeout, Burst: burst, Interval: interval, Peers: maxSenders, Streams: maxReading,
}

type receiver struct {
	self peer.ID
	f    func(peer.ID, Notice)
}

func (r receiver) take(s network.Stream) error {
	var m pb.Notice
	if err := oneshot.Read(s, maxMessage, &m); err != nil {
		return err
	}
	from := s.Conn().RemotePeer()
	n, known := fromWire(&m, from, r.self)
	s.Close() // tells the sender that we have it
	if known {
		r.f(from, n)
	}
	return nil
}
