package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
)

// Clients speak hop and stop themselves and put no handshake of their own and
// no multiplexer inside the circuit: what passes through the relay is the same
// to it, and the clients leave the machine to it.

const (
	handshakeTimeout = 30 * time.Second
	// circuitTime bounds everything that happens on one circuit; it is longer
	// than any round.
	circuitTime = 10 * time.Minute
	maxMessage  = 4096
)

// openCircuit opens a circuit through a relay that h is connected to.
func openCircuit(ctx context.Context, h host.Host, relay, dest peer.ID) (network.Stream, error) {
	s, err := h.NewStream(ctx, relay, proto.ProtoIDv2Hop)
	if err != nil {
		return nil, fmt.Errorf("hop stream: %w", err)
	}
	if err := connect(s, dest); err != nil {
		s.Reset()
		return nil, fmt.Errorf("connect: %w", err)
	}
	return s, nil
}

func connect(s network.Stream, dest peer.ID) error {
	s.SetDeadline(time.Now().Add(handshakeTimeout))
	msg := pb.HopMessage{
		Type: pb.HopMessage_CONNECT.Enum(),
		Peer: util.PeerInfoToPeerV2(peer.AddrInfo{ID: dest}),
	}
	if err := util.NewDelimitedWriter(s).WriteMsg(&msg); err != nil {
		return err
	}
	rd := util.NewDelimitedReader(s, maxMessage)
	defer rd.Close()
	msg.Reset()
	if err := rd.ReadMsg(&msg); err != nil {
		return err
	}
	if msg.GetType() != pb.HopMessage_STATUS || msg.GetStatus() != pb.Status_OK {
		return fmt.Errorf("answer %s %s", msg.GetType(), msg.GetStatus())
	}
	s.SetDeadline(time.Now().Add(circuitTime))
	return nil
}

// accept answers a relay that brings a circuit.
func accept(s network.Stream) error {
	s.SetDeadline(time.Now().Add(handshakeTimeout))
	rd := util.NewDelimitedReader(s, maxMessage)
	defer rd.Close()
	var msg pb.StopMessage
	if err := rd.ReadMsg(&msg); err != nil {
		return err
	}
	if msg.GetType() != pb.StopMessage_CONNECT {
		return fmt.Errorf("got %s, want CONNECT", msg.GetType())
	}
	msg = pb.StopMessage{Type: pb.StopMessage_STATUS.Enum(), Status: pb.Status_OK.Enum()}
	if err := util.NewDelimitedWriter(s).WriteMsg(&msg); err != nil {
		return err
	}
	s.SetDeadline(time.Now().Add(circuitTime))
	return nil
}

// The first byte on a circuit, or on a plain connection, says what follows.
const (
	kindBulk byte = 'b' // bytes until the end, which are counted
	kindEcho byte = 'e' // bytes that come back
)

// receive serves one circuit or connection at the destination.
func receive(rw io.ReadWriter) error {
	buf := make([]byte, 1)
	if _, err := io.ReadFull(rw, buf); err != nil {
		return err
	}
	switch kind := buf[0]; kind {
	case kindBulk:
		return countBulk(rw)
	case kindEcho:
		// Hides WriterTo and ReaderFrom, which would choose buffers.
		_, err := io.CopyBuffer(struct{ io.Writer }{rw}, struct{ io.Reader }{rw}, make([]byte, 4<<10))
		return err
	default:
		return fmt.Errorf("kind %q", kind)
	}
}
