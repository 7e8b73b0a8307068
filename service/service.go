// Package service gives peers named byte streams: one side listens on a name,
// the other opens it, and both get a net.Conn.
//
// On the wire it is /causeway/service/1.0.0 (docs/protocols/service.md): one
// varint-delimited protobuf message each way that names the service and
// accepts or refuses, and then the bytes themselves. Names are not announced
// in identify, and a refusal says why.
//
// What it does not do: connect (package node does), or keep a stream alive
// when the path beneath it breaks.
package service

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/causeway-p2p/causeway/internal/logging"
	"github.com/causeway-p2p/causeway/service/pb"
)

var log = logging.For("service")

// Protocol is the protocol ID.
const Protocol protocol.ID = "/causeway/service/1.0.0"

const (
	// maxMessage bounds what is read before a stream is accepted, in bytes.
	maxMessage = 256
	// handshakeTimeout bounds the two messages. The longest honest wait is a
	// round trip over a slow relay.
	handshakeTimeout = 10 * time.Second
	// backlog is how many accepted streams wait per service; further ones are
	// refused as busy.
	backlog = 64
)

var validName = regexp.MustCompile(`^[a-z0-9._-]{1,64}$`)

// CheckName tells whether a service can have this name.
func CheckName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("service name %q: want 1 to 64 characters of a-z 0-9 . _ -", name)
	}
	return nil
}

// Reason says why a peer refused a stream.
type Reason string

const (
	NoSuchService Reason = "nobody listens on this service"
	Busy          Reason = "too many connections are waiting to be accepted"
	BadRequest    Reason = "the peer did not understand the request"
	NotSpoken     Reason = "the peer does not speak " + Reason(Protocol)
)

// RefusedError tells that the peer was reached and said no.
type RefusedError struct {
	Peer    peer.ID
	Service string
	Reason  Reason
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("peer %s refused service %q: %s", e.Peer, e.Service, e.Reason)
}

// Registry holds the listeners of one host.
type Registry struct {
	host host.Host

	mu        sync.Mutex // guards the fields below
	listeners map[string]*Listener
	closed    bool
}

// New makes the host answer the protocol.
func New(h host.Host) *Registry {
	r := &Registry{host: h, listeners: make(map[string]*Listener)}
	h.SetStreamHandler(Protocol, r.handle)
	return r
}

// Close ends all listeners and takes the protocol off the host.
func (r *Registry) Close() {
	r.host.RemoveStreamHandler(Protocol)
	r.mu.Lock()
	all := r.listeners
	r.listeners = make(map[string]*Listener)
	r.closed = true
	r.mu.Unlock()
	for _, l := range all {
		l.shut()
	}
}

// Listen offers a service. The name must be free. It returns net.ErrClosed
// after Close.
func (r *Registry) Listen(name string) (*Listener, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, fmt.Errorf("service %q: %w", name, net.ErrClosed)
	}
	if r.listeners[name] != nil {
		return nil, fmt.Errorf("service %q is already listened on here", name)
	}
	l := &Listener{
		registry: r, name: name,
		conns: make(chan *Conn, backlog), room: make(chan struct{}, backlog), closed: make(chan struct{}),
	}
	r.listeners[name] = l
	return l, nil
}

func (r *Registry) handle(s network.Stream) {
	if err := s.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		s.Reset()
		return
	}
	var req pb.Open
	if err := readMessage(s, &req); err != nil {
		log.Debug("bad request", "peer", s.Conn().RemotePeer(), "err", err)
		refuse(s, pb.Answer_BAD_REQUEST)
		return
	}
	r.mu.Lock()
	l := r.listeners[req.GetService()]
	r.mu.Unlock()
	if l == nil {
		refuse(s, pb.Answer_NO_SUCH_SERVICE)
		return
	}
	l.deliver(s)
}

// refuse says why, and ends the stream.
func refuse(s network.Stream, status pb.Answer_Status) {
	if err := writeMessage(s, &pb.Answer{Status: status}); err != nil {
		s.Reset()
		return
	}
	s.Close()
}

// Open asks for a service over a connection that already stands, direct or
// relayed. The error is a *RefusedError if the peer said no, and wraps
// ctx.Err() if ctx ended first.
func Open(ctx context.Context, h host.Host, p peer.ID, name string) (*Conn, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	s, err := h.NewStream(network.WithNoDial(network.WithAllowLimitedConn(ctx, "service"), "service"), p, Protocol)
	if err != nil {
		if isNotSpoken(err) {
			return nil, &RefusedError{Peer: p, Service: name, Reason: NotSpoken}
		}
		return nil, fmt.Errorf("open stream to %s: %w", p, err)
	}
	// The end of the context ends the wait at once.
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	status, err := handshake(s, name)
	if !stop() {
		err = ctx.Err() // and not what the reset looks like
	}
	switch {
	case err == nil && status == pb.Answer_ACCEPTED:
		return &Conn{Stream: s, service: name}, nil
	case err == nil:
		err = &RefusedError{Peer: p, Service: name, Reason: reasonOf(status)}
	case isNotSpoken(err):
		err = &RefusedError{Peer: p, Service: name, Reason: NotSpoken}
	default:
		err = fmt.Errorf("open service %q on %s: %w", name, p, err)
	}
	s.Reset()
	return nil, err
}

// handshake is the opening side's two messages.
func handshake(s network.Stream, name string) (pb.Answer_Status, error) {
	if err := s.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return 0, err
	}
	if err := writeMessage(s, &pb.Open{Service: name}); err != nil {
		return 0, err
	}
	var ans pb.Answer
	if err := readMessage(s, &ans); err != nil {
		return 0, err
	}
	return ans.GetStatus(), s.SetDeadline(time.Time{})
}

func reasonOf(s pb.Answer_Status) Reason {
	switch s {
	case pb.Answer_NO_SUCH_SERVICE:
		return NoSuchService
	case pb.Answer_BUSY:
		return Busy
	}
	return BadRequest
}

// Listener is a net.Listener whose connections are *Conn.
type Listener struct {
	registry *Registry
	name     string
	conns    chan *Conn
	room     chan struct{} // one token per stream in conns or on its way there
	closed   chan struct{}
	once     sync.Once
}

// deliver accepts a stream and queues it.
func (l *Listener) deliver(s network.Stream) {
	// Room is taken before we say yes, so that a yes is never taken back; and
	// the queue is joined after, so that nobody who reads slowly holds up
	// Accept.
	select {
	case l.room <- struct{}{}:
	default:
		refuse(s, pb.Answer_BUSY)
		return
	}
	err := writeMessage(s, &pb.Answer{Status: pb.Answer_ACCEPTED})
	if err == nil {
		err = s.SetDeadline(time.Time{})
	}
	if err != nil {
		s.Reset()
		<-l.room
		return
	}
	l.conns <- &Conn{Stream: s, service: l.name} // there is room
	select {
	case <-l.closed:
		l.drain() // Close may have looked before
	default:
	}
}

// Accept waits for the next connection. It returns net.ErrClosed after Close.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		<-l.room
		return c, nil
	case <-l.closed:
		return nil, fmt.Errorf("service %q: %w", l.name, net.ErrClosed)
	}
}

// Close stops listening. Connections that nobody accepted are reset.
func (l *Listener) Close() error {
	l.registry.mu.Lock()
	if l.registry.listeners[l.name] == l {
		delete(l.registry.listeners, l.name)
	}
	l.registry.mu.Unlock()
	l.shut()
	return nil
}

func (l *Listener) shut() {
	l.once.Do(func() { close(l.closed) })
	l.drain()
}

// drain resets what nobody will accept.
func (l *Listener) drain() {
	for {
		select {
		case c := <-l.conns:
			<-l.room
			c.Reset()
		default:
			return
		}
	}
}

// Addr returns our peer ID.
func (l *Listener) Addr() net.Addr { return Addr{Peer: l.registry.host.ID(), Service: l.name} }

var _ net.Listener = (*Listener)(nil)
