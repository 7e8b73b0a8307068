package node

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/notice"
	"github.com/causeway-p2p/causeway/relay"
	"github.com/causeway-p2p/causeway/testnet"
)

// TestCircuitEnded: an application learns why its bytes stop, at both ends.
func TestCircuitEnded(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.bootstrap()
		r := w.on(w.net.Host("relay"), Config{Server: true, Relay: relay.On, Relays: -1, RelayLimits: relay.Limits{CircuitBytes: 128 << 10}})
		a := w.behind("A", testnet.Symmetric(), Config{NoHolePunching: true})
		await(t, a, "A to advertise", func(e AddrsChanged) bool { return e.Circuits >= 1 })
		w.echo(a)
		c := w.behind("C", testnet.Symmetric(), Config{NoHolePunching: true})
		s, err := c.Dial(timeout(t), a.ID(), "echo")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		s.Write(make([]byte, 1<<20))
		for name, x := range map[string]struct {
			n    *Node
			peer peer.ID
		}{"C": {c, a.ID()}, "A": {a, c.ID()}} {
			e := await(t, x.n, name+" to hear why", func(e CircuitEnded) bool { return e.Peer == x.peer })
			if e.Relay != r.ID() || e.Reason != string(relay.Bytes) || e.Sent+e.Received < 128<<10 || !strings.Contains(e.String(), "carried what the relay allows") {
				t.Errorf("%s heard %+v: %s", name, e, e)
			}
		}
		// Nobody is believed about circuits that we do not have.
		synctest.Wait() // what else the end brings has happened
		before := len(c.events.history)
		c.relayNotice(a.ID(), notice.Notice{Ended: &notice.Ended{Circuits: []notice.Circuit{{Peer: r.ID(), Reason: "kicked"}}}})
		c.relayNotice(r.ID(), notice.Notice{Ended: &notice.Ended{Circuits: []notice.Circuit{{Peer: r.ID(), Reason: "kicked"}}}})
		synctest.Wait()
		if got := len(c.events.history); got != before {
			t.Errorf("%d events after tales, want none", got-before)
		}
	})
}

// TestCircuitEndedUnsaid: over a relay that tells no reasons, that is told at once;
// over one of ours it is waited for what it says.
func TestCircuitEndedUnsaid(t *testing.T) {
	for _, stock := range []bool{true, false} {
		t.Run(fmt.Sprintf("stock %t", stock), func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				w.bootstrap()
				var over host.Host
				if stock {
					over = w.stockRelay()
				} else {
					over = w.on(w.net.Host("relay"), Config{Server: true, Relay: relay.On, Relays: -1, RelayLimits: relay.Limits{CircuitBytes: 128 << 10}}).Host()
				}
				a := w.behind("A", testnet.Symmetric(), Config{NoHolePunching: true, StaticRelays: []peer.AddrInfo{*host.InfoFromHost(over)}})
				await(t, a, "A to advertise", func(e AddrsChanged) bool { return e.Circuits >= 1 })
				w.echo(a)
				c := w.behind("C", testnet.Symmetric(), Config{NoHolePunching: true})
				s, err := c.Dial(timeout(t), a.ID(), "echo")
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				time.Sleep(10 * time.Second) // identify has ended
				go io.Copy(io.Discard, s)
				if err := s.SetDeadline(time.Now().Add(patience)); err != nil {
					t.Fatal(err)
				}
				for err == nil {
					_, err = s.Write(make([]byte, 64<<10))
				}
				broke := time.Now()
				e := await(t, c, "C to hear of it", func(e CircuitEnded) bool { return e.Peer == a.ID() })
				if took := e.Time.Sub(broke); took > 500*time.Millisecond {
					t.Errorf("told %v after the stream broke, want at once", took)
				}
				time.Sleep(5 * time.Second)
				told := 0
				for ev := range c.History(closed(t)) {
					if e, is := ev.(CircuitEnded); is {
						told++
						if e.Relay != over.ID() || (e.Reason == "") != stock || strings.Contains(e.String(), "does not say why") != stock {
							t.Errorf("heard %+v: %s", e, e)
						}
					}
				}
				if told != 1 {
					t.Errorf("told %d times, want once", told)
				}
			})
		})
	}
}

// stockRelay starts go-libp2p's relay, with its own limits.
func (w *world) stockRelay() host.Host {
	w.Helper()
	box := w.net.Host("stock relay")
	h, err := libp2p.New(
		box.Transport(), libp2p.ListenAddrs(box.ListenAddr(4001)), libp2p.ForceReachabilityPublic(),
		libp2p.ResourceManager(&network.NullResourceManager{}), libp2p.DisableMetrics(), libp2p.EnableRelayService(),
	)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { h.Close() })
	return h
}

// TestCircuitEndedAfterUpgrade: it says so, since that is as it should be.
func TestCircuitEndedAfterUpgrade(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.bootstrap()
		w.on(w.net.Host("relay"), Config{Server: true, Relay: relay.On, Relays: -1})
		a := w.behind("A", testnet.PortRestricted(), Config{})
		await(t, a, "A to advertise", func(e AddrsChanged) bool { return e.Circuits >= 1 })
		c := w.behind("C", testnet.PortRestricted(), Config{})
		if err := c.Connect(timeout(t), a.ID()); err != nil {
			t.Fatal(err)
		}
		await(t, c, "C to get a direct path", func(e PathChanged) bool { return e.To.Direct() })
		for name, n := range map[string]*Node{"A": a, "C": c} {
			if e := await(t, n, name+" to hear of the circuit", func(CircuitEnded) bool { return true }); !e.Upgraded {
				t.Errorf("%s heard %+v, want it to be an upgrade", name, e)
			}
			synctest.Wait()
			paths := n.Status().Paths
			if len(paths) != 1 || !paths[0].Direct || paths[0].DirectSince.IsZero() || !paths[0].Path.Direct() {
				t.Errorf("status of %s: got %+v, want the direct path", name, paths)
			}
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if got := c.Status().Paths; len(got) != 0 {
			t.Errorf("status after the peer has gone: got %+v, want no paths", got)
		}
	})
}

func TestRecentIsBounded(t *testing.T) {
	r := recent{end: make(map[hop]circuitsOf)}
	for i := range 3 * maxRecent {
		h := hop{relay: "relay", peer: peer.ID(rune(i))}
		r.note(h, 1, false, time.Now())
		if _, known := r.lookup(h); !known || len(r.end) > maxRecent {
			t.Fatalf("circuit %d: known %v of %d", i, known, len(r.end))
		}
	}
	old := hop{"relay", "old"}
	r.note(old, -1, false, time.Now().Add(-2*endedFor))
	if _, known := r.lookup(old); known {
		t.Error("a circuit that ended long ago counts still")
	}
}
