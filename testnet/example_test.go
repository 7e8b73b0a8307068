package testnet_test

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/causeway-p2p/causeway/testnet"
)

// A laptop behind a home router dials a server; a stranger who learns where the
// server sees the laptop cannot use it.
func Example() {
	net := testnet.New(testnet.Config{Latency: 5 * time.Millisecond})
	defer net.Close()
	router := net.NAT("router", testnet.PortRestricted())
	laptop, server, stranger := router.Host("laptop"), net.Host("server"), net.Host("stranger")

	hosts := make(map[*testnet.Host]host.Host)
	for _, machine := range []*testnet.Host{laptop, server, stranger} {
		h, err := libp2p.New(machine.Transport(), libp2p.ListenAddrs(machine.ListenAddr(4001)))
		if err != nil {
			fmt.Println(err)
			return
		}
		defer h.Close()
		hosts[machine] = h
	}

	ctx := context.Background()
	to := peer.AddrInfo{ID: hosts[server].ID(), Addrs: hosts[server].Addrs()}
	fmt.Println("laptop dials server:", hosts[laptop].Connect(ctx, to))

	conn := hosts[server].Network().ConnsToPeer(hosts[laptop].ID())[0]
	ip, _ := manet.ToIP(conn.RemoteMultiaddr())
	fmt.Println("server sees laptop at", ip, "which is the router's:", ip.String() == router.WAN().String())

	hosts[stranger].Peerstore().AddAddr(hosts[laptop].ID(), conn.RemoteMultiaddr(), time.Hour)
	soon, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	err := hosts[stranger].Connect(soon, peer.AddrInfo{ID: hosts[laptop].ID()})
	fmt.Println("stranger reaches laptop:", err == nil)
	fmt.Println("the router filtered packets:", net.Drops()[testnet.DropFiltered] > 0)

	// Output:
	// laptop dials server: <nil>
	// server sees laptop at 11.0.0.1 which is the router's: true
	// stranger reaches laptop: false
	// the router filtered packets: true
}
