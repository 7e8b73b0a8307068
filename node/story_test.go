package node

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/reachability"
	"github.com/causeway-p2p/causeway/relay"
	"github.com/causeway-p2p/causeway/service"
	"github.com/causeway-p2p/causeway/testnet"
)

// TestStory: three peers behind NATs find relays, each other, and other ways
// when a relay dies.
func TestStory(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		boot := w.bootstrap()
		w.relays(3)
		if v := boot.Status().Reachability; v.Reachability != reachability.Public || !boot.Reachable() {
			t.Errorf("the bootstrap node: got %+v, want public", v)
		}

		begun := time.Now()
		a := w.behind("A", testnet.PortRestricted(), Config{})
		shown := await(t, a, "A to advertise a circuit address", func(e AddrsChanged) bool { return e.Circuits > 0 })
		if took := shown.When().Sub(begun); took > 2*time.Second {
			t.Errorf("A's first circuit address, through the rendezvous: got %v, want at most 2 s", took)
		} else {
			t.Logf("A's first circuit address after %v", took)
		}
		if err := a.WaitReachable(t.Context()); err != nil {
			t.Errorf("WaitReachable of A: %v", err)
		}
		await(t, a, "A's verdict", func(e ReachabilityChanged) bool { return e.Verdict.Reachability == reachability.Private })
		knowsCircuit(t, boot, a.ID())
		w.echo(a)

		b := w.behind("B", testnet.PortRestricted(), Config{})
		c := w.behind("C", testnet.Symmetric(), Config{})
		for name, n := range map[string]*Node{"B": b, "C": c} {
			await(t, n, name+"'s verdict", func(e ReachabilityChanged) bool { return e.Verdict.Reachability == reachability.Private })
			await(t, n, name+" to advertise two relays", func(e AddrsChanged) bool { return e.Circuits >= 2 })
			knowsCircuit(t, boot, n.ID())
		}
		for name, n := range map[string]*Node{"A": a, "B": b, "C": c} {
			s := n.Status()
			if !s.Reachable || s.Reachability.Reachability != reachability.Private || s.AutoRelay == nil || len(s.AutoRelay.Addrs) != 2 || s.Relay != nil {
				t.Errorf("status of %s: got %+v, want private, and reachable through two relays", name, s)
			}
			for _, addr := range s.Addrs {
				if !strings.Contains(addr, "p2p-circuit") && !strings.HasPrefix(addr, "/ip4/192.168.") {
					t.Errorf("%s advertises %s, where nobody can reach it", name, addr)
				}
			}
		}

		callEcho(t, b, a.ID(), 1<<20)
		up := await(t, b, "the direct path from B to A", func(e PathChanged) bool { return e.Peer == a.ID() && e.To.Direct() })
		t.Log(up)
		if path := callEcho(t, b, a.ID(), 1<<20); !path.Direct() {
			t.Errorf("B to A after the upgrade: got %s, want direct", path)
		}
		path := callEcho(t, c, a.ID(), 1<<20)
		if !path.Relayed() {
			t.Errorf("C to A: got %s, want a relay: its NAT is symmetric", path)
		}
		time.Sleep(30 * time.Second) // all attempts to punch are over
		if path = callEcho(t, c, a.ID(), 1000); !path.Relayed() {
			t.Errorf("C to A later: got %s, want a relay still", path)
		}

		// The relay in between loses its power.
		events := a.Events(timeout(t))
		w.boxes[path.Relay].Kill()
		killed := time.Now()
		lost := next(t, events, "A to lose the relay", func(e RelayLost) bool { return e.Relay == path.Relay })
		took := next(t, events, "another to take over", func(e RelayReplaced) bool { return e.Old == path.Relay })
		t.Logf("%s; %s; %v after the power went", lost, took, time.Since(killed))
		again := next(t, events, "A to advertise two again", func(e AddrsChanged) bool { return e.Circuits == 2 })
		if strings.Contains(strings.Join(again.Addrs, " "), path.Relay.String()) {
			t.Errorf("A still advertises the dead relay: %v", again.Addrs)
		}
		if took := time.Since(killed); took > 3500*time.Millisecond {
			t.Errorf("A re-advertised %v after its relay died, want about 3 s", took)
		}
		if now := callEcho(t, c, a.ID(), 1000); !now.Relayed() || now.Relay == path.Relay {
			t.Errorf("C to A: got %s, want another relay than the dead %s", now, ShortID(path.Relay))
		}
		if took := time.Since(killed); took > 10*time.Second {
			t.Errorf("C reached A again %v after the relay died, want at most 10 s", took)
		}
		callEcho(t, b, a.ID(), 1000)

		// What does not work says why.
		if _, err := b.Dial(t.Context(), b.ID(), "echo"); !errors.Is(err, ErrSelf) {
			t.Errorf("dial oneself: got %v, want %v", err, ErrSelf)
		}
		var refused *service.RefusedError
		if _, err := b.Dial(timeout(t), a.ID(), "nobody-listens"); !errors.As(err, &refused) || refused.Reason != service.NoSuchService {
			t.Errorf("dial a service that is not there: got %v, want a RefusedError, %q", err, service.NoSuchService)
		}
		short, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := b.Dial(short, decode(t, idA), "echo"); !errors.Is(err, ErrPeerNotFound) {
			t.Errorf("dial a peer that does not exist: got %v, want %v", err, ErrPeerNotFound)
		}
		if _, err := b.Dial(t.Context(), a.ID(), "no such\nname"); err == nil {
			t.Error("dial a name that is none: got no error")
		}
	})
}

func timeout(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// TestNoVerdictNoWait: there is nobody to judge us, and the relay is used.
func TestNoVerdictNoWait(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		// One node alone: it cannot be judged, so relay.Auto would not serve.
		r := w.on(w.net.Host("relay"), Config{Server: true, Relay: relay.On, Relays: -1})
		w.boot = []peer.AddrInfo{{ID: r.ID(), Addrs: r.Host().Addrs()}}
		a := w.behind("A", testnet.PortRestricted(), Config{})
		begun := time.Now()
		e := await(t, a, "a circuit address", func(e AddrsChanged) bool { return e.Circuits > 0 })
		if took := e.When().Sub(begun); took > time.Second {
			t.Errorf("first circuit address: got %v, want at most 1 s", took)
		}
		reserved := await(t, a, "the reservation", func(e RelayReserved) bool { return true })
		for _, ev := range collected(a) {
			if v, ok := ev.(ReachabilityChanged); ok && v.Verdict.Reachability != reachability.Unknown && v.When().Before(reserved.When()) {
				t.Errorf("the verdict (%s) came before the reservation: this shows nothing", v)
			}
		}
	})
}

// collected is the history of a node so far.
func collected(n *Node) (list []Event) {
	ctx, cancel := context.WithCancel(context.Background())
	ch := n.History(ctx)
	cancel()
	for e := range ch {
		list = append(list, e)
	}
	return list
}

// TestRelayBehindNAT: one that cannot be dialled does not serve, and says so.
func TestRelayBehindNAT(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.bootstrap()
		w.relays(2)
		n := w.behind("would-be", testnet.PortRestricted(), Config{Relay: relay.Auto})
		await(t, n, "the verdict", func(e ReachabilityChanged) bool { return e.Verdict.Reachability == reachability.Private })
		e := await(t, n, "the reason", func(e RelayService) bool { return strings.Contains(e.Because, "could not dial") })
		if e.Serving {
			t.Errorf("event: got %+v, want not serving", e)
		}
		s := n.Status().Relay
		if s == nil || s.Serving || s.Mode != relay.Auto || !strings.Contains(s.Because, "could not dial") {
			t.Errorf("status: got %+v, want not serving because servers could not dial it", s)
		}
	})
}

func TestWaitReachable(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		boot := w.bootstrap()
		alone := w.behind("alone", testnet.PortRestricted(), Config{})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		err := alone.WaitReachable(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "not reachable yet (") {
			t.Errorf("without any relay: got %v, want why not, and the deadline", err)
		}
		t.Log(err)
		if alone.Reachable() || alone.Status().Reachable {
			t.Error("without any relay: got reachable")
		}
		w.relays(2)
		if err := alone.WaitReachable(timeout(t)); err != nil {
			t.Errorf("with relays: got %v", err)
		}
		if err := boot.WaitReachable(timeout(t)); err != nil {
			t.Errorf("a public node: got %v", err)
		}
		// Close ends the wait.
		other := w.behind("other", testnet.PortRestricted(), Config{Relays: -1})
		done := make(chan error, 1)
		go func() { done <- other.WaitReachable(context.Background()) }()
		time.Sleep(time.Second)
		other.Close()
		if err := <-done; !errors.Is(err, ErrNotRunning) {
			t.Errorf("WaitReachable of a node that was closed: got %v, want %v", err, ErrNotRunning)
		}
	})
}
