package notice

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/internal/oneshot"
)

// sendTimeout bounds a notice in all, on a slow path too. Those who send to
// many give less.
const sendTimeout = 5 * time.Second

// Send tells a peer something, and returns nil once the peer has read it. It
// never dials, and leaves alone a peer that did not say in identify that it
// takes notices. It gives up after 5 seconds, or when ctx ends.
func Send(ctx context.Context, h host.Host, p peer.ID, n Notice) error {
	data, err := encode(n)
	if err == nil {
		err = oneshot.Call(ctx, h, p, Protocol, sendTimeout, func(s network.Stream) error { return deliver(s, data) })
	}
	if err != nil {
		return fmt.Errorf("notice to %s: %w", p, err)
	}
	return nil
}

// deliver writes, and waits until the other side has read: a relay that stops
// right after it has sent would take with it what is still on its way.
func deliver(s network.Stream, data []byte) error {
	if _, err := s.Write(data); err != nil {
		return err
	}
	if err := s.CloseWrite(); err != nil {
		return err
	}
	switch _, err := io.ReadFull(s, make([]byte, 1)); {
	case err == nil:
		return errors.New("the peer answered, and should only close")
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}
