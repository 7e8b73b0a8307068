// Package oneshot is what our protocols of one exchange a stream have in
// common: a stream is opened on the connection that stands, bounded messages
// go over it, and it ends. [Call] is the side that opens it, [Serve] the one
// that takes it from anybody and bounds what that may cost.
package oneshot

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
)

// Speaks tells whether a peer said in identify that it takes a protocol.
func Speaks(h host.Host, p peer.ID, id protocol.ID) bool {
	spoken, err := h.Peerstore().SupportsProtocols(p, id)
	return err == nil && slices.Contains(spoken, id)
}

// Call opens a stream to a peer for one exchange. It never dials, and leaves
// alone a peer that did not say in identify that it speaks the protocol. When
// ctx ends or the time-out is over it resets the stream and returns the
// context's error; it resets it too after an exchange that failed, and closes
// it otherwise.
func Call(ctx context.Context, h host.Host, p peer.ID, id protocol.ID, timeout time.Duration, exchange func(network.Stream) error) error {
	if !Speaks(h, p, id) {
		return fmt.Errorf("the peer does not speak %s", id)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	s, err := h.NewStream(network.WithNoDial(ctx, string(id)), p, id)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	err = exchange(s)
	if !stop() {
		return ctx.Err() // and not what the reset looks like
	}
	if err != nil {
		s.Reset()
		return err
	}
	// The other side may have closed without waiting for our end of the stream,
	// which QUIC makes an error here. Nothing was lost by it.
	s.Close()
	return nil
}

// Write sends a message with its length before it, in one piece.
func Write(w io.Writer, m proto.Message) error {
	var b bytes.Buffer
	if _, err := protodelim.MarshalTo(&b, m); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}

// Read reads the only message that comes: it may swallow what is behind it. A
// message of more than most bytes, without its length, is an error before any
// of it is read.
func Read(r io.Reader, most int64, m proto.Message) error {
	return protodelim.UnmarshalOptions{MaxSize: most}.UnmarshalFrom(bufio.NewReaderSize(r, 512), m)
}
