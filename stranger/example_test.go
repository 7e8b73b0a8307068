package stranger_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/stranger"
)

// A node that AutoNAT finds public wants to know of strangers as well. The nonce
// is one that its dial-back handler waits for, and what proves something.
func Example() {
	ask := func(ctx context.Context, h host.Host, server peer.ID, addr ma.Multiaddr, nonce uint64) {
		s, err := stranger.New(h, stranger.Config{
			NewDialer: func() (host.Host, error) { return libp2p.New(libp2p.NoListenAddrs) },
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		switch err := s.Ask(ctx, server, addr, nonce); {
		case err == nil:
			fmt.Println("somebody says to have got through; has the nonce arrived?")
		case errors.Is(err, stranger.ErrDialFailed):
			fmt.Println("somebody could not get through")
		default:
			fmt.Println("nobody has tried:", err)
		}
	}
	_ = ask
}
