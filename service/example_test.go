package service_test

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/service"
	"github.com/causeway-p2p/causeway/testnet"
)

// One host shouts back what another one says.
func Example() {
	network := testnet.New(testnet.Config{})
	defer network.Close()
	var hosts []host.Host
	for _, name := range []string{"alice", "bob"} {
		m := network.Host(name)
		h, err := libp2p.New(m.Transport(), libp2p.ListenAddrs(m.ListenAddr(4001)))
		if err != nil {
			fmt.Println(err)
			return
		}
		defer h.Close()
		hosts = append(hosts, h)
	}
	alice, bob := hosts[0], hosts[1]

	registry := service.New(bob)
	defer registry.Close()
	l, err := registry.Listen("shout")
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		said, _ := io.ReadAll(c)
		fmt.Fprintf(c, "%s!", said)
	}()

	ctx := context.Background()
	if err := alice.Connect(ctx, peer.AddrInfo{ID: bob.ID(), Addrs: bob.Addrs()}); err != nil {
		fmt.Println(err)
		return
	}
	c, err := service.Open(ctx, alice, bob.ID(), "shout")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprint(c, "hello")
	c.CloseWrite()
	answer, err := io.ReadAll(c)
	fmt.Println(string(answer), err)

	_, err = service.Open(ctx, alice, bob.ID(), "whisper")
	var refused *service.RefusedError
	if errors.As(err, &refused) {
		fmt.Println(refused.Reason)
	}

	// Output:
	// hello! <nil>
	// nobody listens on this service
}
