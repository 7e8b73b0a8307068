package fastconn

import (
	"context"
	"net"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
)

// Security is a stock security transport over a wire.
type Security struct {
	sec.SecureTransport
	framing framing
}

// TLS is a constructor for libp2p.Security, in place of libp2p's own.
func TLS(id protocol.ID, key crypto.PrivKey, muxers []upgrader.StreamMuxer) (*Security, error) {
	t, err := libp2ptls.New(id, key, muxers)
	if err != nil {
		return nil, err
	}
	return &Security{t, tlsFraming}, nil
}

// Noise is a constructor for libp2p.Security, in place of libp2p's own.
func Noise(id protocol.ID, key crypto.PrivKey, muxers []upgrader.StreamMuxer) (*Security, error) {
	t, err := noise.New(id, key, muxers)
	if err != nil {
		return nil, err
	}
	return &Security{t, noiseFraming}, nil
}

// SecureInbound implements sec.SecureTransport.
func (s *Security) SecureInbound(ctx context.Context, insecure net.Conn, p peer.ID) (sec.SecureConn, error) {
	w := newWire(insecure, s.framing)
	c, err := s.SecureTransport.SecureInbound(ctx, w, p)
	if err != nil {
		return nil, err
	}
	return &secured{c, w}, nil
}

// SecureOutbound implements sec.SecureTransport.
func (s *Security) SecureOutbound(ctx context.Context, insecure net.Conn, p peer.ID) (sec.SecureConn, error) {
	w := newWire(insecure, s.framing)
	c, err := s.SecureTransport.SecureOutbound(ctx, w, p)
	if err != nil {
		return nil, err
	}
	return &secured{c, w}, nil
}

// secured lets the layer above the security reach the one below it.
type secured struct {
	sec.SecureConn
	wire *wire
}
