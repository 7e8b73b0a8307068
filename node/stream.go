package node

import (
	"context"
	"io"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"
)

// lazyStream is a stream whose first write carries the name of the protocol
// along, so that negotiation takes no round trip, as those that go-libp2p's
// host opens (v0.51, p2p/host/basic/basic_host.go, streamWrapper) once
// identify has told it what the peer speaks. Ours does not wait for that.
type lazyStream struct {
	network.Stream
	rw     multistream.LazyConn
	onRead atomic.Pointer[func()] // called when something comes; nil = nobody cares
}

func negotiateLazily(s network.Stream, proto protocol.ID) (*lazyStream, error) {
	if err := s.SetProtocol(proto); err != nil {
		s.Reset()
		return nil, err
	}
	return &lazyStream{Stream: s, rw: multistream.NewMSSelect(s, proto)}, nil
}

func (s *lazyStream) Read(b []byte) (int, error) {
	n, err := s.rw.Read(b)
	if f := s.onRead.Load(); f != nil && n > 0 {
		(*f)()
	}
	return n, err
}

func (s *lazyStream) Write(b []byte) (int, error) { return s.rw.Write(b) }

// closeTimeout bounds waiting for the answer to the protocol's name when the
// stream is closed before it came, as go-libp2p does.
const closeTimeout = 10 * time.Second

// Close flushes what was not negotiated yet.
func (s *lazyStream) Close() error {
	_ = s.SetReadDeadline(time.Now().Add(closeTimeout)) // or Close waits for the peer
	return s.rw.Close()
}

// CloseWrite flushes as well.
func (s *lazyStream) CloseWrite() error {
	if f, ok := s.rw.(interface{ Flush() error }); ok {
		_ = f.Flush() // if it fails, reading tells
	}
	return s.Stream.CloseWrite()
}

var _ io.ReadWriteCloser = (*lazyStream)(nil)

// pinned is the host with one connection: streams are opened on that and on
// no other. The swarm prefers the connection with the most streams, which is
// the dead one of two as soon as something hangs on it.
type pinned struct {
	host.Host
	conn network.Conn
}

func (h pinned) NewStream(ctx context.Context, _ peer.ID, protos ...protocol.ID) (network.Stream, error) {
	s, err := h.conn.NewStream(ctx)
	if err != nil {
		return nil, err
	}
	return negotiateLazily(s, protos[0])
}
