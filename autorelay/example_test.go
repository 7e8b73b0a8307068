package autorelay_test

import (
	"context"
	"fmt"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/autorelay"
)

// Keep reservations on known relays, and print what follows from them.
func Example() {
	var h host.Host            // a libp2p host without an autorelay of its own
	var relays []peer.AddrInfo // from package discovery, say

	run := func(ctx context.Context) error {
		a, err := autorelay.New(autorelay.Config{
			Host:    h,
			OnAddrs: func(addrs []ma.Multiaddr) { fmt.Println("tell others:", addrs) },
		})
		if err != nil {
			return err
		}
		a.Want(true)
		for _, info := range relays {
			a.Add(autorelay.Candidate{AddrInfo: info, Source: "static"})
		}
		return a.Run(ctx)
	}
	_ = run
}
