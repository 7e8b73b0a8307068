package node

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/causeway-p2p/causeway/testnet"
)

func TestForeignRelay(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		r, a, _ := w.behindOneRelay()
		b := w.onRelay(r, "B")
		c := w.behind("foreigner", testnet.Symmetric(), Config{NoHolePunching: true, Relays: -1})
		connections := 0
		c.Host().Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, conn network.Conn) {
			if conn.RemotePeer() == r.ID() {
				connections++
			}
		}})
		dialed := make(chan error, 2)
		for _, p := range []*Node{a, b} {
			c.Host().Peerstore().AddAddrs(p.ID(), p.Host().Addrs(), time.Hour)
			go func() { dialed <- c.Connect(t.Context(), p.ID()) }()
		}
		for range 2 {
			if err := <-dialed; err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		if connections != 1 {
			t.Errorf("connections to the relay after two dials at once: got %d, want 1", connections)
		}
		if s := c.Status().ForeignRelays; len(s) != 1 || s[0].ID != r.ID().String() || s[0].Circuits != 2 || time.Since(s[0].Since) > 2*time.Second {
			t.Errorf("foreign relays: got %+v, want %s with two circuits", s, r.ID())
		}
		connected := func() bool { return c.Host().Network().Connectedness(r.ID()) == network.Connected }

		// One circuit ends, and the other keeps the relay.
		tagged := func() bool { return c.Host().ConnManager().GetTagInfo(r.ID()).Tags[circuitTag] > 0 }
		c.Host().Network().ClosePeer(a.ID())
		time.Sleep(3 * foreignSweep)
		if !tagged() {
			t.Error("with a circuit over it: the connection to the relay has no tag")
		}
		if !connected() || c.Host().Network().Connectedness(b.ID()) == network.NotConnected {
			t.Errorf("with a circuit over it: the relay was closed")
		}
		// The last one ends.
		c.Host().Network().ClosePeer(b.ID())
		time.Sleep(time.Second)
		if tagged() {
			t.Error("after the last circuit: the connection to the relay has its tag still")
		}
		if !connected() {
			t.Errorf("a second after the last circuit: the relay was closed, want a grace of %v", foreignGrace)
		}
		time.Sleep(foreignGrace + foreignSweep)
		if connected() {
			t.Errorf("%v after the last circuit: the relay is connected still", time.Second+foreignGrace+foreignSweep)
		}
		if s := c.Status().ForeignRelays; len(s) != 0 {
			t.Errorf("foreign relays at the end: got %+v", s)
		}
		// And again.
		c.Host().Peerstore().AddAddrs(a.ID(), a.Host().Addrs(), time.Hour)
		callEcho(t, c, a.ID(), 1000)
		if connections != 2 {
			t.Errorf("connections after another dial: got %d, want 2", connections)
		}
	})
}

// TestForeignRelayIsKept where somebody else wants it.
func TestForeignRelayIsKept(t *testing.T) {
	for _, c := range []struct {
		name string
		seek int // Config.Relays
		want bool
		make func(t *testing.T, n, r *Node)
	}{
		{"nobody wants it", -1, false, func(*testing.T, *Node, *Node) {}},
		{"it is a home by now", 1, true, func(t *testing.T, n, r *Node) {
			await(t, n, "a reservation", func(e RelayReserved) bool { return e.Relay == r.ID() })
		}},
		{"it is protected", -1, true, func(_ *testing.T, n, r *Node) { n.Host().ConnManager().Protect(r.ID(), "mine") }},
		{"somebody has a stream", -1, true, func(t *testing.T, n, r *Node) {
			r.Host().SetStreamHandler("/x", mute)
			s, err := n.Host().NewStream(t.Context(), r.ID(), "/x")
			if err != nil {
				t.Fatal(err)
			}
			s.Write([]byte("x"))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				r, a, _ := w.behindOneRelay()
				n := w.behind("foreigner", testnet.PortRestricted(), Config{
					NoHolePunching: true, Relays: c.seek, ForeignRelaySweep: 10 * time.Second, ForeignRelayGrace: time.Second,
				})
				n.Host().Peerstore().AddAddrs(a.ID(), a.Host().Addrs(), time.Hour)
				callEcho(t, n, a.ID(), 1000)
				if got := n.Status().ForeignRelays; c.seek < 0 && len(got) != 1 {
					t.Fatalf("foreign relays after a call: got %+v, want one", got)
				}
				c.make(t, n, r)
				if got := n.Status().ForeignRelays; c.seek > 0 && len(got) != 0 {
					t.Errorf("foreign relays with a reservation: got %+v, want none", got)
				}
				n.Host().Network().ClosePeer(a.ID())
				time.Sleep(time.Minute)
				if got := n.Host().Network().Connectedness(r.ID()) == network.Connected; got != c.want {
					t.Errorf("the relay is connected: got %v, want %v", got, c.want)
				}
			})
		})
	}
}
