package notice_test

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/notice"
	"github.com/causeway-p2p/causeway/testnet"
)

// A relay says that it will stop in half a minute.
func Example() {
	net := testnet.New(testnet.Config{})
	defer net.Close()
	var hosts []host.Host
	for _, name := range []string{"relay", "peer"} {
		m := net.Host(name)
		h, err := libp2p.New(m.Transport(), libp2p.ListenAddrs(m.ListenAddr(4001)))
		if err != nil {
			fmt.Println(err)
			return
		}
		defer h.Close()
		hosts = append(hosts, h)
	}
	relay, p := hosts[0], hosts[1]

	heard := make(chan string, 1)
	stop := notice.Receive(p, func(from peer.ID, n notice.Notice) {
		if from == relay.ID() && n.Draining != nil { // one of our relays, that is
			heard <- fmt.Sprint("the relay closes in ", n.Draining.Within)
		}
	})
	defer stop()
	ctx := context.Background()
	if err := relay.Connect(ctx, peer.AddrInfo{ID: p.ID(), Addrs: p.Addrs()}); err != nil {
		fmt.Println(err)
		return
	}
	err := notice.Send(ctx, relay, p.ID(), notice.Notice{Draining: &notice.Draining{Within: 30 * time.Second}})
	fmt.Println(err)
	fmt.Println(<-heard)

	// Output:
	// <nil>
	// the relay closes in 30s
}
