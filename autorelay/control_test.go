package autorelay

import (
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
)

func TestBan(t *testing.T) {
	t.Run("held", func(t *testing.T) {
		simulate(t, func(t *testing.T, w *world) {
			r := w.relay()
			n := w.node(full())
			n.add(r)
			n.settled(r)
			if !n.SetWish(r.ID(), Banned) {
				t.Fatal("SetWish: got false, want true")
			}
			n.within(2*coalesce, "address gone", func() bool { return !n.advertised() })
			n.within(time.Second, "slot free", func() bool { return r.slots.Load() == 0 })
			if got := n.seen(Lost, r.ID()); len(got) != 1 || got[0].Reason != ByUser {
				t.Errorf("lost events: got %+v, want one, %q", got, ByUser)
			}
			n.add(r)
			n.throughout(30*time.Minute, "nothing", func() bool { return n.held() == 0 && n.state(r.ID()).Wish == Banned })
			if got := r.asked.Load(); got != 1 {
				t.Errorf("RESERVE messages: got %d, want 1", got)
			}
			n.SetWish(r.ID(), NoWish)
			n.within(time.Second, "allowed again", func() bool { return n.through(r.ID()) })
		})
	})
	t.Run("unknown", func(t *testing.T) {
		simulate(t, func(t *testing.T, w *world) {
			r := w.relay()
			n := w.node(full())
			if !n.SetWish(r.ID(), Banned) {
				t.Error("SetWish to ban somebody unknown: got false, want true")
			}
			for _, wish := range []Wish{Pinned, Preferred, NoWish} {
				if n.SetWish(randomID(t), wish) {
					t.Errorf("SetWish(%q) of somebody unknown: got true, want false", wish)
				}
			}
			n.add(r)
			time.Sleep(time.Hour)
			if got := r.asked.Load(); got != 0 {
				t.Errorf("RESERVE messages to a banned relay: got %d, want none", got)
			}
		})
	})
	t.Run("while asked", func(t *testing.T) {
		simulate(t, func(t *testing.T, w *world) {
			r := w.relay()
			n := w.node(full())
			n.add(r)
			time.Sleep(100 * time.Millisecond)
			if s := n.state(r.ID()); s.State != Reserving {
				t.Fatalf("after 100 ms: got %+v, want it being asked", s)
			}
			n.SetWish(r.ID(), Banned)
			n.throughout(time.Minute, "nothing held", func() bool { return n.held() == 0 && !n.advertised() })
			if got := r.slots.Load(); got != 0 {
				t.Errorf("slots at the relay: got %d, want it free", got)
			}
		})
	})
	t.Run("while measured", func(t *testing.T) {
		simulate(t, func(t *testing.T, w *world) {
			far, near := w.relay(), w.relay()
			w.away.Store(far.box.IP(), 100*time.Millisecond)
			n := w.node(only())
			n.add(far)
			n.within(2*time.Second, "the far one", n.advertised)
			n.add(near)
			n.within(time.Minute, "measured", func() bool { return n.state(near.ID()).State == Probing })
			n.SetWish(near.ID(), Banned)
			n.throughout(10*time.Minute, "the far one", func() bool { return n.through(far.ID()) })
			if got := near.asked.Load(); got != 0 {
				t.Errorf("RESERVE messages to the banned one: got %d, want none", got)
			}
		})
	})
}

// TestPin: a pinned relay is held besides what is wanted, and advertised; when
// it is not pinned any more, as many as wanted are held.
func TestPin(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		relays := w.relays(4)
		cfg := full()
		cfg.ProbeInterval = 10 * time.Second
		n := w.node(cfg)
		n.add(relays[:3]...)
		n.complete(3, 2)
		pinned := relays[3]
		if n.SetWish(pinned.ID(), Pinned) {
			t.Error("SetWish of a relay that was not added: got true, want false")
		}
		n.add(pinned)
		time.Sleep(time.Second)
		if !n.SetWish(pinned.ID(), Pinned) {
			t.Fatal("SetWish: got false, want true")
		}
		n.within(time.Second, "held and advertised", func() bool { return n.held() == 4 && n.through(pinned.ID()) })
		n.throughout(20*time.Minute, "held and advertised", func() bool {
			return n.held() == 4 && n.through(pinned.ID()) && len(n.shown()) == 2
		})
		// It restarts while the others serve us.
		pinned.Close()
		time.Sleep(10 * time.Second)
		pinned.start(w)
		n.within(20*time.Second, "back", func() bool { return n.held() == 4 && n.through(pinned.ID()) })
		n.SetWish(pinned.ID(), NoWish)
		n.within(time.Second, "as many as wanted", func() bool { return n.held() == 3 && len(n.current()) == 2 })
		n.throughout(20*time.Minute, "as many as wanted", func() bool { return n.held() == 3 && len(n.current()) == 2 })
		n.neverWithout(2)
	})
}

// TestPrefer: the next look is at the preferred relay, although it was looked
// at a moment ago, and it need not be nearer.
func TestPrefer(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		relays := w.relays(8)
		cfg := only()
		cfg.ProbeInterval = time.Minute
		n := w.node(cfg)
		n.add(relays[0])
		n.settled(relays[0])
		n.add(relays[1:]...)
		liked := relays[5]
		n.throughout(2*time.Hour, "the first", func() bool { return n.through(relays[0].ID()) })
		if n.state(liked.ID()).RTT == 0 {
			t.Fatal("not measured in two hours")
		}
		n.SetWish(liked.ID(), Preferred)
		n.within(2*time.Second, "the preferred one", func() bool { return n.through(liked.ID()) && n.held() == 1 })
		n.neverWithout(1)
		n.throughout(time.Hour, "the preferred one", func() bool { return n.through(liked.ID()) })
	})
}

// TestRemoveWhileAsked: the answer to the call under way is not taken.
func TestRemoveWhileAsked(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		r := w.relay()
		n := w.node(full())
		n.add(r)
		time.Sleep(100 * time.Millisecond)
		if !n.Remove(r.ID()) {
			t.Error("Remove: got false, want true")
		}
		if n.Remove(r.ID()) || n.SetWish(r.ID(), Pinned) {
			t.Error("Remove or SetWish of a relay that was removed: got true, want false")
		}
		n.throughout(time.Minute, "nothing", func() bool { return len(n.Status().Relays) == 0 && !n.advertised() })
		if got := r.slots.Load(); got != 0 {
			t.Errorf("slots at the relay: got %d, want it free", got)
		}
		n.add(r)
		n.within(time.Second, "found again", func() bool { return n.through(r.ID()) })
	})
}

// TestRemoveAndFindAgainWhileAsked: then the answer counts.
func TestRemoveAndFindAgainWhileAsked(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		r := w.relay()
		n := w.node(full())
		n.add(r)
		time.Sleep(100 * time.Millisecond)
		n.Remove(r.ID())
		n.add(r)
		n.within(time.Second, "held", func() bool { return n.through(r.ID()) })
		if got := r.asked.Load(); got != 1 {
			t.Errorf("RESERVE messages: got %d, want 1", got)
		}
	})
}

// TestRemoveDuringRefresh: nor does the refresh bring it back.
func TestRemoveDuringRefresh(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		r := &hop{Host: w.host(w.net.Host("relay"), nil)}
		r.SetStreamHandler(proto.ProtoIDv2Hop, func(s network.Stream) {
			if r.asked.Load() > 0 {
				time.Sleep(500 * time.Millisecond)
			}
			r.answer(s, in(time.Minute))
		})
		n := w.node(full())
		n.Add(Candidate{AddrInfo: *host.InfoFromHost(r), Source: "test"})
		n.within(time.Second, "reserved", n.advertised)
		n.within(40*time.Second, "refreshing", func() bool { return r.busyWith(n.host) })
		if !n.Remove(r.ID()) {
			t.Error("Remove: got false, want true")
		}
		n.within(2*coalesce, "address gone", func() bool { return !n.advertised() })
		n.throughout(10*time.Minute, "nothing", func() bool { return len(n.Status().Relays) == 0 && !n.advertised() })
	})
}

// busyWith reports whether a call of the host is under way.
func (h *hop) busyWith(other host.Host) bool {
	for _, c := range h.Network().ConnsToPeer(other.ID()) {
		for _, s := range c.GetStreams() {
			if s.Protocol() == proto.ProtoIDv2Hop {
				return true
			}
		}
	}
	return false
}

// TestCommandsAtOnce: they all return, before and after the end of Run.
func TestCommandsAtOnce(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		relays := w.relays(3)
		n := w.node(full())
		n.add(relays...)
		var users sync.WaitGroup
		for i := range 300 {
			users.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				n.SetWish(relays[i%3].ID(), []Wish{Pinned, Banned, Preferred, NoWish}[i%4])
				if i%10 == 0 {
					n.Remove(relays[i/10%3].ID())
					n.add(relays[i/10%3])
				}
			})
		}
		users.Wait()
		for _, r := range relays {
			n.add(r)
			time.Sleep(time.Millisecond)
			n.SetWish(r.ID(), NoWish)
		}
		n.complete(3, 2)
		for i := range 300 {
			users.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				n.SetWish(relays[i%3].ID(), NoWish)
			})
		}
		time.Sleep(100 * time.Millisecond)
		n.stop()
		users.Wait()
		if n.SetWish(relays[0].ID(), NoWish) || n.Remove(relays[0].ID()) {
			t.Error("SetWish or Remove after Run has ended: got true, want false")
		}
		for range 2 * maxCommands { // nobody takes these in
			n.Load(relays[0].ID(), 1, true)
			n.Draining(relays[0].ID(), 0, nil)
		}
	})
}
