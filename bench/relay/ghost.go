package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/multiformats/go-multistream"
)

// A ghost is a peer that is not there: an identity, an address and streams
// that end in memory. A relay's handler cannot tell it from a peer, and a
// hundred thousand of them need no connections.
type ghost struct {
	network.Conn // nil: a relay that asks for more than is below must be told here
	id           peer.ID
	addr         ma.Multiaddr
}

// newGhost makes the ghost of a number, the same every time. Each has an IPv4
// address of its own.
func newGhost(n int) *ghost {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
	// An Ed25519 public key is any 32 bytes until somebody verifies with it;
	// what stands before them is how a peer ID wraps one.
	id := append([]byte{0x00, 0x24, 0x08, 0x01, 0x12, 0x20}, sum[:]...)
	addr, err := manet.FromNetAddr(&net.TCPAddr{IP: net.IPv4(11, byte(n>>16), byte(n>>8), byte(n)), Port: 4001})
	if err != nil {
		panic(err)
	}
	return &ghost{id: peer.ID(id), addr: addr}
}

func (g *ghost) ID() string                                 { return "ghost" }
func (g *ghost) LocalPeer() peer.ID                         { return "" }
func (g *ghost) RemotePeer() peer.ID                        { return g.id }
func (g *ghost) RemoteMultiaddr() ma.Multiaddr              { return g.addr }
func (g *ghost) LocalMultiaddr() ma.Multiaddr               { return g.addr }
func (g *ghost) ConnState() network.ConnectionState         { return network.ConnectionState{} }
func (g *ghost) Stat() network.ConnStats                    { return network.ConnStats{} }
func (g *ghost) Scope() network.ConnScope                   { return &network.NullScope{} }
func (g *ghost) IsClosed() bool                             { return false }
func (g *ghost) GetStreams() []network.Stream               { return nil }
func (g *ghost) As(any) bool                                { return false }
func (g *ghost) Close() error                               { return nil }
func (g *ghost) CloseWithError(network.ConnErrorCode) error { return nil }

func (g *ghost) RemotePublicKey() crypto.PubKey {
	key, err := g.id.ExtractPublicKey()
	if err != nil {
		return nil
	}
	return key
}

// reserveMessage is the RESERVE that every ghost sends.
var reserveMessage = func() []byte {
	var b bytes.Buffer
	if err := util.NewDelimitedWriter(&b).WriteMsg(&pb.HopMessage{Type: pb.HopMessage_RESERVE.Enum()}); err != nil {
		panic(err)
	}
	return b.Bytes()
}()

// reserve sends a RESERVE and reads the answer, which must be a reservation
// with a voucher.
func (g *ghost) reserve(ctx context.Context, hop network.StreamHandler) error {
	s := &ghostStream{conn: g, in: bytes.NewReader(reserveMessage), done: make(chan struct{})}
	hop(s)
	select {
	case <-s.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.reset {
		return errors.New("the relay reset the stream")
	}
	var msg pb.HopMessage
	rd := util.NewDelimitedReader(&s.out, 4096)
	defer rd.Close()
	if err := rd.ReadMsg(&msg); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	if msg.GetStatus() != pb.Status_OK || len(msg.GetReservation().GetVoucher()) == 0 {
		return fmt.Errorf("refused: %s", msg.GetStatus())
	}
	return nil
}

// ghostStream is a stream whose other end has written already.
type ghostStream struct {
	network.Stream // nil, as above
	conn           *ghost
	in             *bytes.Reader
	out            bytes.Buffer

	once  sync.Once
	done  chan struct{} // closed when the relay is done with it
	reset bool          // before done is closed
}

func (s *ghostStream) end(reset bool) error {
	s.once.Do(func() {
		s.reset = reset
		close(s.done)
	})
	return nil
}

func (s *ghostStream) Read(p []byte) (int, error)                   { return s.in.Read(p) }
func (s *ghostStream) Write(p []byte) (int, error)                  { return s.out.Write(p) }
func (s *ghostStream) Close() error                                 { return s.end(false) }
func (s *ghostStream) CloseWrite() error                            { return nil }
func (s *ghostStream) CloseRead() error                             { return nil }
func (s *ghostStream) Reset() error                                 { return s.end(true) }
func (s *ghostStream) ResetWithError(network.StreamErrorCode) error { return s.end(true) }
func (s *ghostStream) SetDeadline(time.Time) error                  { return nil }
func (s *ghostStream) SetReadDeadline(time.Time) error              { return nil }
func (s *ghostStream) SetWriteDeadline(time.Time) error             { return nil }
func (s *ghostStream) ID() string                                   { return "ghost" }
func (s *ghostStream) Protocol() protocol.ID                        { return proto.ProtoIDv2Hop }
func (s *ghostStream) SetProtocol(protocol.ID) error                { return nil }
func (s *ghostStream) Stat() network.Stats                          { return network.Stats{} }
func (s *ghostStream) Conn() network.Conn                           { return s.conn }
func (s *ghostStream) Scope() network.StreamScope                   { return &network.NullScope{} }

// hopHandler gets a relay's handler out of its host, by negotiating the
// protocol as a peer would.
func hopHandler(h host.Host) (network.StreamHandler, error) {
	mux, ok := h.Mux().(*multistream.MultistreamMuxer[protocol.ID])
	if !ok {
		return nil, fmt.Errorf("the host's protocols are in a %T", h.Mux())
	}
	var lines bytes.Buffer
	for _, l := range []string{multistream.ProtocolID, string(proto.ProtoIDv2Hop)} {
		lines.Write(binary.AppendUvarint(nil, uint64(len(l)+1)))
		lines.WriteString(l + "\n")
	}
	id, handle, err := mux.Negotiate(struct {
		io.Reader
		io.Writer
		io.Closer
	}{&lines, io.Discard, io.NopCloser(nil)})
	if err != nil {
		return nil, fmt.Errorf("the host offers no %s: %w", proto.ProtoIDv2Hop, err)
	}
	return func(s network.Stream) {
		if err := handle(id, s); err != nil {
			s.Reset()
		}
	}, nil
}
