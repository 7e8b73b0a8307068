package relay

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"

	"github.com/causeway-p2p/causeway/testnet"
)

// statuses counts the answers to a message by all hosts.
func (s *siege) statuses(t *testing.T, hosts []host.Host, data []byte) map[pbv2.Status]int {
	t.Helper()
	got := make(map[pbv2.Status]int)
	for _, h := range hosts {
		got[s.status(t, h, data)]++
	}
	return got
}

// TestFloodFromOneAddress: many identities behind one NAT get what one address
// gets, and the others their places.
func TestFloodFromOneAddress(t *testing.T) {
	besiege(t, Limits{ReservationsPerIP: 8, RequestsPerIP: 120}, func(t *testing.T, s *siege) {
		office := s.net.NAT("office", testnet.Symmetric())
		var hosts []host.Host
		for i := range 40 {
			hosts = append(hosts, s.stranger(t, office.Host(fmt.Sprint("desk ", i))))
		}
		msg := delimited(t, askReservation)
		got := s.statuses(t, hosts, msg)
		if got[pbv2.Status_OK] != 8 || got[pbv2.Status_RESERVATION_REFUSED] != len(hosts)-8 {
			t.Errorf("%d identities at one address: %v, want 8 served and the others refused", len(hosts), got)
		}
		// Asking on does not help: most of it ends in a refusal that costs
		// nothing.
		began, often, all := time.Now(), 0, 0
		for range 40 {
			often += s.statuses(t, hosts, msg)[pbv2.Status_RESOURCE_LIMIT_EXCEEDED]
			all += len(hosts)
		}
		if heard, most := all-often, 121+int(120*time.Since(began).Minutes()); heard > most {
			t.Errorf("%d of %d requests were heard in %v, want at most %d", heard, all, time.Since(began), most)
		}
		elsewhere := s.stranger(t, s.net.Host("elsewhere"))
		if got := s.status(t, elsewhere, msg); got != pbv2.Status_OK {
			t.Errorf("somebody elsewhere: %v", got)
		}
		leave(append(hosts, elsewhere)...)
	})
}

// TestFloodFromMany: who has a place keeps it.
func TestFloodFromMany(t *testing.T) {
	besiege(t, Limits{Reservations: 20}, func(t *testing.T, s *siege) {
		hosts := s.strangers(t, 60)
		msg := delimited(t, askReservation)
		for range 10 {
			got := s.statuses(t, hosts, msg)
			if got[pbv2.Status_OK] != 19 || s.Status().Reservations != 20 {
				t.Fatalf("%v with %d reservations, want 19 served beside the honest one", got, s.Status().Reservations)
			}
		}
		leave(hosts...)
	})
}

// TestReconnecting a thousand times never takes two places.
func TestReconnecting(t *testing.T) {
	besiege(t, Limits{RequestsPerPeer: Unlimited, RequestsPerIP: Unlimited}, func(t *testing.T, s *siege) {
		h := start(t, s.net.Host("restless"))
		msg := delimited(t, askReservation)
		for i := range scaled(1000) {
			connect(t, h, s.host)
			if got := s.status(t, h, msg); got != pbv2.Status_OK {
				t.Fatalf("round %d: %v", i, got)
			}
			if n := s.Status().Reservations; n != 2 {
				t.Fatalf("round %d: %d reservations, want that of the honest pair and one", i, n)
			}
			h.Network().ClosePeer(s.host.ID())
		}
		leave(h)
	})
}

// TestSeveralConnections: one peer, asking on all of them at once and from
// several addresses, has one place, until its last connection is gone.
func TestSeveralConnections(t *testing.T) {
	besiege(t, Limits{}, func(t *testing.T, s *siege) {
		var hosts []host.Host
		for i := range 5 {
			h := start(t, s.net.Host(fmt.Sprint("place ", i)), libp2p.Identity(wireKey()))
			connect(t, h, s.host)
			hosts = append(hosts, h)
		}
		msg := delimited(t, askReservation)
		for range 10 {
			var all sync.WaitGroup
			for _, h := range hosts {
				all.Go(func() {
					if got := s.status(t, h, msg); got != pbv2.Status_OK {
						t.Errorf("reserve: %v", got)
					}
				})
			}
			all.Wait()
			if n := s.Status().Reservations; n != 2 {
				t.Fatalf("%d reservations, want that of the honest pair and one", n)
			}
		}
		for i, h := range hosts {
			h.Close()
			time.Sleep(time.Second)
			want := int64(2)
			if i == len(hosts)-1 {
				want = 1
			}
			if n := s.Status().Reservations; n != want {
				t.Errorf("%d reservations after %d of %d connections have ended, want %d", n, i+1, len(hosts), want)
			}
		}
	})
}

// TestBackBeforeMissed: a peer that comes back while it is found to be gone keeps
// what it is told that it has.
func TestBackBeforeMissed(t *testing.T) {
	gather(t, Limits{}, swallow, func(t *testing.T, c *crowd) {
		p := named("restless")
		c.reserve(t, p)
		time.Sleep(time.Second)
		conn := &wireConn{peer: p}
		c.wire.net.gone.Store(p, true)
		c.wire.net.seen = func() {
			c.wire.net.gone.Delete(p)
			time.Sleep(time.Microsecond)
			c.reserve(t, p)
		}
		c.disconnected(c.wire.net, conn)
		if !c.table.has(p, time.Now()) {
			t.Error("it was told that it has a reservation, and has none")
		}
		// Whoever does not come back has none any more.
		time.Sleep(time.Second)
		c.wire.net.seen = nil
		c.wire.net.gone.Store(p, true)
		c.disconnected(c.wire.net, conn)
		if c.table.has(p, time.Now()) {
			t.Error("it is gone, and has a reservation")
		}
	})
}

// TestSlowValidator: what the operator decides while the validator thinks counts
// as well.
func TestSlowValidator(t *testing.T) {
	for name, decide := range map[string]struct {
		do   func(c *crowd, p peer.ID)
		want pbv2.Status
	}{
		"nothing": {func(*crowd, peer.ID) {}, pbv2.Status_OK},
		"a ban":   {func(c *crowd, p peer.ID) { c.Ban(p, time.Hour) }, pbv2.Status_PERMISSION_DENIED},
		"a drain": {func(c *crowd, _ peer.ID) { c.DrainFor(0, nil) }, pbv2.Status_PERMISSION_DENIED},
	} {
		for what, msg := range map[string]*pbv2.HopMessage{"reserve": askReservation, "connect": connectTo(named("honest"))} {
			gather(t, Limits{}, swallow, func(t *testing.T, c *crowd) {
				c.cfg.Access.Validator = func(context.Context, Question) Answer {
					time.Sleep(10 * time.Second)
					return Answer{Allow: true}
				}
				p := named("stranger")
				time.AfterFunc(time.Second, func() { decide.do(c, p) })
				s, got := c.send(t, p, msg)
				if s.Reset(); got != decide.want {
					t.Errorf("%s, and meanwhile %s: answered %v, want %v", what, name, got, decide.want)
				}
			})
		}
	}
}

// TestRefreshStorm: refreshing is bounded too, and what was promised stands.
func TestRefreshStorm(t *testing.T) {
	besiege(t, Limits{RequestsPerPeer: 30}, func(t *testing.T, s *siege) {
		hosts := s.strangers(t, 4)
		msg := delimited(t, askReservation)
		got := make(map[pbv2.Status]int)
		for range 200 {
			for status, n := range s.statuses(t, hosts, msg) {
				got[status] += n
			}
		}
		// 200 rounds of some 160 ms each are half a minute.
		if ok := got[pbv2.Status_OK]; ok < 30*len(hosts) || ok > 2*30*len(hosts) || s.Status().Reservations != int64(1+len(hosts)) {
			t.Errorf("%v and %d reservations, want a minute's allowance or two", got, s.Status().Reservations)
		}
		leave(hosts...)
	})
}

// jump is a time as the clock shows it after it was set, by d, between now and
// then: its monotonic reading, by which durations are measured, is as it was.
// The layout is that of package time (Go 1.26, time/time.go, Time).
func jump(t *testing.T, at time.Time, d time.Duration) time.Time {
	t.Helper()
	out := at
	*(*uint64)(unsafe.Pointer(&out)) += uint64(d/time.Second) << 30
	if out.Sub(at) != 0 || out.Unix()-at.Unix() != int64(d/time.Second) {
		t.Skipf("package time has another layout than expected: %v became %v", at, out)
	}
	return out
}

// TestClockJumps: what the relay owes ends by the clock that does not jump.
func TestClockJumps(t *testing.T) {
	pol := newPolicy(Limits{ReservationTTL: time.Hour})
	var peers []peer.ID
	for i := range 20 {
		peers = append(peers, peer.ID(fmt.Sprint("peer ", i)))
	}
	for _, by := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		tab := newTable()
		began := time.Now()
		for _, p := range peers {
			if _, _, why := tab.reserve(p, origin{}, pol.anonymous, pol, began); why != "" {
				t.Fatal(why)
			}
		}
		soon, late := jump(t, began.Add(time.Minute), by), jump(t, began.Add(time.Hour+wheelSlot), by)
		if gone := tab.sweep(soon); len(gone) > 0 || !tab.has(peers[0], soon) {
			t.Errorf("the clock jumped by %v: %d of %d reservations ended after a minute", by, len(gone), len(peers))
		}
		expires, fresh, _ := tab.reserve(peers[0], origin{}, pol.anonymous, pol, soon)
		if fresh || expires.Sub(began) != time.Hour+time.Minute {
			t.Errorf("the clock jumped by %v: a refresh after a minute is new: %v, and ends after %v", by, fresh, expires.Sub(began))
		}
		gone := tab.sweep(late)
		if len(gone) != len(peers)-1 || slices.Contains(gone, peers[0]) {
			t.Errorf("the clock jumped by %v: %d of %d reservations ended in their time, want all but the refreshed one", by, len(gone), len(peers))
		}
		if err := tab.check(); err != nil {
			t.Error(err)
		}

		rates := newRates[int]()
		for range 60 {
			rates.take(1, 60, began)
		}
		if rates.take(1, 60, jump(t, began, by)) || !rates.take(1, 60, jump(t, began.Add(time.Minute), by)) {
			t.Errorf("the clock jumped by %v: rates follow it", by)
		}
		b := bans{until: make(map[peer.ID]time.Time)}
		b.set(peers[0], began.Add(time.Hour), began)
		b.set(peers[1], began.Add(forGood), began)
		if !b.has(peers[0], soon) || b.has(peers[0], late) || !b.has(peers[1], late) {
			t.Errorf("the clock jumped by %v: bans follow it", by)
		}
	}
}
