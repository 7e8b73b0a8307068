package relay

import (
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/notice"
	"github.com/causeway-p2p/causeway/testnet"
)

// heard is a notice at its time.
type heard struct {
	at time.Time
	by peer.ID
	notice.Notice
}

// ears keep what hosts are told.
type ears struct {
	mu  sync.Mutex // guards the field below
	all []heard
}

func (e *ears) on(t *testing.T, h host.Host, and ...func(notice.Notice)) host.Host {
	t.Helper()
	t.Cleanup(notice.Receive(h, func(_ peer.ID, n notice.Notice) {
		e.mu.Lock()
		e.all = append(e.all, heard{time.Now(), h.ID(), n})
		e.mu.Unlock()
		for _, f := range and {
			f(n)
		}
	}))
	return h
}

func (e *ears) list() []heard {
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.all)
}

func (e *ears) of(h host.Host) (out []heard) {
	for _, x := range e.list() {
		if x.by == h.ID() {
			out = append(out, x)
		}
	}
	return out
}

// mustReserve is for tests in which there is room.
func (s *running) mustReserve(t *testing.T, hosts ...host.Host) {
	t.Helper()
	for _, h := range hosts {
		if _, status := s.reserve(t, h); status != pbv2.Status_OK {
			t.Fatalf("reserve: %v", status)
		}
	}
}

// hang makes a host take notices and never read them.
func hang(h host.Host) host.Host {
	h.SetStreamHandler(notice.Protocol, func(network.Stream) {})
	return h
}

// TestDrainTellsThoseWhoHold a reservation, and nobody else.
func TestDrainTellsThoseWhoHold(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := run(t, start(t, n.Host("relay")), Config{Mode: On, Limits: Limits{ReservationTTL: 30 * time.Minute}})
		var e ears
		expired, left := e.on(t, start(t, n.Host("expired"))), e.on(t, start(t, n.Host("left")))
		r.mustReserve(t, expired, left)
		time.Sleep(20 * time.Minute)
		holds, alsoHolds, only := e.on(t, start(t, n.Host("holds"))), e.on(t, start(t, n.Host("also"))), e.on(t, start(t, n.Host("connected")))
		stock, caller := r.peers(t, n, "")
		r.mustReserve(t, holds, alsoHolds, alsoHolds)
		connect(t, only, r.host)
		left.Network().ClosePeer(r.host.ID())
		time.Sleep(15 * time.Minute) // the first reservation has run out, its connection stands
		connect(t, left, r.host)
		if err := r.dial(t, caller, stock); err != nil {
			t.Fatal(err)
		}
		if got := r.Status().Reservations; got != 3 {
			t.Fatalf("%d reservations, want 3", got)
		}

		sub, err := holds.EventBus().Subscribe(new(event.EvtPeerProtocolsUpdated))
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		sibling := peer.AddrInfo{ID: only.ID(), Addrs: []ma.Multiaddr{ma.StringCast("/ip4/8.8.8.8/udp/4001/quic-v1")}}
		began := time.Now()
		r.DrainFor(5*time.Minute, []peer.AddrInfo{sibling})
		if took := time.Since(began); took > 50*time.Millisecond {
			t.Errorf("draining took %v, want about a round trip", took)
		}
		ev := (<-sub.Out()).(event.EvtPeerProtocolsUpdated)
		if got := e.of(holds); !slices.Contains(ev.Removed, proto.ProtoIDv2Hop) || len(got) != 1 || time.Since(got[0].at) <= 0 {
			t.Errorf("heard %v before %v was withdrawn, want the notice first", got, ev.Removed)
		}
		r.DrainFor(0, nil) // only the first counts
		r.DrainFor(time.Hour, nil)
		time.Sleep(time.Minute)
		want := &notice.Draining{Within: 5 * time.Minute, Siblings: []peer.AddrInfo{sibling}}
		for _, h := range []host.Host{holds, alsoHolds} {
			if got := e.of(h); len(got) != 1 || !reflect.DeepEqual(got[0].Draining, want) {
				t.Errorf("heard %+v, want once %+v", got, want)
			}
		}
		if got := e.list(); len(got) != 2 {
			t.Errorf("%d notices, want 2: %v", len(got), got)
		}
		// Those who do not know of notices are as well off as before.
		if err := echoes(t, caller, stock, 1000); err != nil {
			t.Errorf("the circuit to a stock peer: %v", err)
		}
	})
}

// TestDrainTellsBothEnds of circuits, once each: who has opened one need not hold
// a reservation, and may have opened several.
func TestDrainTellsBothEnds(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := run(t, start(t, n.Host("relay")), Config{Mode: On})
		var e ears
		dst, src := r.peers(t, n, "")
		other, done := r.peers(t, n, "other")
		for _, h := range []host.Host{dst, src, other, done} {
			e.on(t, h)
		}
		r.mustReserve(t, dst, other)
		for _, c := range [][2]host.Host{{src, dst}, {src, other}, {done, dst}} {
			if err := r.dial(t, c[0], c[1]); err != nil {
				t.Fatal(err)
			}
		}
		done.Network().ClosePeer(dst.ID()) // it has no circuit any more
		time.Sleep(time.Second)
		r.DrainFor(5*time.Minute, nil)
		time.Sleep(time.Minute)
		for name, x := range map[string]struct {
			host host.Host
			want int
		}{"destination": {dst, 1}, "other destination": {other, 1}, "source": {src, 1}, "source before": {done, 0}} {
			heard := slices.DeleteFunc(e.of(x.host), func(h heard) bool { return h.Draining == nil })
			if len(heard) != x.want {
				t.Errorf("the %s heard %d times that the relay drains, want %d", name, len(heard), x.want)
			}
		}
		if err := echoes(t, src, dst, 1000); err != nil {
			t.Errorf("a circuit after that: %v", err)
		}
	})
}

// TestDrainWithPeersThatHang: they hold up neither the others nor the relay
// for long.
func TestDrainWithPeersThatHang(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := run(t, start(t, n.Host("relay")), Config{Mode: On})
		var e ears
		var good []host.Host
		var dead []*testnet.Host
		for i := range 10 {
			g := e.on(t, start(t, n.Host(fmt.Sprint("good ", i))))
			h := hang(start(t, n.Host(fmt.Sprint("hangs ", i))))
			m := n.Host(fmt.Sprint("dies ", i))
			d := e.on(t, start(t, m))
			r.mustReserve(t, g, h, d)
			good, dead = append(good, g), append(dead, m)
		}
		for _, m := range dead {
			m.Kill()
		}
		began := time.Now()
		r.DrainFor(0, nil)
		if took := time.Since(began); took < tellEach || took > drainNotices {
			t.Errorf("took %v, want the %v that one gets", took, tellEach)
		}
		for _, h := range good {
			if got := e.of(h); len(got) != 1 || got[0].at.Sub(began) > 100*time.Millisecond {
				t.Errorf("heard %v, want it within 100ms", got)
			}
		}
		synctest.Wait()
		if slices.Contains(r.host.Mux().Protocols(), proto.ProtoIDv2Hop) {
			t.Error("hop is not withdrawn")
		}
	})
}

// TestTellIsBounded: more who hang than workers.
func TestTellIsBounded(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := run(t, start(t, n.Host("relay")), Config{Mode: On})
		var e ears
		var to []peer.ID
		for i := range 4 {
			h := hang(start(t, n.Host(fmt.Sprint("hangs ", i))))
			r.mustReserve(t, h)
			to = append(to, h.ID())
		}
		last := e.on(t, start(t, n.Host("last")))
		r.mustReserve(t, last)
		to = append(to, last.ID())
		load := notice.Notice{Load: &notice.Load{}}
		began := time.Now()
		if told := r.tell(timeout(t), to, 2, load); told != 1 || time.Since(began) > 2100*time.Millisecond {
			t.Errorf("told %d in %v, want the last one after 2 s", told, time.Since(began))
		}
	})
}

func TestFullRelayAsksForRoom(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		const room = 24
		r := run(t, start(t, n.Host("relay")), Config{Mode: On, Limits: Limits{Reservations: room, RequestsPerPeer: Unlimited, RequestsPerIP: Unlimited}})
		var e ears
		for i := range room - 1 {
			r.mustReserve(t, e.on(t, start(t, n.Host(fmt.Sprint("holds ", i)))))
		}
		r.mustReserve(t, start(t, n.Host("stock")))
		crowd := []host.Host{e.on(t, start(t, n.Host("late"))), e.on(t, start(t, n.Host("later")))}
		if got := e.list(); len(got) > 0 {
			t.Fatalf("heard %v before anybody was refused", got)
		}
		began := time.Now()
		for time.Since(began) < 110*time.Second {
			for _, h := range crowd {
				if _, status := r.reserve(t, h); status != pbv2.Status_RESERVATION_REFUSED {
					t.Fatalf("got %v, want no room", status)
				}
			}
			time.Sleep(50 * time.Millisecond)
		}
		want := notice.Load{Reservations: room, MaxReservations: room, Full: true}
		all := slices.DeleteFunc(e.list(), func(x heard) bool { return x.Load != nil && x.Load.RetryAfter > 0 })
		last := make(map[peer.ID]time.Time)
		for i, x := range all {
			if x.Load == nil || *x.Load != want {
				t.Fatalf("heard %+v, want %+v", x.Notice, want)
			}
			// Between two batches lies a second; within one, less than the latency.
			if i >= loadPeers && x.at.Sub(all[i-loadPeers].at) < loadInterval-100*time.Millisecond {
				t.Errorf("more than %d within %v", loadPeers, x.at.Sub(all[i-loadPeers].at))
			}
			if before, again := last[x.by]; again && x.at.Sub(before) < loadAgain-100*time.Millisecond {
				t.Errorf("asked again after %v", x.at.Sub(before))
			}
			last[x.by] = x.at
		}
		if first := all[0].at.Sub(began); first > time.Second {
			t.Errorf("first asked after %v", first)
		}
		// Each at the start and after 30, 60 and 90 s.
		if len(last) != room-1 || len(all) != 4*(room-1) {
			t.Errorf("%d peers asked %d times, want %d peers 4 times each", len(last), len(all), room-1)
		}
		for _, h := range crowd {
			for _, x := range e.of(h) {
				if x.Load.Full {
					t.Error("one without a reservation was asked to leave")
				}
			}
		}
		// A relay that was full can still say that it drains.
		before := len(e.list())
		r.DrainFor(0, nil)
		if got := len(e.list()) - before; got != room-1 {
			t.Errorf("%d were told that the relay drains, want %d", got, room-1)
		}
	})
}

// TestRetryAfter: who finds no room hears when to come back, and nobody else.
func TestRetryAfter(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := run(t, start(t, n.Host("relay")), Config{Mode: On, Limits: Limits{Reservations: 1}})
		var e ears
		holds, late, caller := e.on(t, start(t, n.Host("holds"))), e.on(t, start(t, n.Host("late"))), e.on(t, start(t, n.Host("caller")))
		r.mustReserve(t, holds)
		r.mustReserve(t, holds) // a refresh
		stock := start(t, n.Host("stock"))
		for _, h := range []host.Host{late, stock} {
			if _, status := r.reserve(t, h); status != pbv2.Status_RESERVATION_REFUSED {
				t.Fatalf("got %v, want no room", status)
			}
		}
		if err := r.dial(t, caller, stock); err == nil {
			t.Fatal("a circuit to somebody without a reservation stands")
		}
		time.Sleep(5 * time.Second)
		got := e.of(late)
		if len(got) != 1 || got[0].Load == nil || got[0].Load.Full || got[0].Load.RetryAfter < retryAfter || got[0].Load.RetryAfter > 2*retryAfter {
			t.Errorf("the one that found no room heard %+v, want to be asked back after %v to %v", got, retryAfter, 2*retryAfter)
		}
		for _, h := range []host.Host{holds, caller} {
			for _, x := range e.of(h) {
				if x.Load == nil || x.Load.RetryAfter > 0 {
					t.Errorf("one that was not refused heard %+v", x.Notice)
				}
			}
		}
	})
}

// TestRoomIsMade for somebody who found none.
func TestRoomIsMade(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := run(t, start(t, n.Host("relay")), Config{Mode: On, Limits: Limits{Reservations: 3}})
		var e ears
		for i := range 3 {
			h := start(t, n.Host(fmt.Sprint("holds ", i)))
			e.on(t, h, func(n notice.Notice) {
				if n.Load != nil && n.Load.Full {
					go h.Network().ClosePeer(r.host.ID())
				}
			})
			r.mustReserve(t, h)
		}
		late := start(t, n.Host("late"))
		if _, status := r.reserve(t, late); status != pbv2.Status_RESERVATION_REFUSED {
			t.Fatalf("got %v, want no room", status)
		}
		time.Sleep(500 * time.Millisecond)
		r.mustReserve(t, late)
	})
}

// TestRefusedWithRoom: a limit per address moves nobody.
func TestRefusedWithRoom(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := run(t, start(t, n.Host("relay")), Config{Mode: On, Limits: Limits{Reservations: 3, ReservationsPerIP: 2}})
		var e ears
		office := n.NAT("office", testnet.PortRestricted())
		r.mustReserve(t, e.on(t, start(t, office.Host("one"))), e.on(t, start(t, office.Host("two"))))
		if _, status := r.reserve(t, start(t, office.Host("three"))); status != pbv2.Status_RESERVATION_REFUSED {
			t.Errorf("got %v, want it refused", status)
		}
		time.Sleep(time.Minute)
		if got := e.list(); len(got) > 0 {
			t.Errorf("heard %v, want nothing: there is room for others", got)
		}
	})
}

// TestHoldersReturnToZero however they go.
func TestHoldersReturnToZero(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := run(t, start(t, n.Host("relay")), Config{Patience: time.Minute})
		r.verdict(true, "public")
		dies := n.Host("dies")
		closes, goes, stays := start(t, n.Host("closes")), start(t, n.Host("goes")), start(t, n.Host("stays"))
		r.mustReserve(t, start(t, dies), closes, goes, stays)
		want := func(when string, held int) {
			t.Helper()
			synctest.Wait()
			if got := r.Status().Reservations; got != int64(held) {
				t.Errorf("%s: %d reservations, want %d", when, got, held)
			}
			if err := r.Check(); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
		want("all here", 4)
		dies.Kill()
		closes.Close()
		goes.Network().ClosePeer(r.host.ID())
		time.Sleep(2 * time.Minute)
		want("three gone", 1)
		r.verdict(false, "private")
		time.Sleep(time.Minute)
		want("not serving", 1) // it may have been a mistake
		r.verdict(true, "public")
		want("serving again", 1)
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		want("stopped", 0)
	})
}
