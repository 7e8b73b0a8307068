package node

import (
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/testnet"
)

// directTo lists the direct connections that a host has to a peer.
func directTo(h host.Host, p peer.ID) (list []network.Conn) {
	for _, c := range h.Network().ConnsToPeer(p) {
		if !c.IsClosed() && !PathOf(c).Relayed() {
			list = append(list, c)
		}
	}
	return list
}

// TestOneDirectConnection: of several direct connections to a peer one stays, the
// same at both sides; those with a stream at either side stay as long as that.
func TestOneDirectConnection(t *testing.T) {
	for _, c := range []struct {
		name           string
		stock, smaller bool // the called peer is; the caller's ID is
	}{
		{"from the smaller ID to ours", false, true},
		{"from the larger ID to ours", false, false},
		{"from the smaller ID to stock", true, true},
		{"from the larger ID to stock", true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				w.bootstrap()
				relay := w.relays(1)[0]
				a := w.behind("a", testnet.PortRestricted(), Config{})
				key, id := newKey(t)
				for (a.ID() < id) != c.smaller {
					key, id = newKey(t)
				}
				var b host.Host
				box := w.net.NAT("nat b", testnet.PortRestricted()).Host("b")
				if c.stock {
					b = w.plainHost(box, relay, libp2p.EnableHolePunching(), libp2p.Identity(key))
				} else {
					n := w.on(box, Config{Identity: key})
					await(t, n, "a circuit address", func(e AddrsChanged) bool { return e.Circuits > 0 })
					b = n.Host()
				}
				time.Sleep(10 * time.Second)
				const hold protocol.ID = "/test/hold"
				b.SetStreamHandler(hold, func(network.Stream) {})
				a.Host().SetStreamHandler(hold, func(network.Stream) {})
				a.Host().Peerstore().AddAddrs(id, []ma.Multiaddr{circuitThrough(relay, id)}, time.Hour)
				if err := a.Connect(timeout(t), id); err != nil {
					t.Fatal(err)
				}
				time.Sleep(5 * time.Second)
				first := directTo(a.Host(), id)
				if len(first) == 0 {
					t.Fatalf("no direct connection; %v %+v", b.Mux().Protocols(), a.Status().Paths)
				}
				for range 2 {
					if err := a.upgrader.Dial(timeout(t), first[0].RemoteMultiaddr(), id); err != nil {
						t.Fatal(err)
					}
				}
				count := func(want int, when string) {
					t.Helper()
					for _, end := range []struct {
						h host.Host
						p peer.ID
					}{{a.Host(), id}, {b, a.ID()}} {
						if got := len(directTo(end.h, end.p)); got != want {
							t.Errorf("%s: %d direct connections at %s, want %d", when, got, ShortID(end.h.ID()), want)
						}
					}
				}
				time.Sleep(time.Second)
				count(3, "at first")
				// Each side uses one.
				mine, its := holdStream(t, directTo(a.Host(), id)[0], hold), holdStream(t, directTo(b, a.ID())[1], hold)
				time.Sleep(3 * time.Minute)
				count(2, "with a stream on two of them")
				mine.Reset()
				its.Reset()
				time.Sleep(2 * time.Minute)
				count(1, "in the end")
			})
		})
	}
}

// holdStream opens a stream on a connection, and leaves it open.
func holdStream(t *testing.T, c network.Conn, proto protocol.ID) network.Stream {
	t.Helper()
	s, err := c.NewStream(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	open, err := negotiateLazily(s, proto)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	return s
}
