package autorelay

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/causeway-p2p/causeway/testnet"
)

// TestRelease: whoever gives a slot back also frees it at the relay, unless the
// connection is needed for something else.
func TestRelease(t *testing.T) {
	const app = "/app/1.0.0"
	open := func(t *testing.T, w *world, n *node, r *stock, id protocol.ID) network.Stream {
		t.Helper()
		s, err := n.host.NewStream(t.Context(), r.ID(), id)
		if err == nil {
			_, err = s.Write([]byte("x"))
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for name, c := range map[string]struct {
		use   func(t *testing.T, w *world, n *node, r *stock)
		freed bool
	}{
		"nothing else":            {func(*testing.T, *world, *node, *stock) {}, true},
		"an application's stream": {func(t *testing.T, w *world, n *node, r *stock) { open(t, w, n, r, app) }, false},
		"the DHT's stream":        {func(t *testing.T, w *world, n *node, r *stock) { open(t, w, n, r, "/x/kad/1.0.0") }, true},
		"protected":               {func(_ *testing.T, _ *world, n *node, r *stock) { n.host.ConnManager().Protect(r.ID(), "app") }, false},
		"a circuit": {func(t *testing.T, w *world, n *node, r *stock) {
			other := w.host(w.net.Host("other"), nil)
			other.SetStreamHandler(app, func(s network.Stream) { io.Copy(io.Discard, s); s.Reset() })
			if err := other.Connect(t.Context(), peer.AddrInfo{ID: n.host.ID(), Addrs: n.current()}); err != nil {
				t.Fatal(err)
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				r, spare := w.relay(), w.relay()
				for _, id := range []protocol.ID{app, "/x/kad/1.0.0"} {
					r.SetStreamHandler(id, func(s network.Stream) { io.Copy(io.Discard, s); s.Reset() })
				}
				n := w.node(only())
				n.add(r)
				n.settled(r)
				c.use(t, w, n, r)
				n.add(spare)
				if !n.SetWish(r.ID(), Banned) {
					t.Fatal("SetWish: got false")
				}
				n.within(time.Second, "the spare one", func() bool { return n.through(spare.ID()) && !n.through(r.ID()) })
				time.Sleep(time.Second)
				if got := n.host.Network().Connectedness(r.ID()) != network.Connected; got != c.freed {
					t.Errorf("connection closed: got %v, want %v", got, c.freed)
				}
				if got := r.slots.Load() == 0; got != c.freed {
					t.Errorf("slot at the relay free: got %v, want %v", got, c.freed)
				}
				if n.host.ConnManager().IsProtected(r.ID(), protectTag) {
					t.Error("the connection is still protected by us")
				}
			})
		})
	}
}

// TestRelayAsksForItsSlot: the notice itself, whose stream is still open while
// it is handled, does not keep the connection.
func TestRelayAsksForItsSlot(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		relays := w.relays(3)
		n := w.node(Config{Relays: 2, Standby: -1})
		n.host.SetStreamHandler(noticeID, func(s network.Stream) {
			n.Load(s.Conn().RemotePeer(), 1, true)
			time.Sleep(time.Second)
			s.Close()
		})
		n.add(relays[:2]...)
		n.settled(relays[:2]...)
		s, err := relays[0].NewStream(t.Context(), n.host.ID(), noticeID)
		if err == nil {
			_, err = s.Write([]byte("x"))
		}
		if err != nil {
			t.Fatal(err)
		}
		n.within(500*time.Millisecond, "the slot free", func() bool { return relays[0].slots.Load() == 0 })
		n.neverWithout(1)
		time.Sleep(time.Second) // until the receiver is done
	})
}

// TestNoUsableAddress: a reservation that gives no address is none. Such relays
// dialled us, and tell only what is of no use to others.
func TestNoUsableAddress(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		// Both on one LAN: the way in for connections from private addresses.
		lan := w.net.NAT("lan", testnet.PortRestricted())
		n := w.nodeOn(lan.Host("node"), nil, Config{Relays: 2, Standby: 1, ProbeInterval: 10 * time.Second})
		var useless []*stock
		for i := range 3 {
			r := &stock{box: lan.Host(fmt.Sprint("useless", i))}
			r.start(w)
			if err := r.Connect(t.Context(), *host.InfoFromHost(n.host)); err != nil {
				t.Fatal(err)
			}
			n.Add(Candidate{AddrInfo: peer.AddrInfo{ID: r.ID()}, Source: "connected", Alive: true})
			useless = append(useless, r)
		}
		time.Sleep(2 * time.Second)
		good := w.relay()
		n.add(good)
		n.settled(good)
		n.throughout(time.Hour, "the good one alone", func() bool { return n.through(good.ID()) && n.held() == 1 })
		for _, r := range useless {
			if s := n.state(r.ID()); s.State != BackingOff || s.Reason != Unreachable {
				t.Errorf("a relay without a usable address: got %+v, want it refused", s)
			}
			if got := r.asked.Load(); got == 0 || got > 20 {
				t.Errorf("RESERVE messages to it in an hour: got %d, want 1 to 20", got)
			}
			if n.host.Network().Connectedness(r.ID()) != network.Connected {
				t.Error("the connection was closed, which is not ours")
			}
		}
	})
}
