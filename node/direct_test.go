package node

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/direct"
	"github.com/causeway-p2p/causeway/reachability"
	"github.com/causeway-p2p/causeway/testnet"
)

// natKind is a column and a row of the matrix.
type natKind struct {
	name   string
	behind func(w *world, name string) *testnet.Host
}

func box(cfg testnet.NATConfig) func(*world, string) *testnet.Host {
	return func(w *world, name string) *testnet.Host { return w.net.NAT("nat "+name, cfg).Host(name) }
}

var natKinds = []natKind{
	{"full cone", box(testnet.FullCone())},
	{"address-restricted", box(testnet.AddressRestricted())},
	{"port-restricted", box(testnet.PortRestricted())},
	{"CGNAT", func(w *world, name string) *testnet.Host {
		return w.net.NAT("carrier "+name, testnet.PortRestricted()).NAT("nat "+name, testnet.PortRestricted()).Host(name)
	}},
	{"symmetric", box(testnet.Symmetric())},
}

// TestDirectPaths: every pair of NATs through which a path exists, and how long
// it takes to find it; and that a pair without one stays on the relay.
func TestDirectPaths(t *testing.T) {
	for _, row := range natKinds {
		for _, column := range natKinds {
			if testing.Short() && row.name != "symmetric" && column.name != "symmetric" {
				continue
			}
			t.Run(row.name+" from "+column.name, func(t *testing.T) {
				simulate(t, func(t *testing.T, w *world) {
					w.bootstrap()
					w.relays(2)
					b := w.withSockets(row.behind(w, "b"))
					a := w.withSockets(column.behind(w, "a"))
					for _, n := range []*Node{a, b} {
						await(t, n, "a verdict", func(e ReachabilityChanged) bool { return e.Verdict.Reachability != reachability.Unknown })
						await(t, n, "a circuit address", func(e AddrsChanged) bool { return e.Circuits > 0 })
					}
					knowsCircuit(t, w.first, b.ID())
					time.Sleep(5 * time.Second)
					ends := w.connectRelayed(a, b.ID())
					e := next(t, b.History(timeout(t)), "the attempt to end", func(e DirectAttempt) bool { return e.Peer == a.ID() })
					hopeless := row.name == "symmetric" && column.name == "symmetric"
					if e.Outcome.Direct() == hopeless {
						t.Errorf("%s (%s): got %s, want direct %t", e, e.Why, e.Outcome, !hopeless)
					}
					limit := time.Second
					if e.Outcome == direct.Guessed {
						limit = 5 * time.Second
					}
					if !hopeless && e.Took > limit {
						t.Errorf("%s: want at most %v", e, limit)
					}
					t.Logf("%s (ours %s, theirs %s); relayed %s", e, e.Ours, e.Theirs, ends)
				})
			})
		}
	}
}

// withSockets starts a node that may guess ports.
func (w *world) withSockets(box *testnet.Host) *Node {
	w.Helper()
	return w.on(box, Config{Sockets: box.Sockets(4001), Relays: 1})
}

// connectRelayed opens a relayed connection and tells its path.
func (w *world) connectRelayed(from *Node, to peer.ID) Path {
	w.Helper()
	if err := from.Connect(timeout(w.T), to); err != nil {
		w.Fatal(err)
	}
	conns := from.Host().Network().ConnsToPeer(to)
	i := slices.IndexFunc(conns, func(c network.Conn) bool { return PathOf(c).Relayed() })
	if i < 0 {
		return Path{Addr: fmt.Sprint(conns)}
	}
	return PathOf(conns[i])
}

// TestSameLAN: two peers behind one NAT find each other there, whether or not
// it leads back in what goes to its own address.
func TestSameLAN(t *testing.T) {
	for _, hairpin := range []bool{false, true} {
		t.Run(fmt.Sprintf("hairpin %t", hairpin), func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				w.bootstrap()
				w.relays(2)
				cfg := testnet.PortRestricted()
				cfg.Hairpin = hairpin
				home := w.net.NAT("home", cfg)
				a, b := w.withSockets(home.Host("a")), w.withSockets(home.Host("b"))
				for _, n := range []*Node{a, b} {
					await(t, n, "a verdict", func(e ReachabilityChanged) bool { return e.Verdict.Reachability == reachability.Private })
					await(t, n, "a circuit address", func(e AddrsChanged) bool { return e.Circuits > 0 })
				}
				knowsCircuit(t, w.first, b.ID())
				w.connectRelayed(a, b.ID())
				e := next(t, b.History(timeout(t)), "the attempt to end", func(e DirectAttempt) bool { return e.Peer == a.ID() })
				if !e.Outcome.Direct() || e.Took > time.Second {
					t.Errorf("%s: want a direct path within 1 s", e)
				}
				t.Log(e)
			})
		})
	}
}
