package relay_test

import (
	"context"
	"fmt"

	"github.com/libp2p/go-libp2p"

	"github.com/causeway-p2p/causeway/relay"
	"github.com/causeway-p2p/causeway/testnet"
)

// A relay host serves as soon as somebody found that it can be dialled.
func Example() {
	net := testnet.New(testnet.Config{})
	defer net.Close()
	machine := net.Host("relay")
	h, err := libp2p.New(machine.Transport(), libp2p.ListenAddrs(machine.ListenAddr(4001)))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer h.Close()

	changes := make(chan relay.Status, 16)
	r, err := relay.New(relay.Config{
		Host:     h,
		Limits:   relay.Limits{Reservations: 100, CircuitBytes: 10 << 20},
		OnChange: func(s relay.Status) { changes <- s },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()

	fmt.Println(r.Status().Serving, "-", r.Status().Because)
	r.SetVerdict(true, "2 of 2 servers dialled 11.0.0.1:4001 over QUIC")
	s := <-changes
	fmt.Println(s.Serving, "-", s.Because)
	fmt.Println(s.Limits)
	cancel()
	fmt.Println(<-done)

	// Output:
	// false - waiting for a verdict on reachability
	// true - 2 of 2 servers dialled 11.0.0.1:4001 over QUIC
	// 100 reservations of 1 h (32 per IP), 64 circuits per peer, each circuit up to 1 h and 10 MiB each way
	// <nil>
}
