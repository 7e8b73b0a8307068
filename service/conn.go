package service

import (
	"bytes"
	"errors"
	"net"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
)

// Conn is one accepted stream as a net.Conn. CloseWrite ends our direction
// and leaves the other open; Close ends both; Reset throws away what is in
// flight and tells the other side so.
type Conn struct {
	network.Stream
	service string
}

var _ net.Conn = (*Conn)(nil)

// Service is the name that was asked for.
func (c *Conn) Service() string { return c.service }

// LocalAddr returns our peer ID.
func (c *Conn) LocalAddr() net.Addr {
	return Addr{Peer: c.Stream.Conn().LocalPeer(), Service: c.service}
}

// RemoteAddr returns the peer ID of the other side, which its handshake proved.
func (c *Conn) RemoteAddr() net.Addr {
	return Addr{Peer: c.Stream.Conn().RemotePeer(), Service: c.service}
}

// Addr names one end of a connection: a peer and a service.
type Addr struct {
	Peer    peer.ID
	Service string
}

// Network returns "libp2p".
func (Addr) Network() string { return "libp2p" }

func (a Addr) String() string { return a.Peer.String() + "/" + a.Service }

// readMessage reads one delimited message and not a byte more: what follows
// belongs to the user of the stream.
func readMessage(s network.Stream, m proto.Message) error {
	return protodelim.UnmarshalOptions{MaxSize: maxMessage}.UnmarshalFrom(byteReader{s}, m)
}

func writeMessage(s network.Stream, m proto.Message) error {
	var b bytes.Buffer // protodelim writes twice, and each write may become a packet
	if _, err := protodelim.MarshalTo(&b, m); err != nil {
		return err
	}
	_, err := s.Write(b.Bytes())
	return err
}

// byteReader reads single bytes without reading ahead.
type byteReader struct{ network.Stream }

// ReadByte implements io.ByteReader.
func (r byteReader) ReadByte() (byte, error) {
	var b [1]byte
	for {
		n, err := r.Read(b[:])
		if n == 1 {
			return b[0], nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// isNotSpoken tells a peer that does not know the protocol from one that
// cannot be reached. A peer that identify said knows it, but that does not any
// more, takes our request for a second protocol name and resets the stream.
func isNotSpoken(err error) bool {
	if errors.Is(err, multistream.ErrNotSupported[protocol.ID]{}) {
		return true
	}
	var reset *network.StreamError
	return errors.As(err, &reset) && reset.Remote && reset.ErrorCode == network.StreamProtocolNegotiationFailed
}
