package reachability_test

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/reachability"
	"github.com/causeway-p2p/causeway/testnet"
)

// A host with a public address asks one AutoNAT v2 server.
func Example() {
	net := testnet.New(testnet.Config{Latency: 5 * time.Millisecond})
	defer net.Close()
	machine, serving := net.Host("subject"), net.Host("server")

	// No libp2p.EnableAutoNATv2 here: go-libp2p's client must not run beside
	// the tracker.
	h, err := libp2p.New(machine.Transport(), libp2p.ListenAddrs(machine.ListenAddr(4001)))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer h.Close()
	server, err := libp2p.New(serving.Transport(), libp2p.ListenAddrs(serving.ListenAddr(4001)),
		libp2p.EnableAutoNATv2(), libp2p.ForceReachabilityPublic(),
		libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.UDPBlackHoleSuccessCounter(nil))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()

	verdicts := make(chan reachability.Verdict, 16)
	tracker, err := reachability.New(reachability.Config{
		Host:     h,
		OnChange: func(v reachability.Verdict) { verdicts <- v },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error)
	go func() { done <- tracker.Run(ctx) }()

	fmt.Println(tracker.Verdict().Reachability, "-", tracker.Verdict().Because)
	if err := h.Connect(ctx, peer.AddrInfo{ID: server.ID(), Addrs: server.Addrs()}); err != nil {
		fmt.Println(err)
		return
	}
	for v := range verdicts {
		if v.Reachability != reachability.Unknown {
			fmt.Println(v.Reachability, "-", v.Because)
			break
		}
	}
	cancel()
	fmt.Println(<-done)

	// Output:
	// unknown - no connected peer offers AutoNAT v2 yet
	// public - 1 of 1 server dialled 11.0.0.1:4001 over QUIC
	// <nil>
}
