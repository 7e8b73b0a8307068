package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"
)

// wire is a host without a network, for tests with more strangers than QUIC
// would carry in a test, and with bytes that no library would send. Peers are
// no more than names; a stream is two pipes in memory.
type wire struct {
	host.Host // nil: what the relay must not use

	id      peer.ID
	net     *wireNet
	key     crypto.PrivKey
	window  int // what a direction of a stream holds
	answers func(dst peer.ID, s *side)
	deaf    bool // peers take notices, and never read one

	mu   sync.Mutex // guards the field below
	hop  network.StreamHandler
	runs sync.WaitGroup // of handlers and destinations
}

// newWire returns a host on which destinations do with a stop stream what
// answers says.
func newWire(t testing.TB, window int, answers func(dst peer.ID, s *side)) *wire {
	t.Helper()
	w := &wire{key: wireKey(), window: window, answers: answers, net: &wireNet{}}
	var err error
	if w.id, err = peer.IDFromPrivateKey(w.key); err != nil {
		t.Fatal(err)
	}
	return w
}

// wireKey is the same for all: to make one takes longer than a run of a fuzz
// test.
var wireKey = sync.OnceValue(func() crypto.PrivKey {
	key, _, err := crypto.GenerateEd25519Key(nil)
	if err != nil {
		panic(err)
	}
	return key
})

func (w *wire) ID() peer.ID              { return w.id }
func (w *wire) Network() network.Network { return w.net }
func (w *wire) Addrs() []ma.Multiaddr {
	return []ma.Multiaddr{ma.StringCast("/ip4/8.8.8.8/udp/4001/quic-v1")}
}
func (w *wire) ConnManager() connmgr.ConnManager { return connmgr.NullConnMgr{} }
func (w *wire) Peerstore() peerstore.Peerstore   { return wirePeers{w: w} }

func (w *wire) SetStreamHandler(p protocol.ID, h network.StreamHandler) {
	if p == proto.ProtoIDv2Hop {
		w.set(h)
	}
}

func (w *wire) RemoveStreamHandler(p protocol.ID) {
	if p == proto.ProtoIDv2Hop {
		w.set(nil)
	}
}

func (w *wire) set(h network.StreamHandler) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hop = h
}

func (w *wire) NewStream(_ context.Context, p peer.ID, ids ...protocol.ID) (network.Stream, error) {
	ours, theirs := w.stream(p, "")
	if slices.Contains(ids, proto.ProtoIDv2Stop) {
		w.runs.Go(func() { w.answers(p, theirs) })
	}
	return ours, nil
}

// ask opens a hop stream, as if from addr. It is reset if nobody serves.
func (w *wire) ask(from peer.ID, addr string) *side {
	ours, theirs := w.stream(from, addr)
	w.mu.Lock()
	h := w.hop
	w.mu.Unlock()
	if h == nil {
		theirs.Reset()
		return theirs
	}
	w.runs.Go(func() { h(ours) })
	return theirs
}

func (w *wire) stream(p peer.ID, addr string) (ours, theirs *side) {
	if addr == "" {
		addr = "/ip4/8.8.4.4/udp/4001/quic-v1"
	}
	a, b := newPipe(w.window), newPipe(w.window)
	c := &wireConn{peer: p, addr: ma.StringCast(addr)}
	return &side{conn: c, in: a, out: b}, &side{conn: c, in: b, out: a}
}

// wireNet knows everybody as connected, but those who have gone.
type wireNet struct {
	network.Network
	rm   network.NullResourceManager
	gone sync.Map // peer.ID to anything
	seen func()   // if not nil, called when somebody was seen to be gone
}

func (*wireNet) Notify(network.Notifiee)                    {}
func (*wireNet) StopNotify(network.Notifiee)                {}
func (*wireNet) ConnsToPeer(peer.ID) []network.Conn         { return nil }
func (n *wireNet) ResourceManager() network.ResourceManager { return &n.rm }

func (n *wireNet) Connectedness(p peer.ID) network.Connectedness {
	if _, gone := n.gone.Load(p); gone {
		if n.seen != nil {
			n.seen()
		}
		return network.NotConnected
	}
	return network.Connected
}

// wirePeers speak circuit v2, and take notices if they never read them.
type wirePeers struct {
	peerstore.Peerstore
	w *wire
}

func (p wirePeers) PrivKey(peer.ID) crypto.PrivKey { return p.w.key }

func (p wirePeers) SupportsProtocols(_ peer.ID, ids ...protocol.ID) ([]protocol.ID, error) {
	if p.w.deaf {
		return ids, nil
	}
	return nil, nil
}

type wireConn struct {
	network.Conn
	peer peer.ID
	addr ma.Multiaddr
}

func (c *wireConn) RemotePeer() peer.ID           { return c.peer }
func (c *wireConn) RemoteMultiaddr() ma.Multiaddr { return c.addr }
func (*wireConn) As(any) bool                     { return false }
func (*wireConn) IsClosed() bool                  { return false }

// ConnState is that of a connection whose streams do not wait without a buffer.
func (*wireConn) ConnState() network.ConnectionState { return network.ConnectionState{} }

// side is one end of a stream.
type side struct {
	network.Stream
	conn    *wireConn
	in, out *pipe
}

func (s *side) Conn() network.Conn                 { return s.conn }
func (s *side) Scope() network.StreamScope         { return &network.NullScope{} }
func (s *side) Read(b []byte) (int, error)         { return s.in.read(b) }
func (s *side) Write(b []byte) (int, error)        { return s.out.write(b) }
func (s *side) CloseWrite() error                  { s.out.end(io.EOF); return nil }
func (s *side) CloseRead() error                   { s.in.end(errDeaf); return nil }
func (s *side) SetReadDeadline(t time.Time) error  { s.in.readers.set(s.in, t); return nil }
func (s *side) SetWriteDeadline(t time.Time) error { s.out.writers.set(s.out, t); return nil }

func (s *side) Close() error {
	s.CloseWrite()
	return s.CloseRead()
}

func (s *side) Reset() error {
	s.in.end(network.ErrReset)
	s.out.end(network.ErrReset)
	return nil
}

// errDeaf is for what is written to somebody who does not listen any more.
var errDeaf = errors.New("the other side has stopped reading")

// pipe is one direction of a stream, as QUIC has it: bounded, with an end that
// is a close or a reset, and deadlines.
type pipe struct {
	window           int
	readers, writers deadline

	mu    sync.Mutex // guards the fields below, and the deadlines
	wake  *sync.Cond
	buf   []byte
	ended error // nil, io.EOF, errDeaf, or network.ErrReset
	taken int   // bytes read
}

func newPipe(window int) *pipe {
	p := &pipe{window: window}
	p.wake = sync.NewCond(&p.mu)
	return p
}

// deadline is guarded by the pipe's mu.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) set(p *pipe, t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	if d.at, d.timer = t, nil; !t.IsZero() && p.ended == nil {
		d.timer = time.AfterFunc(time.Until(t), p.wake.Broadcast)
	}
	p.wake.Broadcast()
}

func (d *deadline) over() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (p *pipe) end(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.ended == nil, why != io.EOF && p.ended == io.EOF && len(p.buf) > 0:
		p.ended = why
	}
	if p.ended != io.EOF {
		p.buf = nil
	}
	for _, d := range []*deadline{&p.readers, &p.writers} {
		if d.timer != nil {
			d.timer.Stop()
		}
	}
	p.wake.Broadcast()
}

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case len(p.buf) > 0:
			n := copy(b, p.buf)
			if p.buf = p.buf[n:]; len(p.buf) == 0 {
				p.buf = nil
			}
			p.taken += n
			p.wake.Broadcast()
			return n, nil
		case p.ended != nil:
			return 0, p.ended
		case p.readers.over():
			return 0, os.ErrDeadlineExceeded
		}
		p.wake.Wait()
	}
}

func (p *pipe) write(b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(b) > 0 {
		switch room := p.window - len(p.buf); {
		case p.ended != nil:
			return n, fmt.Errorf("write: %w", p.ended)
		case room > 0:
			k := min(room, len(b))
			p.buf, b, n = append(p.buf, b[:k]...), b[k:], n+k
			p.wake.Broadcast()
		case p.writers.over():
			return n, os.ErrDeadlineExceeded
		default:
			p.wake.Wait()
		}
	}
	return n, nil
}

// read is how much of the stream the other side has read.
func (s *side) read() int {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	return s.out.taken
}
