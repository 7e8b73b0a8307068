package discovery_test

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/discovery"
	"github.com/causeway-p2p/causeway/testnet"
)

// lan is a source of one's own.
type lan struct{}

func (lan) Source() discovery.Source { return "lan" }

func (lan) Find(_ context.Context, found func(peer.AddrInfo)) error {
	found(peer.AddrInfo{ID: "a relay on the shelf"})
	return nil
}

func Example() {
	net := testnet.New(testnet.Config{})
	defer net.Close()
	machine := net.Host("seeker")
	h, err := libp2p.New(machine.Transport(), libp2p.ListenAddrs(machine.ListenAddr(4001)))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer h.Close()

	found := make(chan discovery.Candidate, 1)
	d := discovery.New(discovery.Config{
		Host:    h,
		Finders: []discovery.Finder{lan{}},
		Found: func(c discovery.Candidate) {
			select {
			case found <- c:
			default:
			}
		},
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	done := make(chan error)
	go func() { done <- d.Run(ctx) }()
	d.Want(true)
	c := <-found
	fmt.Printf("%s, from source %s\n", string(c.ID), c.Source)
	cancel()
	fmt.Println(<-done)

	// Output:
	// a relay on the shelf, from source lan
	// <nil>
}
