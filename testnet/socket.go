package testnet

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	// maxSocketQueue is how many packets wait for a reader; more are dropped.
	// 2048 full packets are 2.5 MB, what quic-go asks the kernel for is 7 MB.
	maxSocketQueue = 2048
	// maxPayload is the most an IPv4 UDP packet can carry.
	maxPayload = 65535 - headerSize
)

// socket is a UDP socket on a machine. It owns no goroutine.
type socket struct {
	host  *Host
	local netip.AddrPort

	ready  chan struct{} // something to read; wakes one reader
	closed chan struct{}

	mu            sync.Mutex // guards the fields below
	isClosed      bool
	queue         []packet
	readDeadline  time.Time
	moved         chan struct{} // closed when readDeadline changes; wakes all readers
	writeDeadline time.Time
}

var _ net.PacketConn = (*socket)(nil)

func newSocket(h *Host, local netip.AddrPort) *socket {
	return &socket{
		host:   h,
		local:  local,
		ready:  make(chan struct{}, 1),
		closed: make(chan struct{}),
		moved:  make(chan struct{}),
	}
}

// receive queues a packet for the reader; false if there is no room.
func (s *socket) receive(p packet) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed || len(s.queue) >= maxSocketQueue {
		return false
	}
	s.queue = append(s.queue, p)
	s.wake()
	return true
}

func (s *socket) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// ReadFrom implements net.PacketConn. What does not fit b is lost, as with
// recvfrom.
func (s *socket) ReadFrom(b []byte) (int, net.Addr, error) {
	var timer *time.Timer
	for {
		p, deadline, moved, err := s.next()
		if err != nil {
			return 0, nil, s.opError("read", err)
		}
		if p != nil {
			return copy(b, p.payload), net.UDPAddrFromAddrPort(p.src), nil
		}
		var expired <-chan time.Time
		if !deadline.IsZero() {
			if timer == nil {
				timer = time.NewTimer(time.Until(deadline))
				defer timer.Stop()
			} else {
				timer.Reset(time.Until(deadline))
			}
			expired = timer.C
		}
		select {
		case <-s.ready:
		case <-moved:
		case <-expired:
		case <-s.closed:
		}
	}
}

// next returns the oldest packet, or nil if there is none, until when the reader
// may wait for one, and what tells it that this has changed.
func (s *socket) next() (_ *packet, deadline time.Time, moved <-chan struct{}, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	deadline, moved = s.readDeadline, s.moved
	switch {
	case s.isClosed:
		return nil, deadline, moved, net.ErrClosed
	case !deadline.IsZero() && !time.Now().Before(deadline):
		return nil, deadline, moved, os.ErrDeadlineExceeded
	case len(s.queue) == 0:
		return nil, deadline, moved, nil
	}
	p := s.queue[0]
	s.queue[0] = packet{} // let go of the payload
	s.queue = s.queue[1:]
	if len(s.queue) > 0 {
		s.wake()
	} else {
		s.queue = nil
	}
	return &p, deadline, moved, nil
}

// WriteTo implements net.PacketConn. It never blocks.
func (s *socket) WriteTo(b []byte, to net.Addr) (int, error) {
	s.mu.Lock()
	closed, deadline := s.isClosed, s.writeDeadline
	s.mu.Unlock()
	udp, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, s.opError("write", os.NewSyscallError("sendto", syscall.EINVAL))
	}
	ap := udp.AddrPort()
	dst := netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	switch {
	case closed:
		return 0, s.opError("write", net.ErrClosed)
	case !deadline.IsZero() && !time.Now().Before(deadline):
		return 0, s.opError("write", os.ErrDeadlineExceeded)
	case dst.Addr().Is4() != s.local.Addr().Is4() || dst.Addr().IsUnspecified() || dst.Port() == 0:
		return 0, s.opError("write", os.NewSyscallError("sendto", syscall.EINVAL))
	case len(b) > maxPayload:
		return 0, s.opError("write", os.NewSyscallError("sendto", syscall.EMSGSIZE))
	}
	s.host.net.send(s.host, packet{src: s.local, dst: dst, payload: slices.Clone(b), origin: s.host})
	return len(b), nil
}

// Close implements net.PacketConn. It frees the port at once.
func (s *socket) Close() error {
	h := s.host
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed {
		return s.opError("close", net.ErrClosed)
	}
	s.isClosed = true
	s.queue = nil
	close(s.closed)
	delete(h.sockets, s.local)
	return nil
}

// LocalAddr implements net.PacketConn: always the machine's address, never
// 0.0.0.0, so that quicreuse files the socket under it.
func (s *socket) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(s.local) }

// SetDeadline implements net.PacketConn.
func (s *socket) SetDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeDeadline = t
	s.setReadDeadlineLocked(t)
	return nil
}

// SetReadDeadline implements net.PacketConn.
func (s *socket) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setReadDeadlineLocked(t)
	return nil
}

func (s *socket) setReadDeadlineLocked(t time.Time) {
	s.readDeadline = t
	close(s.moved)
	s.moved = make(chan struct{})
}

// SetWriteDeadline implements net.PacketConn.
func (s *socket) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeDeadline = t
	return nil
}

// SetReadBuffer does nothing; quic-go logs a warning if it is missing.
func (s *socket) SetReadBuffer(int) error { return nil }

// SetWriteBuffer does nothing; quic-go logs a warning if it is missing.
func (s *socket) SetWriteBuffer(int) error { return nil }

func (s *socket) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: udpOf(s.local.Addr()), Source: s.LocalAddr(), Err: err}
}
