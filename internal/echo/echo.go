// Package echo is the asking side of libp2p's ping protocol
// (github.com/libp2p/specs/blob/master/ping/ping.md) on a stream that its user
// opened: go-libp2p's own client (ping.Ping) opens one itself, keeps it from
// its caller, and so cannot tell which path it took.
package echo

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
)

// Ask sends 32 random bytes and waits for them to come back. The end of ctx
// resets the stream and ends the wait with ctx.Err().
func Ask(ctx context.Context, s network.Stream) (time.Duration, error) {
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	var out, in [ping.PingSize]byte
	if _, err := rand.Read(out[:]); err != nil {
		return 0, err
	}
	start := time.Now()
	_, err := s.Write(out[:])
	if err == nil {
		_, err = io.ReadFull(s, in[:])
	}
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case err != nil:
		return 0, err
	case in != out:
		return 0, errors.New("the answer is not the question")
	}
	return time.Since(start), nil
}
