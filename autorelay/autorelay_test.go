package autorelay

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
)

func TestFirstCircuitAddress(t *testing.T) {
	for _, count := range []int{1, 2, 3, 8} {
		t.Run(fmt.Sprintf("%d candidates", count), func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				relays := w.relays(count)
				n := w.node(Config{})
				n.add(relays...)
				n.within(time.Second, "first circuit address", n.advertised)
				want := min(count, 2)
				n.within(time.Second, "all reservations", func() bool { return n.held() == want })
				n.throughout(30*time.Second, "never more reservations than wanted, all advertised", func() bool {
					return n.held() == want
				})
				if got := len(n.current()); got != want {
					t.Errorf("circuit addresses: got %v, want %d", n.current(), want)
				}
				asked := 0
				for _, r := range relays {
					asked += int(r.asked.Load())
				}
				// The first four are asked at once, whatever they answer.
				if limit := min(count, 4); asked > limit {
					t.Errorf("RESERVE messages with %d candidates: got %d, want at most %d", count, asked, limit)
				}
			})
		})
	}
}

// TestCandidateAfterALongWait: the loop has gone to sleep when the first
// candidate comes.
func TestCandidateAfterALongWait(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		r := w.relay()
		n := w.node(Config{})
		time.Sleep(10 * time.Minute)
		if s := n.Status(); !s.Wanted || s.Without.IsZero() || len(s.Relays) != 0 || len(s.Addrs) != 0 {
			t.Errorf("status without candidates: got %+v, want wanted, and since when without", s)
		}
		n.add(r)
		n.within(time.Second, "first circuit address", n.advertised)
	})
}

func TestAsksInParallel(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		dead, r := w.relays(3), w.relay()
		n := w.node(Config{})
		for _, d := range dead {
			d.box.Kill()
		}
		n.add(append(dead, r)...)
		n.within(time.Second, "first circuit address beside three dead candidates", n.advertised)
	})
}

func TestOneBurstIsOneChange(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		relays := w.relays(2)
		n := w.node(Config{})
		n.add(relays...)
		n.within(2*time.Second, "both advertised", func() bool { return len(n.current()) == 2 })
		time.Sleep(time.Minute)
		n.mu.Lock()
		defer n.mu.Unlock()
		if len(n.addrs) != 1 {
			t.Errorf("two reservations in one burst: got %d calls of OnAddrs (%v), want 1", len(n.addrs), n.addrs)
		}
		if want := []bool{true, false}; !slices.Equal(n.needs, want) {
			t.Errorf("calls of OnNeed: got %v, want %v", n.needs, want)
		}
	})
}

func TestRelayVanishes(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		relays := w.relays(3)
		n := w.node(Config{})
		n.add(relays[:2]...)
		n.settled(relays[:2]...)
		n.add(relays[2])
		dead := relays[0]
		dead.box.Kill()
		killed := time.Now()
		const limit = 3100 * time.Millisecond
		n.within(limit, "stale address gone and another advertised", func() bool {
			if len(n.current()) == 0 {
				t.Error("without a circuit address although relays live")
			}
			return !n.through(dead.ID()) && n.through(relays[2].ID())
		})
		lost := n.seen(Lost, dead.ID())
		if len(lost) != 1 || lost[0].Reason != ProbesMissed {
			t.Errorf("lost events: got %+v, want one, %q", lost, ProbesMissed)
		}
		replaced := n.seen(Replaced, "")
		if len(replaced) != 1 || replaced[0].Old != dead.ID() || replaced[0].Relay != relays[2].ID() ||
			replaced[0].Took <= 0 || replaced[0].Took > time.Second || replaced[0].Reason != ProbesMissed {
			t.Errorf("replaced events: got %+v, want one from %s to %s within 1 s", replaced, dead.ID(), relays[2].ID())
		}
		n.within(limit-time.Since(killed)+time.Second, "connection closed", func() bool {
			return len(n.host.Network().ConnsToPeer(dead.ID())) == 0
		})
	})
}

func TestRelayClosesTheConnection(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		relays := w.relays(3)
		n := w.node(Config{})
		n.add(relays[:2]...)
		n.settled(relays[:2]...)
		n.add(relays[2])
		relays[0].deny.Store(true)
		relays[0].Network().ClosePeer(n.host.ID())
		n.within(oneWay+2*coalesce, "stale address gone", func() bool { return !n.through(relays[0].ID()) })
		n.within(time.Second, "another advertised", func() bool { return n.through(relays[2].ID()) })
		if lost := n.seen(Lost, relays[0].ID()); len(lost) != 1 || lost[0].Reason != ConnectionLost {
			t.Errorf("lost events: got %+v, want one, %q", lost, ConnectionLost)
		}
	})
}

func TestRelayClosesTheConnectionAndTakesUsBack(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		r := w.relay()
		n := w.node(Config{})
		n.add(r)
		n.settled(r)
		time.Sleep(10 * time.Minute)
		r.Network().ClosePeer(n.host.ID())
		n.within(time.Second, "lost", func() bool { return len(n.seen(Lost, r.ID())) == 1 })
		n.within(time.Second, "the only relay again", func() bool { return n.through(r.ID()) && n.held() == 1 })
		if got := n.seen(Replaced, ""); len(got) != 0 {
			t.Errorf("replaced events: got %+v, want none: it is the same relay", got)
		}
	})
}

func TestHopWithdrawn(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		relays := w.relays(3)
		n := w.node(Config{})
		n.add(relays[:2]...)
		n.settled(relays[:2]...)
		n.add(relays[2])
		time.Sleep(5 * time.Minute)
		relays[0].service.Close()
		n.within(time.Second, "stale address gone and another advertised", func() bool {
			return !n.through(relays[0].ID()) && n.through(relays[2].ID())
		})
		if lost := n.seen(Lost, relays[0].ID()); len(lost) != 1 || lost[0].Reason != HopWithdrawn {
			t.Errorf("lost events: got %+v, want one, %q", lost, HopWithdrawn)
		}
		// When it serves again and is needed, it is used at once.
		relays[1].service.Close()
		relays[2].service.Close()
		n.within(time.Second, "nothing advertised", func() bool { return !n.advertised() })
		time.Sleep(time.Minute)
		relays[0].serve(w)
		n.within(time.Second, "the first relay again", func() bool { return n.through(relays[0].ID()) })
	})
}

func TestRelayGainsAnAddress(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		r := w.relay()
		n := w.node(Config{})
		n.add(r)
		n.settled(r)
		time.Sleep(time.Minute)
		gained := r.box.ListenAddr(4002)
		if err := r.Network().Listen(gained); err != nil {
			t.Fatal(err)
		}
		want := gained.String() + "/p2p/" + r.ID().String() + "/p2p-circuit"
		n.within(time.Second, "circuit address through the new address", func() bool {
			return slices.ContainsFunc(n.current(), func(a ma.Multiaddr) bool { return a.String() == want })
		})
		if got := len(n.current()); got != 2 {
			t.Errorf("circuit addresses: got %v, want 2", n.current())
		}
	})
}

func TestRefreshBeforeExpiry(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		rc := relayv2.DefaultResources()
		rc.ReservationTTL = 2 * time.Minute
		r := w.relay(relayv2.WithResources(rc))
		n := w.node(Config{ProbeInterval: 10 * time.Second})
		n.add(r)
		n.settled(r)
		n.throughout(15*time.Minute, "advertised, with a reservation that has not expired", func() bool {
			return n.through(r.ID()) && n.state(r.ID()).Expires.After(time.Now())
		})
		// At 50 to 60 % of 2 minutes, that is every 60 to 72 s.
		if got := r.asked.Load(); got < 12 || got > 16 {
			t.Errorf("RESERVE messages in 15 minutes: got %d, want 12 to 16", got)
		}
		if got := len(n.seen(Lost, "")); got != 0 {
			t.Errorf("lost events: got %d, want none", got)
		}
	})
}

func TestRefusedRefreshIsReplaced(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		rc := relayv2.DefaultResources()
		rc.ReservationTTL = 2 * time.Minute
		relays := []*stock{w.relay(relayv2.WithResources(rc)), w.relay(), w.relay()}
		n := w.node(Config{ProbeInterval: 10 * time.Second})
		n.add(relays[:2]...)
		n.settled(relays[:2]...)
		n.add(relays[2])
		relays[0].deny.Store(true)
		n.within(2*time.Minute, "replaced", func() bool { return len(n.seen(Replaced, "")) == 1 })
		n.settled(relays[1:]...)
		if n.through(relays[0].ID()) {
			t.Errorf("still advertised through the relay that refused: %v", n.current())
		}
		if e := n.seen(Replaced, "")[0]; e.Old != relays[0].ID() || e.Relay != relays[2].ID() || e.Reason != Forbidden {
			t.Errorf("replaced event: got %+v, want %s after %s, %q", e, relays[2].ID(), relays[0].ID(), Forbidden)
		}
	})
}

func TestAllRelaysDieAndOneComesBack(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		relays := w.relays(4)
		n := w.node(Config{})
		n.add(relays...)
		n.within(time.Second, "two advertised", func() bool { return len(n.current()) == 2 })
		for _, r := range relays {
			r.box.Kill()
		}
		n.within(3100*time.Millisecond, "nothing advertised", func() bool { return !n.advertised() })
		if s := n.Status(); s.Without.IsZero() {
			t.Errorf("status: got Without zero, want since when there is no circuit address")
		}
		time.Sleep(10 * time.Minute)
		relays[3].box.Revive()
		// The pause between two attempts is a minute at most, an attempt ten
		// seconds.
		n.within(80*time.Second, "the one that came back", func() bool { return n.through(relays[3].ID()) })
		if s := n.Status(); !s.Without.IsZero() {
			t.Errorf("status: got Without %v, want zero", s.Without)
		}
	})
}

// TestAliveComesBackAtOnce: discovery sees the relay before the pause is over.
func TestAliveComesBackAtOnce(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		r := w.relay()
		n := w.node(Config{})
		n.add(r)
		n.settled(r)
		r.box.Kill()
		n.within(3100*time.Millisecond, "nothing advertised", func() bool { return !n.advertised() })
		time.Sleep(10 * time.Minute)
		n.within(time.Minute, "between two attempts", func() bool { return n.state(r.ID()).State == BackingOff })
		time.Sleep(settle)
		r.box.Revive()
		n.Add(Candidate{AddrInfo: peer.AddrInfo{ID: r.ID(), Addrs: r.Addrs()}, Source: "connected", Alive: true})
		n.within(time.Second, "again", func() bool { return n.through(r.ID()) })
	})
}

func TestWant(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		relays := w.relays(2)
		n := w.node(Config{})
		n.add(relays...)
		n.settled(relays...)
		n.Want(false)
		n.within(2*coalesce, "nothing advertised", func() bool { return !n.advertised() })
		s := n.Status()
		if s.Wanted || n.held() != 0 || !s.Without.IsZero() {
			t.Errorf("status when not wanted: got %+v, want nothing held and no complaint", s)
		}
		for _, e := range n.seen(Lost, "") {
			if e.Reason != NotNeeded {
				t.Errorf("lost event: got %q, want %q", e.Reason, NotNeeded)
			}
		}
		n.throughout(2*time.Hour, "nothing advertised or held", func() bool { return !n.advertised() && n.held() == 0 })
		if got := relays[0].asked.Load() + relays[1].asked.Load(); got != 2 {
			t.Errorf("RESERVE messages until now: got %d, want 2: nothing is refreshed that is not wanted", got)
		}
		n.mu.Lock()
		if n := len(n.needs); n > 2 {
			t.Errorf("calls of OnNeed: got %d, want 2: more are not needed", n)
		}
		n.mu.Unlock()
		n.Want(true)
		n.within(time.Second, "advertised again", func() bool { return len(n.current()) == 2 })
	})
}

// TestWantFlips: what comes in for a reservation that is no longer wanted.
func TestWantFlips(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		relays := w.relays(3)
		n := w.node(Config{})
		n.add(relays...)
		for i := range 40 {
			time.Sleep(time.Duration(i*7) * time.Millisecond)
			n.Want(i%2 == 0)
		}
		n.Want(false)
		n.within(time.Second, "nothing advertised", func() bool { return !n.advertised() })
		n.throughout(time.Minute, "nothing held", func() bool { return n.held() == 0 && !n.advertised() })
		n.Want(true)
		n.within(time.Second, "advertised", func() bool { return len(n.current()) == 2 })
	})
}

// TestFullRelays: who says no is asked again, but seldom, and not in step.
func TestFullRelays(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		full := relayv2.DefaultResources()
		full.MaxReservations = 0
		var refusing []*stock
		for range 3 {
			refusing = append(refusing, w.relay(relayv2.WithResources(full)))
		}
		good := w.relay()
		n := w.node(Config{ProbeInterval: time.Minute})
		n.add(append(refusing, good)...)
		n.within(time.Second, "the good one", func() bool { return n.through(good.ID()) })
		time.Sleep(time.Hour)
		var retries []time.Time
		for _, r := range refusing {
			// Now and then, because slots are scarce.
			if got := r.asked.Load(); got < 2 || got > 30 {
				t.Errorf("RESERVE messages to a full relay in an hour: got %d, want 2 to 30", got)
			}
			if s := n.state(r.ID()); s.State != BackingOff || s.Reason != Full || s.Detail == "" {
				t.Errorf("status of a full relay: got %+v, want backing off, full, and a detail", s)
			} else {
				retries = append(retries, s.Retry)
			}
			if got := n.seen(Failed, r.ID()); len(got) == 0 || got[0].Reason != Full {
				t.Errorf("failed events of a full relay: got %+v, want %q", got, Full)
			}
		}
		if len(retries) == 3 && (retries[0].Equal(retries[1]) || retries[1].Equal(retries[2])) {
			t.Errorf("next attempts: got %v, want no two at one moment", retries)
		}
		if got := good.asked.Load(); got > 3 {
			t.Errorf("RESERVE messages to the good relay: got %d, want at most 3", got)
		}
		if len(n.seen(Lost, "")) > 0 {
			t.Errorf("the good relay was lost:%s", n.story())
		}
	})
}

func TestStatus(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		rc := relayv2.DefaultResources()
		rc.Limit = &relayv2.RelayLimit{Duration: 7 * time.Minute, Data: 12345}
		r, dead := w.relay(relayv2.WithResources(rc)), w.relay()
		dead.box.Kill()
		n := w.node(Config{})
		n.add(r, dead)
		n.settled(r)
		time.Sleep(15 * time.Second)
		synctest.Wait()
		s := n.Status()
		if len(s.Relays) != 2 || s.Relays[0].ID != r.ID().String() {
			t.Fatalf("relays: got %+v, want the one we hold first", s.Relays)
		}
		got := s.Relays[0]
		if got.State != Reserved || !slices.Equal(got.Sources, []string{"test"}) || got.LimitBytes != 12345 || got.LimitSeconds != 420 ||
			got.RTT < 49*time.Millisecond || got.RTT > 60*time.Millisecond || time.Until(got.Expires) < 55*time.Minute || got.Reason != "" || !got.Retry.IsZero() {
			t.Errorf("the relay we hold: got %+v", got)
		}
		got = s.Relays[1]
		if got.State == Reserved || got.Reason != Unreachable || got.Detail == "" {
			t.Errorf("the dead relay: got %+v, want unreachable, with a detail", got)
		}
		if len(s.Addrs) != 1 || s.Addrs[0] != n.current()[0].String() {
			t.Errorf("addresses: got %v, want %v", s.Addrs, n.current())
		}
	})
}

func TestStopReleases(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		r := w.relay()
		n := w.node(Config{})
		n.add(r)
		n.settled(r)
		n.stop()
		if lost := n.seen(Lost, r.ID()); len(lost) != 1 || lost[0].Reason != NotNeeded {
			t.Errorf("lost events after Run ended: got %+v, want one, %q", lost, NotNeeded)
		}
		if n.host.ConnManager().IsProtected(r.ID(), "") {
			t.Error("the connection to the relay is still protected")
		}
	})
}

// TestNotCandidates: what could never be a relay is not even remembered.
func TestNotCandidates(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		n := w.node(Config{})
		other, third := w.relay(), w.relay()
		circuit := ma.StringCast(fmt.Sprintf("%s/p2p/%s/p2p-circuit", third.Addrs()[0], third.ID()))
		for name, info := range map[string]peer.AddrInfo{
			"ourselves":    {ID: n.host.ID(), Addrs: other.Addrs()},
			"no address":   {ID: other.ID()},
			"a circuit":    {ID: other.ID(), Addrs: []ma.Multiaddr{circuit}},
			"private only": {ID: other.ID(), Addrs: []ma.Multiaddr{ma.StringCast("/ip4/10.0.0.1/udp/4001/quic-v1")}},
		} {
			n.Add(Candidate{AddrInfo: info, Source: "test"})
			time.Sleep(time.Second)
			if got := n.Status().Relays; len(got) != 0 {
				t.Errorf("%s: got %+v, want it ignored", name, got)
			}
		}
	})
}

// TestManyCandidates: neither the queue nor the memory of relays grows.
func TestManyCandidates(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		good := w.relay()
		n := w.node(Config{})
		n.add(good)
		n.settled(good)
		nowhere := good.box.ListenAddr(9)
		for range 2 * maxKnown {
			n.Add(Candidate{AddrInfo: peer.AddrInfo{ID: randomID(t), Addrs: []ma.Multiaddr{nowhere}}, Source: "test"})
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		if got := len(n.Status().Relays); got > maxKnown {
			t.Errorf("relays remembered: got %d, want at most %d", got, maxKnown)
		}
		if !n.through(good.ID()) || len(n.seen(Lost, "")) > 0 {
			t.Errorf("the good relay was lost:%s", n.story())
		}
	})
}

// TestDeadCandidates: each takes 5 s to turn out dead, and they do not queue up.
func TestDeadCandidates(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		held, good := w.relay(), w.relay()
		n := w.node(Config{})
		n.add(held)
		n.settled(held)
		for range 12 {
			n.Add(Candidate{AddrInfo: peer.AddrInfo{ID: randomID(t), Addrs: []ma.Multiaddr{held.box.ListenAddr(9)}}, Source: "test"})
		}
		time.Sleep(time.Second)
		n.add(good)
		n.within(20*time.Second, "the good one behind a dozen dead ones", func() bool { return n.through(good.ID()) })
	})
}

// TestFreshCandidateDoesNotWait for calls to relays that failed before, however
// many of them are under way.
func TestFreshCandidateDoesNotWait(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		dead, good := w.relays(parallel+2), w.relay()
		n := w.node(Config{})
		for _, d := range dead {
			d.box.Kill()
		}
		n.add(dead...)
		n.within(2*time.Minute, "every place taken by relays that failed before", func() bool {
			again := 0
			for _, d := range dead {
				if n.state(d.ID()).State == Reserving && len(n.seen(Failed, d.ID())) > 0 {
					again++
				}
			}
			return again == parallel
		})
		n.add(good)
		n.within(500*time.Millisecond, "first circuit address", n.advertised)
	})
}
