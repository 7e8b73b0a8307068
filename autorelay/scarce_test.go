package autorelay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
)

// TestScarcity: two dozen who want three slots each, of 32. The relays ask some
// to make room whenever they refuse one, as package relay does. (Stock ones do
// not, and who holds three does not learn that others have none.)
func TestScarcity(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		const nodes, relays, each = 24, 4, 8
		rc := relayv2.DefaultResources()
		rc.MaxReservations = each
		var known []*stock
		for range relays {
			known = append(known, w.relay(relayv2.WithResources(rc)))
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var all []*node
		for range nodes {
			cfg := full()
			cfg.ProbeInterval = 5 * time.Minute
			n := w.node(cfg)
			all = append(all, n)
		}
		var asking sync.WaitGroup
		asking.Go(func() { askForRoom(ctx, known, all) })
		t.Cleanup(asking.Wait) // after ctx has ended
		count := func(some []*node) (with [4]int) {
			for _, n := range some {
				with[min(n.held(), 3)]++
			}
			return with
		}
		for i, n := range all {
			n.add(known...)
			time.Sleep(200 * time.Millisecond)
			if got := count(all[:i]); got[0] > 0 && i < 8 {
				t.Errorf("after %d came: %d without", i, got[0])
			}
		}
		last := all[nodes-1]
		took := last.within(10*time.Second, "nobody without", func() bool { return count(all)[0] == 0 })
		t.Logf("after %v: with 0, 1, 2, 3 reservations: %v", took, count(all))
		last.throughout(15*time.Minute, "nobody without", func() bool { return count(all)[0] == 0 })
		t.Logf("after a while: with 0, 1, 2, 3 reservations: %v", count(all))
		for _, n := range all {
			if len(n.seen(ReservedOn, "")) > 10 {
				t.Errorf("a node made %d reservations in 15 minutes, want at most 10", len(n.seen(ReservedOn, "")))
			}
		}
		// Two thirds leave; then there is room for a second one and a standby.
		for _, n := range all[8:] {
			n.stop()
			n.host.Close()
		}
		rest := all[:8]
		rest[0].within(scarceFor*3/2+retryFullMax+time.Minute, "two and a standby for all", func() bool { return count(rest)[3] == len(rest) })
		for i, n := range rest {
			if len(n.shown()) != 2 {
				t.Errorf("node %d: got %v advertised, want two", i, n.shown())
			}
		}
	})
}

// askForRoom does what package relay does: at most once a second, and each peer
// at most every 30 s, eight are told that the relay is full.
func askForRoom(ctx context.Context, relays []*stock, nodes []*node) {
	refused := make(map[*stock]int64)
	told := make(map[string]time.Time)
	for ctx.Err() == nil {
		for _, r := range relays {
			now := r.refused.Load()
			if now == refused[r] {
				continue
			}
			refused[r] = now
			asked := 0
			for _, i := range rand.Perm(len(nodes)) {
				key := fmt.Sprint(r.ID(), i)
				if asked == 8 || nodes[i].state(r.ID()).State != Reserved || time.Since(told[key]) < 30*time.Second {
					continue
				}
				told[key] = time.Now()
				asked++
				nodes[i].Load(r.ID(), 1, true)
			}
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// TestOneFullRelayIsNotScarcity: it may refuse as often as it likes.
func TestOneFullRelayIsNotScarcity(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		rc := relayv2.DefaultResources()
		rc.MaxReservations = 0
		relays := append(w.relays(2), w.relay(relayv2.WithResources(rc)))
		cfg := full()
		cfg.ProbeInterval = time.Minute
		n := w.node(cfg)
		n.add(relays...)
		n.settled(relays[:2]...)
		n.throughout(time.Hour, "both that have room", func() bool { return n.held() == 2 && n.Status().Scarce.IsZero() })
		if got := relays[2].asked.Load(); got < 4 || got > 20 {
			t.Errorf("RESERVE messages to the full one in an hour: got %d, want 4 to 20", got)
		}
	})
}

// TestShed: when two relays are full, the best reservation is kept, and a
// pinned one in any case; after the scarcity the others come back.
func TestShed(t *testing.T) {
	for _, wish := range []Wish{NoWish, Pinned} {
		t.Run(string("wish "+wish), func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				relays, refusing := w.relays(2), w.relays(2)
				near, far := relays[0], relays[1]
				w.away.Store(near.box.IP(), 5*time.Millisecond)
				n := w.node(Config{Relays: 4, Standby: -1, ProbeInterval: 4 * time.Second})
				n.add(near, far)
				n.settled(near, far)
				if !n.SetWish(far.ID(), wish) {
					t.Fatal("SetWish: got false")
				}
				time.Sleep(5 * time.Second) // so that distances are known
				for _, r := range refusing {
					r.service.Close()
					none := relayv2.DefaultResources()
					none.MaxReservations = 0
					r.serve(w, relayv2.WithResources(none))
				}
				n.add(refusing...)
				keep, gone := near, far
				if wish == Pinned {
					keep, gone = far, near
				}
				n.within(5*time.Second, "one given back", func() bool { return n.held() == 1 && n.state(keep.ID()).State == Reserved })
				if got := n.seen(Lost, gone.ID()); len(got) != 1 || got[0].Reason != Shed {
					t.Errorf("lost events: got %+v, want one, %q", got, Shed)
				}
				n.within(2*coalesce, "its address gone", func() bool { return len(n.current()) == 1 && n.through(keep.ID()) })
				if s := n.Status(); s.Scarce.IsZero() {
					t.Errorf("status: got Scarce zero, want until when")
				}
				n.within(time.Second, "the slot at the relay free", func() bool { return gone.slots.Load() == 0 })
				n.neverWithout(1)
				n.idle()
				n.within(scarceFor*3/2+time.Minute, "both again", func() bool { return n.held() == 2 && len(n.current()) == 2 })
				// Nobody else wanted that slot.
				n.throughout(spareFor-time.Minute, "both", func() bool { return n.held() == 2 })
			})
		})
	}
}

// TestLoadFull: whoever has another reservation gives this one up, and leaves
// the slot to others.
func TestLoadFull(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		relays := w.relays(3)
		n := w.node(full())
		n.add(relays...)
		n.complete(3, 2)
		shown, _, _ := n.sort(relays)
		a, b := shown[0], shown[1]
		asked := a.asked.Load()
		n.Load(a.ID(), 1, true)
		n.within(time.Second, "the slot free", func() bool { return a.slots.Load() == 0 })
		if len(n.shown()) != 2 {
			t.Errorf("advertised: got %v, want the standby in its place", n.shown())
		}
		if s := n.state(a.ID()); s.State != BackingOff || s.Reason != Shed || time.Until(s.Retry) < retryFull/8 || s.Load != 1 {
			t.Errorf("the full relay: got %+v, want it left alone for a while", s)
		}
		time.Sleep(retryFull / 8)
		if got := a.asked.Load(); got != asked {
			t.Errorf("RESERVE messages to the relay that is full: got %d more, want none so soon", got-asked)
		}
		if !n.SetWish(b.ID(), Pinned) {
			t.Fatal("SetWish: got false")
		}
		n.Load(b.ID(), 1, true)
		n.Load(randomID(t), 1, true)
		time.Sleep(time.Second)
		if s := n.state(b.ID()); s.State != Reserved {
			t.Errorf("a pinned relay that is full: got %+v, want it kept", s)
		}
		n.neverWithout(2)
	})
}

// TestLoadFullOfTheOnlyOne: nobody is asked to go without.
func TestLoadFullOfTheOnlyOne(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		r := w.relay()
		n := w.node(full())
		n.add(r)
		n.settled(r)
		for range 100 {
			n.Load(r.ID(), 1, true)
			time.Sleep(time.Second)
		}
		if n.held() != 1 || len(n.seen(Lost, "")) > 0 || n.host.Network().Connectedness(r.ID()) != network.Connected {
			t.Errorf("the only relay is full: got it lost; events:%s", n.story())
		}
	})
}
