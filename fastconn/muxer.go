package fastconn

import (
	"context"
	"net"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
)

// Muxer is libp2p's yamux over combined writes, for libp2p.Muxer(yamux.ID, …).
var Muxer network.Multiplexer = muxer{yamux.DefaultTransport}

type muxer struct {
	stock network.Multiplexer
}

func (m muxer) NewConn(nc net.Conn, isServer bool, scope network.PeerScope) (network.MuxedConn, error) {
	c := combine(nc)
	mc, err := m.stock.NewConn(c, isServer, scope)
	if err != nil {
		return nil, err
	}
	return &muxed{mc, c}, nil
}

// muxed is a yamux session that lets others find its Conn, and counts what its
// streams enqueue and read.
type muxed struct {
	network.MuxedConn
	conn *Conn
}

// As finds a *Conn, and whatever yamux finds.
func (m *muxed) As(target any) bool {
	if t, ok := target.(**Conn); ok {
		*t = m.conn
		return true
	}
	return m.MuxedConn.As(target)
}

func (m *muxed) OpenStream(ctx context.Context) (network.MuxedStream, error) {
	s, err := m.MuxedConn.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	return &stream{s, m.conn}, nil
}

func (m *muxed) AcceptStream() (network.MuxedStream, error) {
	s, err := m.MuxedConn.AcceptStream()
	if err != nil {
		return nil, err
	}
	return &stream{s, m.conn}, nil
}

type stream struct {
	network.MuxedStream
	conn *Conn
}

// Read leaves out an error that comes with bytes: what is true of the stream comes
// with the next read. When the connection has ended, yamux cannot open the window
// any more, and says why that is, an io.EOF most often, although there is more to
// read, or the stream was cut in the middle (go-yamux v5.1.0, stream.go, Read).
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.MuxedStream.Read(p)
	s.conn.taken.Add(int64(n))
	if n > 0 {
		return n, nil
	}
	return n, err
}

// Write counts what yamux has accepted: not what still waits for the window of
// the stream, behind which nobody else has to wait.
func (s *stream) Write(p []byte) (int, error) {
	n, err := s.MuxedStream.Write(p)
	s.conn.backlog.enqueued(n)
	return n, err
}
