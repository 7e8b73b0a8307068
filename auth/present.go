package auth

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/auth/pb"
	"github.com/causeway-p2p/causeway/internal/oneshot"
)

// presentTimeout bounds a presentation in all, on a slow path too.
const presentTimeout = 5 * time.Second

// Present shows a relay a token, in the place of any shown before, and returns
// what the relay grants. The empty token gives back what was granted. It never
// dials, and leaves alone a relay that did not say in identify that it takes
// tokens. It gives up after 5 seconds, or when ctx ends. A refusal is a Reason,
// to be had with errors.As.
func Present(ctx context.Context, h host.Host, relay peer.ID, token string) (Grant, error) {
	g, err := present(ctx, h, relay, token)
	if err != nil {
		return Grant{}, fmt.Errorf("token for relay %s: %w", relay, err)
	}
	return g, nil
}

func present(ctx context.Context, h host.Host, relay peer.ID, token string) (g Grant, err error) {
	var m pb.Present
	if token != "" {
		s, err := Parse(token)
		if err != nil {
			return Grant{}, err
		}
		m.Token = s.sealed
	}
	err = oneshot.Call(ctx, h, relay, Protocol, presentTimeout, func(s network.Stream) error {
		if err := oneshot.Write(s, &m); err != nil {
			return err
		}
		if err := s.CloseWrite(); err != nil {
			return err
		}
		var answer pb.Answer
		if err := oneshot.Read(s, maxMessage, &answer); err != nil {
			return err
		}
		g, err = outcome(&answer, time.Now())
		return err
	})
	return g, err
}
