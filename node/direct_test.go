package node

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

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
					if !ends.Relayed() && row.name == "full cone" {
						return // it is public, and was dialled
					}
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

// pair starts two peers behind NATs that know each other by a relay.
func (w *world) pair(a, b *testnet.Host) (caller, called *Node) {
	w.Helper()
	caller, called = w.withSockets(a), w.withSockets(b)
	for _, n := range []*Node{caller, called} {
		await(w.T, n, "a verdict", func(e ReachabilityChanged) bool { return e.Verdict.Reachability == reachability.Private })
		await(w.T, n, "a circuit address", func(e AddrsChanged) bool { return e.Circuits > 0 })
	}
	knowsCircuit(w.T, w.first, called.ID())
	return caller, called
}

// TestUpgradeBreaksNothing: a stream over the relay goes on over the relay,
// new ones take the direct path, and the circuit is let go when nothing runs
// over it any more.
func TestUpgradeBreaksNothing(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.bootstrap()
		w.relays(1)
		a, b := w.pair(
			w.net.NAT("nat a", testnet.PortRestricted()).Host("a"),
			w.net.NAT("nat b", testnet.PortRestricted()).Host("b"))
		w.echo(b)
		c, err := a.Dial(timeout(t), b.ID(), "echo")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if !PathOf(c.Conn()).Relayed() {
			t.Fatalf("the first stream is %s, want relayed", PathOf(c.Conn()))
		}
		await(t, a, "the upgrade", func(e PathChanged) bool { return e.Peer == b.ID() && e.To.Direct() })
		for range 6 {
			time.Sleep(10 * time.Second)
			if err := exchange(c, 1000); err != nil {
				t.Fatalf("the stream over the relay after the upgrade: %v", err)
			}
		}
		if path := callEcho(t, a, b.ID(), 1000); !path.Direct() {
			t.Errorf("a new stream is %s, want direct", path)
		}
		c.Close()
		time.Sleep(30 * time.Second)
		for _, conn := range a.Host().Network().ConnsToPeer(b.ID()) {
			if PathOf(conn).Relayed() {
				t.Errorf("a connection %s is left 30 s after its last stream", PathOf(conn))
			}
		}
		if n := len(a.Host().Network().ConnsToPeer(b.ID())); n != 1 {
			t.Errorf("%d connections are left, want the direct one", n)
		}
	})
}

// TestTriedAgain: what cannot be passed is tried again after 1, 5 and 15
// minutes, and at once when something has changed at either side.
func TestTriedAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("nearly an hour of a network at work")
	}
	simulate(t, func(t *testing.T, w *world) {
		w.bootstrap()
		w.relays(1)
		natA := w.net.NAT("nat a", testnet.Symmetric())
		a, b := w.pair(natA.Host("a"), w.net.NAT("nat b", testnet.Symmetric()).Host("b"))
		w.echo(b)
		c, err := a.Dial(timeout(t), b.ID(), "echo")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		begun := time.Now()
		attempts := func() (at []time.Duration) {
			for e := range b.History(closed(t)) {
				if e, ok := e.(DirectAttempt); ok {
					at = append(at, e.When().Sub(begun).Round(time.Second))
				}
			}
			return at
		}
		time.Sleep(50 * time.Minute)
		got := attempts()
		t.Logf("attempts after %v", got)
		if n := len(got); n < 4 || n > 6 {
			t.Errorf("attempts in 50 minutes: got %v, want one at once and after about 1, 5, 15 and 15 minutes", got)
		}
		if err := exchange(c, 1000); err != nil {
			t.Errorf("the stream meanwhile: %v", err)
		}
		paths := b.Status().Paths
		if len(paths) != 1 || paths[0].Why == "" || paths[0].Again.IsZero() {
			t.Errorf("status: got %+v, want why there is no direct path, and when it is tried again", paths)
		}
	})
}

// closed is a context that has ended: History then gives what there is.
func closed(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// TestHairpinFact: what netcheck says of it.
func TestHairpinFact(t *testing.T) {
	for _, want := range []reachability.Fact{reachability.Yes, reachability.No} {
		t.Run(string(want), func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				w.bootstrap()
				w.relays(3)
				cfg := testnet.FullCone()
				cfg.Hairpin = want == reachability.Yes
				a := w.withSockets(w.net.NAT("nat a", cfg).Host("a"))
				time.Sleep(30 * time.Second)
				if got := a.Status().Reachability.NAT; got.Hairpin != want {
					t.Errorf("hairpin: got %q, want %q; the NAT: %+v", got.Hairpin, want, got)
				}
			})
		})
	}
}

// TestBothCalled: two peers that call each other at the same moment end up with
// one direct connection.
func TestBothCalled(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.bootstrap()
		relay := w.relays(1)[0]
		a, b := w.pair(
			w.net.NAT("nat a", testnet.PortRestricted()).Host("a"),
			w.net.NAT("nat b", testnet.PortRestricted()).Host("b"))
		ctx := network.WithAllowLimitedConn(timeout(t), "test")
		call := func(from, to *Node) {
			info := peer.AddrInfo{ID: to.ID(), Addrs: []ma.Multiaddr{circuitThrough(relay, to.ID())}}
			if err := from.Host().Connect(ctx, info); err != nil {
				t.Error(err)
			}
		}
		go call(a, b)
		call(b, a)
		time.Sleep(time.Minute)
		for _, n := range []*Node{a, b} {
			other := a.ID()
			if n == a {
				other = b.ID()
			}
			conns := n.Host().Network().ConnsToPeer(other)
			if len(conns) != 1 || !PathOf(conns[0]).Direct() {
				t.Errorf("after a minute: %d connections, want one, and direct: %v", len(conns), conns)
			}
			attempts := 0
			for e := range n.History(closed(t)) {
				if _, ok := e.(DirectAttempt); ok {
					attempts++
				}
			}
			if attempts > 2 {
				t.Errorf("%d attempts for one connection", attempts)
			}
		}
	})
}

// TestWitness: one more connection to a peer is enough for being seen.
func TestWitness(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		first := w.bootstrap()
		info := w.boot[0]
		w.boot = nil
		a := w.withSockets(w.net.NAT("nat a", testnet.PortRestricted()).Host("a"))
		if err := a.upgrader.Dial(timeout(t), info.Addrs[0], info.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if u := a.reachability.Unobserved(); len(u) > 0 {
			t.Errorf("nobody sees us over %v", u)
		}
		if n := len(a.Host().Network().ConnsToPeer(first.ID())); n != 1 {
			t.Errorf("%d connections to the witness, want 1", n)
		}
	})
}

// TestCloseAtAnyMoment: a node that is closed while holes are punched and ports
// guessed is closed at once.
func TestCloseAtAnyMoment(t *testing.T) {
	step := 270 * time.Millisecond
	if testing.Short() {
		step *= 3
	}
	for _, cfg := range []testnet.NATConfig{testnet.PortRestricted(), testnet.Symmetric()} {
		for d := time.Duration(0); d < 3*time.Second; d += step {
			t.Run(fmt.Sprintf("%s mapping, after %v", cfg.Mapping, d), func(t *testing.T) {
				simulate(t, func(t *testing.T, w *world) {
					w.bootstrap()
					w.relays(1)
					a, b := w.pair(
						w.net.NAT("nat a", testnet.PortRestricted()).Host("a"),
						w.net.NAT("nat b", cfg).Host("b"))
					go a.Connect(timeout(t), b.ID())
					time.Sleep(d)
					for _, n := range []*Node{b, a} {
						begun := time.Now()
						if err := n.Close(); err != nil {
							t.Error(err)
						}
						if took := time.Since(begun); took > 500*time.Millisecond {
							t.Errorf("Close took %v", took)
						}
					}
				})
			})
		}
	}
}
