package notice

import (
	"bufio"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/encoding/protodelim"

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
)

// Receive makes the host take notices and calls f for each. There is one
// receiver per host. f may be called concurrently and must not block; after
// stop has returned it is not called any more, so f must not call stop. A
// message that makes no sense, and what is beyond 10 a minute from one sender,
// is reset; a kind that a later version added is ignored.
func Receive(h host.Host, f func(from peer.ID, n Notice)) (stop func()) {
	r := &receiver{self: h.ID(), f: f, allowance: allowance{spent: make(map[peer.ID]time.Time)}}
	h.SetStreamHandler(Protocol, r.handle)
	return func() {
		h.RemoveStreamHandler(Protocol)
		r.stop()
	}
}

type receiver struct {
	self peer.ID
	f    func(peer.ID, Notice)

	allowance allowance
	running   sync.WaitGroup // calls of f

	mu      sync.Mutex // guards the field below, and the additions to running
	stopped bool
}

func (r *receiver) handle(s network.Stream) {
	from := s.Conn().RemotePeer()
	// Before anything is read, so that it bounds the readers as well.
	if !r.allowance.take(from, time.Now()) {
		log.Debug("notice refused", "peer", from, "reason", "too many")
		s.Reset()
		return
	}
	n, known, err := r.read(s)
	if err != nil {
		log.Debug("bad notice", "peer", from, "err", err)
		s.Reset()
		return
	}
	s.Close() // tells the sender that we have it
	if known {
		r.deliver(from, n)
	}
}

func (r *receiver) read(s network.Stream) (n Notice, known bool, err error) {
	if err := s.SetReadDeadline(time.Now().Add(receiveTimeout)); err != nil {
		return Notice{}, false, err
	}
	var m pb.Notice
	if err := (protodelim.UnmarshalOptions{MaxSize: maxMessage}).UnmarshalFrom(bufio.NewReaderSize(s, 512), &m); err != nil {
		return Notice{}, false, err
	}
	n, known = fromWire(&m, s.Conn().RemotePeer(), r.self)
	return n, known, nil
}

func (r *receiver) deliver(from peer.ID, n Notice) {
	r.mu.Lock()
	stopped := r.stopped
	if !stopped {
		r.running.Add(1)
	}
	r.mu.Unlock()
	if stopped {
		return
	}
	defer r.running.Done()
	r.f(from, n)
}

func (r *receiver) stop() {
	r.mu.Lock()
	r.stopped = true
	r.mu.Unlock()
	r.running.Wait()
}

// allowance is the rate limit: for each sender the time at which it has its
// whole burst again.
type allowance struct {
	mu    sync.Mutex // guards the field below
	spent map[peer.ID]time.Time
}

func (a *allowance) take(p peer.ID, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	until, known := a.spent[p]
	if !known && len(a.spent) >= maxSenders {
		a.forgetLocked(now)
	}
	if until.Before(now) {
		until = now
	}
	if until.Sub(now) > (burst-1)*interval {
		return false
	}
	a.spent[p] = until.Add(interval)
	return true
}

// forgetLocked makes room, if need be at the cost of giving somebody a fresh
// allowance. To turn the newcomer away would let strangers shut out relays.
func (a *allowance) forgetLocked(now time.Time) {
	for p, until := range a.spent {
		if !until.After(now) {
			delete(a.spent, p)
		}
	}
	for p := range a.spent {
		if len(a.spent) < maxSenders {
			return
		}
		delete(a.spent, p)
	}
}
