package autorelay

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// full is what a user gets by default: two relays advertised and one warm.
func full() Config { return Config{Relays: 2, Standby: 1} }

// complete waits until the node holds so many and advertises some of them.
func (n *node) complete(held, shown int) {
	n.w.Helper()
	n.within(2*time.Second, "all reservations", func() bool { return n.held() == held && len(n.shown()) == shown && len(n.current()) == shown })
}

// shown lists the relays that are advertised.
func (n *node) shown() (list []string) {
	for _, r := range n.Status().Relays {
		if r.Advertised {
			list = append(list, r.ID)
		}
	}
	return list
}

// sort tells the relays that are advertised, held warm, and neither.
func (n *node) sort(relays []*stock) (shown, warm, others []*stock) {
	for _, r := range relays {
		switch s := n.state(r.ID()); {
		case s.Advertised:
			shown = append(shown, r)
		case s.State == Reserved:
			warm = append(warm, r)
		default:
			others = append(others, r)
		}
	}
	return shown, warm, others
}

func TestStandbyIsNotAdvertised(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		relays := w.relays(4)
		n := w.node(full())
		n.add(relays...)
		n.complete(3, 2)
		_, warm, _ := n.sort(relays)
		n.throughout(time.Minute, "two advertised and one warm", func() bool {
			return n.held() == 3 && len(n.current()) == 2 && !n.through(warm[0].ID())
		})
		for _, set := range n.calls() {
			if len(set) > 2 {
				t.Errorf("a call of OnAddrs: got %v, want the addresses of two relays at most", set)
			}
		}
	})
}

// TestStandbyTakesOver: when an advertised relay goes, in whichever way, the
// standby's address is there in the same moment, and another standby soon.
func TestStandbyTakesOver(t *testing.T) {
	for name, c := range map[string]struct {
		end    func(w *world, n *node, r *stock)
		reason Reason
		within time.Duration
	}{
		"vanishes":               {func(_ *world, _ *node, r *stock) { r.box.Kill() }, ProbesMissed, 3 * time.Second},
		"closes the connection":  {func(_ *world, n *node, r *stock) { r.deny.Store(true); r.Network().ClosePeer(n.host.ID()) }, ConnectionLost, oneWay + coalesce},
		"withdraws hop":          {func(_ *world, _ *node, r *stock) { r.service.Close() }, HopWithdrawn, 500 * time.Millisecond},
		"stops":                  {func(_ *world, _ *node, r *stock) { r.Close() }, ConnectionLost, 500 * time.Millisecond},
		"says it leaves, leaves": {func(_ *world, n *node, r *stock) { n.Draining(r.ID(), 0, nil); time.Sleep(time.Second); r.Close() }, Drained, 100 * time.Millisecond},
	} {
		for _, relays := range []int{1, 2} {
			t.Run(name+map[int]string{1: " (the only one)", 2: " (one of two)"}[relays], func(t *testing.T) {
				simulate(t, func(t *testing.T, w *world) {
					known := w.relays(relays + 2)
					n := w.node(Config{Relays: relays, Standby: 1})
					n.add(known...)
					n.complete(relays+1, relays)
					time.Sleep(5 * time.Minute)
					shown, warm, others := n.sort(known)
					begun := time.Now()
					c.end(w, n, shown[0])
					n.within(c.within, "the standby instead", func() bool { return n.through(warm[0].ID()) && !n.through(shown[0].ID()) })
					n.within(time.Second+c.within, "another standby", func() bool { return n.held() == relays+1 && n.state(others[0].ID()).State == Reserved })
					n.neverWithout(relays)
					n.within(c.within, "lost", func() bool { return len(n.seen(Lost, shown[0].ID())) > 0 })
					lost := n.seen(Lost, shown[0].ID())
					if len(lost) != 1 || lost[0].Reason != c.reason {
						t.Errorf("lost events: got %+v, want one, %q", lost, c.reason)
					}
					got := n.seen(Replaced, warm[0].ID())
					if len(got) != 1 || got[0].Old != shown[0].ID() || got[0].Took != 0 || got[0].Reason != c.reason {
						t.Errorf("replaced events %v after the end: got %+v, want one, in 0 s, %q", time.Since(begun), got, c.reason)
					}
				})
			})
		}
	}
}

// TestAllHeldVanish: a relay is sought when the last probe of all was missed,
// and not only when they are given up.
func TestAllHeldVanish(t *testing.T) {
	for _, cfg := range []Config{{Relays: 1, Standby: -1}, {Relays: 2, Standby: -1}, full()} {
		held := cfg.Relays + max(cfg.Standby, 0)
		t.Run(map[int]string{1: "one", 2: "two", 3: "two and a standby"}[held], func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				relays := w.relays(held + 1)
				n := w.node(cfg)
				n.add(relays[:held]...)
				n.complete(held, cfg.Relays)
				n.add(relays[held])
				time.Sleep(15 * time.Second)
				for _, r := range relays[:held] {
					r.box.Kill()
				}
				n.within(3*time.Second, "only the one that lives", func() bool {
					return n.through(relays[held].ID()) && len(n.current()) == 1
				})
				n.neverWithout(1)
			})
		})
	}
}

// TestFalseAlarm: what was taken in fear of losing everything is given back,
// and addresses stay.
func TestFalseAlarm(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		relays := w.relays(5)
		n := w.node(full())
		n.add(relays[:3]...)
		n.complete(3, 2)
		n.add(relays[3:]...)
		time.Sleep(15 * time.Second)
		// Long enough for one probe to be missed by all, not for two.
		for _, r := range relays[:3] {
			r.box.Kill()
		}
		n.within(3*time.Second, "one more", func() bool { return n.held() > 3 || len(n.seen(Lost, "")) > 0 })
		for _, r := range relays[:3] {
			r.box.Revive()
		}
		n.within(5*time.Second, "as many as wanted", func() bool { return n.held() == 3 && len(n.current()) == 2 })
		n.throughout(10*time.Minute, "as many as wanted", func() bool { return n.held() <= 3 && len(n.current()) == 2 })
		n.neverWithout(2)
	})
}

// TestNeverWithoutAnAddress breaks relays for a quarter of an hour, always sparing one.
func TestNeverWithoutAnAddress(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		relays := w.relays(5)
		n := w.node(full())
		n.add(relays...)
		n.complete(3, 2)
		for round := range 25 {
			spared := round % len(relays)
			for i, r := range relays {
				if i == spared {
					continue
				}
				switch (round + i) % 4 {
				case 0:
					r.box.Kill()
				case 1:
					r.Network().ClosePeer(n.host.ID())
				case 2:
					n.Draining(r.ID(), time.Duration(i)*time.Second, nil)
				}
				if (round+i)%3 == 0 {
					time.Sleep(time.Duration(round) * 17 * time.Millisecond)
				}
			}
			time.Sleep(10 * time.Second)
			for _, r := range relays {
				r.box.Revive()
			}
			// Before the spared one changes, it must have been found.
			n.within(2*time.Minute, "the spared one and what came back", func() bool { return n.held() >= 2 })
			time.Sleep(20 * time.Second)
		}
		n.neverWithout(1)
	})
}

// TestStandbyWhenTheUserTakesOneAway: the user's word makes no gap either.
func TestStandbyWhenTheUserTakesOneAway(t *testing.T) {
	for name, f := range map[string]func(*node, peer.ID) bool{
		"banned":  func(n *node, id peer.ID) bool { return n.SetWish(id, Banned) },
		"removed": func(n *node, id peer.ID) bool { return n.Remove(id) },
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				relays := w.relays(4)
				n := w.node(full())
				n.add(relays...)
				n.complete(3, 2)
				shown, warm, _ := n.sort(relays)
				if !f(n, shown[0].ID()) {
					t.Fatal("got false, want true for a relay that is held")
				}
				n.within(2*coalesce, "the standby instead", func() bool { return n.through(warm[0].ID()) && !n.through(shown[0].ID()) })
				n.within(time.Second, "another standby", func() bool { return n.held() == 3 })
				n.neverWithout(2)
				n.throughout(5*time.Minute, "not the one taken away", func() bool { return !n.through(shown[0].ID()) })
			})
		})
	}
}
