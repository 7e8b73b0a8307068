package node_test

import (
	"context"
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/node"
)

// A peer that is reachable from anywhere, in ten lines.
func Example() {
	var bootstrap []peer.AddrInfo // of the network "demo"
	run := func(ctx context.Context) error {
		n, err := node.New(node.Config{Network: "demo", Bootstrap: bootstrap})
		if err != nil {
			return err
		}
		if err := n.Start(ctx); err != nil {
			return err
		}
		defer n.Close()
		if err := n.WaitReachable(ctx); err != nil {
			return err
		}
		fmt.Println("reachable as", n.ID())
		l, err := n.Listen("chat")
		if err != nil {
			return err
		}
		_, err = l.Accept() // others call n.Dial(ctx, id, "chat")
		return err
	}
	_ = run
}
