package oneshot

import (
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/causeway-p2p/causeway/internal/logging"
)

var log = logging.For("oneshot")

// Bounds are what peers may cost that open streams to us. All are required.
type Bounds struct {
	// Timeout is the deadline of one exchange, reads and writes.
	Timeout time.Duration
	// Burst is how many streams one peer may open at once; then it gets one
	// more every Interval.
	Burst    int
	Interval time.Duration
	// Peers bounds those whose allowance is kept. Beyond, some stranger gets a
	// fresh one.
	Peers int
	// Streams bounds the exchanges under way. Beyond, the one that has lasted
	// longest is reset: an honest one takes a round trip.
	Streams int
}

// Serve takes streams of a protocol: exchange is called for each, also
// concurrently, and a stream for which it returns an error is reset; otherwise
// exchange has closed it. stop resets the streams that are open, waits for
// their exchanges, and may be called again.
func Serve(h host.Host, id protocol.ID, b Bounds, exchange func(network.Stream) error) (stop func()) {
	v := NewServer(b, exchange)
	h.SetStreamHandler(id, v.Handle)
	return func() {
		h.RemoveStreamHandler(id)
		v.Stop()
	}
}

// Server is Serve without a host.
type Server struct {
	timeout   time.Duration
	streams   int
	exchange  func(network.Stream) error
	allowance *Allowance
	running   sync.WaitGroup // calls of Handle between enter and leave

	mu      sync.Mutex // guards the fields below, and the additions to running
	open    []network.Stream
	stopped bool
}

// NewServer makes a Server.
func NewServer(b Bounds, exchange func(network.Stream) error) *Server {
	return &Server{
		timeout: b.Timeout, streams: b.Streams, exchange: exchange,
		allowance: NewAllowance(b.Burst, b.Interval, b.Peers),
	}
}

// Handle takes one stream.
func (v *Server) Handle(s network.Stream) {
	from, id := s.Conn().RemotePeer(), s.Protocol()
	// Before anything is read, so that it bounds the readers as well.
	if !v.allowance.Take(from, time.Now()) {
		log.Debug("stream refused", "protocol", id, "peer", from, "reason", "too many")
		s.Reset()
		return
	}
	if !v.enter(s) {
		s.Reset()
		return
	}
	defer v.leave(s)
	err := s.SetDeadline(time.Now().Add(v.timeout))
	if err == nil {
		err = v.exchange(s)
	}
	if err != nil {
		log.Debug("exchange failed", "protocol", id, "peer", from, "err", err)
		s.Reset()
	}
}

// enter notes a stream, unless the server has stopped.
func (v *Server) enter(s network.Stream) bool {
	v.mu.Lock()
	if v.stopped {
		v.mu.Unlock()
		return false
	}
	v.running.Add(1)
	v.open = append(v.open, s)
	var longest network.Stream
	if len(v.open) > v.streams {
		longest = v.open[0]
		v.open = slices.Delete(v.open, 0, 1)
	}
	v.mu.Unlock()
	if longest != nil {
		longest.Reset()
	}
	return true
}

func (v *Server) leave(s network.Stream) {
	v.mu.Lock()
	if i := slices.Index(v.open, s); i >= 0 {
		v.open = slices.Delete(v.open, i, i+1)
	}
	v.mu.Unlock()
	v.running.Done()
}

// Stop resets the streams that are open and waits for their exchanges; those
// that come later are reset.
func (v *Server) Stop() {
	v.mu.Lock()
	v.stopped = true
	open := slices.Clone(v.open)
	v.mu.Unlock()
	for _, s := range open {
		s.Reset()
	}
	v.running.Wait()
}
