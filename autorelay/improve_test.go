package autorelay

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
)

// visits counts connections that the relay gets from now on.
func (s *stock) visits() *atomic.Int64 {
	var n atomic.Int64
	s.Network().Notify(&network.NotifyBundle{ConnectedF: func(network.Network, network.Conn) { n.Add(1) }})
	return &n
}

// TestImprove: a much nearer relay is taken, and the old address is there until
// the new one is.
func TestImprove(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		far, near := w.relay(), w.relay()
		w.away.Store(far.box.IP(), 100*time.Millisecond)
		cfg := only()
		cfg.ProbeInterval = 10 * time.Second
		n := w.node(cfg)
		n.add(far)
		n.within(2*time.Second, "the far one", n.advertised)
		n.add(near)
		n.throughout(improveFirst-2*time.Second, "the far one", func() bool { return n.through(far.ID()) })
		n.within(5*time.Second, "the near one instead", func() bool { return n.through(near.ID()) && !n.through(far.ID()) })
		n.neverWithout(1)
		if got := len(n.calls()); got != 2 {
			t.Errorf("calls of OnAddrs: got %v, want 2", n.calls())
		}
		if got := n.seen(Replaced, near.ID()); len(got) != 1 || got[0].Old != far.ID() || got[0].Reason != Better {
			t.Errorf("replaced events: got %+v, want one, %q", got, Better)
		}
		if got := n.seen(Lost, far.ID()); len(got) != 1 || got[0].Reason != Better {
			t.Errorf("lost events: got %+v, want one, %q", got, Better)
		}
		n.within(time.Second, "the slot at the old one free", func() bool { return far.slots.Load() == 0 })
		n.throughout(time.Hour, "the near one", func() bool { return n.through(near.ID()) && n.held() == 1 })
	})
}

// TestNotWorthAChange: what is a little nearer is visited now and then, and left.
func TestNotWorthAChange(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		held, other := w.relay(), w.relay()
		w.away.Store(held.box.IP(), 50*time.Millisecond)
		w.away.Store(other.box.IP(), 45*time.Millisecond)
		cfg := only()
		cfg.ProbeInterval = time.Minute
		n := w.node(cfg)
		n.add(held)
		n.within(2*time.Second, "the first", n.advertised)
		visits := other.visits()
		n.add(other)
		n.throughout(8*time.Hour, "the first", func() bool { return n.through(held.ID()) })
		if got := len(n.calls()); got != 1 {
			t.Errorf("calls of OnAddrs in 8 hours: got %v, want 1", n.calls())
		}
		// Every two hours, and up to 15 minutes later.
		if got := visits.Load(); got < 3 || got > 5 {
			t.Errorf("visits to the other in 8 hours: got %d, want about 4", got)
		}
		if got := other.asked.Load(); got != 0 {
			t.Errorf("RESERVE messages to the other: got %d, want none", got)
		}
		if len(n.host.Network().ConnsToPeer(other.ID())) > 0 {
			t.Error("still connected to a relay that was only measured")
		}
		if got := n.state(other.ID()); got.State != Known || got.RTT < 89*time.Millisecond || got.RTT > 95*time.Millisecond {
			t.Errorf("the other: got %+v, want a candidate, 90 ms away", got)
		}
	})
}

// TestADayWithoutAChange: addresses are stable when nothing happens.
func TestADayWithoutAChange(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		relays := w.relays(6)
		cfg := Config{Relays: 1, Standby: 1}
		cfg.ProbeInterval = time.Hour
		n := w.node(cfg)
		n.add(relays...)
		n.complete(2, 1)
		time.Sleep(24 * time.Hour)
		if got := len(n.calls()); got != 1 {
			t.Errorf("calls of OnAddrs in a day: got %v, want 1", n.calls())
		}
		if got := n.seen(Lost, ""); len(got) != 0 || n.held() != 2 {
			t.Errorf("lost events in a day: got %+v, want none", got)
		}
	})
}

// TestMeasureLeavesOthersConnections: we do not close what we did not open.
func TestMeasureLeavesOthersConnections(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		relays := w.relays(2)
		n := w.node(only())
		n.add(relays[0])
		n.settled(relays[0])
		if err := n.host.Connect(t.Context(), *host.InfoFromHost(relays[1])); err != nil {
			t.Fatal(err)
		}
		n.add(relays[1])
		n.within(time.Minute, "measured", func() bool { return n.state(relays[1].ID()).RTT > 0 })
		n.throughout(time.Minute, "still connected", func() bool {
			return n.host.Network().Connectedness(relays[1].ID()) == network.Connected
		})
	})
}

// TestMeasureFails: a candidate that cannot be reached costs nothing but a call.
func TestMeasureFails(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		held, dead := w.relay(), w.relay()
		n := w.node(only())
		n.add(held)
		n.settled(held)
		dead.box.Kill()
		n.add(dead)
		n.within(time.Minute, "being measured", func() bool { return n.state(dead.ID()).State == Probing })
		n.within(measureTimeout+time.Second, "given up", func() bool {
			s := n.state(dead.ID())
			return s.State == BackingOff && s.Reason == Unreachable
		})
		if n.held() != 1 || len(n.calls()) != 1 {
			t.Errorf("got %d held and calls %v, want nothing changed", n.held(), n.calls())
		}
	})
}

// TestLostWhileMeasuring: the measurement holds up nothing.
func TestLostWhileMeasuring(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		held, dead, good := w.relay(), w.relay(), w.relay()
		n := w.node(only())
		n.add(held)
		n.settled(held)
		dead.box.Kill()
		n.add(dead)
		n.within(time.Minute, "being measured", func() bool { return n.state(dead.ID()).State == Probing })
		n.add(good)
		held.deny.Store(true)
		held.Network().ClosePeer(n.host.ID())
		n.within(500*time.Millisecond, "the good one", func() bool { return n.through(good.ID()) })
	})
}
