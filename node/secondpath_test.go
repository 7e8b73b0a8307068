package node

import (
	"errors"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	circuitv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"

	"github.com/causeway-p2p/causeway/service"
	"github.com/causeway-p2p/causeway/testnet"
)

// TestReachAgain: a relay dies without a word under a circuit that stands.
func TestReachAgain(t *testing.T) {
	for _, how := range []string{"dial", "ping"} {
		t.Run(how, func(t *testing.T) {
			simulateAt(t, oneWay, func(t *testing.T, w *world) {
				w.bootstrap()
				w.relays(2)
				a := w.behind("A", testnet.PortRestricted(), Config{NoHolePunching: true})
				await(t, a, "two circuit addresses", func(e AddrsChanged) bool { return e.Circuits == 2 })
				w.echo(a)
				c := w.behind("C", testnet.Symmetric(), Config{NoHolePunching: true, Relays: -1})
				time.Sleep(20 * time.Second)
				dead := callEcho(t, c, a.ID(), 1000).Relay
				w.boxes[dead].Kill()
				begun := time.Now()
				var path Path
				if how == "dial" {
					path = callEcho(t, c, a.ID(), 10)
				} else {
					pong, err := c.Ping(timeout(t), a.ID())
					if err != nil {
						t.Fatal(err)
					}
					path = pong.Path
				}
				took := time.Since(begun)
				t.Logf("%s after %v", path, took)
				if took > 1500*time.Millisecond || path.Relay == dead || !path.Relayed() {
					t.Errorf("reached again %s after %v, want by another relay than %s in at most 1.5 s", path, took, ShortID(dead))
				}
				begun = time.Now()
				if again := callEcho(t, c, a.ID(), 10); again.Relay != path.Relay {
					t.Errorf("the next dial: got %s, want %s still", again, path)
				}
				if took := time.Since(begun); took > 250*time.Millisecond {
					t.Errorf("the next dial took %v, want two round trips", took)
				}
				time.Sleep(openTimeout)
				if left := len(c.Host().Network().ConnsToPeer(a.ID())); left != 1 {
					t.Errorf("connections later: got %d, want 1, without the dead one", left)
				}
			})
		})
	}
}

// TestSlowPathIsKept: what is slow is not dead.
func TestSlowPathIsKept(t *testing.T) {
	simulateAt(t, 300*time.Millisecond, func(t *testing.T, w *world) { // two satellites: 1.2 s to the peer and back
		_, a, c := w.behindOneRelay()
		c.Host().Peerstore().AddAddrs(a.ID(), a.Host().Addrs(), time.Hour)
		if err := c.Connect(timeout(t), a.ID()); err != nil {
			t.Fatal(err)
		}
		conn := c.Host().Network().ConnsToPeer(a.ID())[0]
		for range 3 {
			if _, err := c.Ping(timeout(t), a.ID()); err != nil {
				t.Errorf("ping: %v", err)
			}
		}
		if conn.IsClosed() {
			t.Error("the slow connection was given up")
		}
	})
}

// TestBriefSilence: a path that is silent for a moment keeps what runs over it.
func TestBriefSilence(t *testing.T) {
	simulateAt(t, oneWay, func(t *testing.T, w *world) {
		w.bootstrap()
		w.relays(2)
		a := w.behind("A", testnet.PortRestricted(), Config{NoHolePunching: true})
		await(t, a, "two circuit addresses", func(e AddrsChanged) bool { return e.Circuits == 2 })
		w.echo(a)
		c := w.behind("C", testnet.Symmetric(), Config{NoHolePunching: true, Relays: -1})
		time.Sleep(20 * time.Second)
		before, err := c.Dial(timeout(t), a.ID(), "echo")
		if err != nil {
			t.Fatal(err)
		}
		defer before.Close()
		relay := w.boxes[PathOf(before.Conn()).Relay]
		w.net.Cut(w.boxes[c.ID()], relay)
		time.AfterFunc(800*time.Millisecond, func() { w.net.Mend(w.boxes[c.ID()], relay) })
		begun := time.Now()
		callEcho(t, c, a.ID(), 1000)
		t.Logf("dialled in spite of it after %v", time.Since(begun))
		time.Sleep(2 * openTimeout)
		if err := exchange(before, 1000); err != nil {
			t.Errorf("the stream from before: %v", err)
		}
	})
}

// TestNothingSpoken: a stock peer behind a relay that does not answer pings.
func TestNothingSpoken(t *testing.T) {
	simulateAt(t, oneWay, func(t *testing.T, w *world) {
		r, _, c := w.behindOneRelay()
		r.Host().RemoveStreamHandler(ping.ID)
		k, err := NewIdentity()
		if err != nil {
			t.Fatal(err)
		}
		box := w.net.NAT("nat stock", testnet.PortRestricted()).Host("stock")
		h, err := libp2p.New(libp2p.Identity(k), box.Transport(), libp2p.ListenAddrs(box.ListenAddr(4001)),
			libp2p.DisableMetrics(), libp2p.ResourceManager(&network.NullResourceManager{}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.Close() })
		at := *host.InfoFromHost(r.Host())
		if err := h.Connect(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		if _, err := circuitv2.Reserve(t.Context(), h, at); err != nil {
			t.Fatal(err)
		}
		c.Host().Peerstore().AddAddr(h.ID(), circuitAt(r.Host()), time.Hour)
		if err := c.Host().Connect(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		var refused *service.RefusedError
		if _, err := c.Dial(timeout(t), h.ID(), "echo"); !errors.As(err, &refused) || refused.Reason != service.NotSpoken {
			t.Errorf("dial a service of a stock peer: got %v, want %q", err, service.NotSpoken)
		}
		if took := time.Since(begun); took > 500*time.Millisecond {
			t.Errorf("the refusal took %v, want at most 0.5 s", took)
		}
		time.Sleep(2 * staleAfter)
		if got := c.Host().Network().Connectedness(r.ID()); got != network.Connected {
			t.Errorf("a relay that does not speak ping: got %v, want it connected still", got)
		}
		if closeStale(t.Context(), c.Host(), r.ID()); c.Host().Network().Connectedness(r.ID()) != network.Connected {
			t.Error("a relay that does not speak ping was found stale")
		}
	})
}
