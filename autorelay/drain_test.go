package autorelay

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"
)

func only() Config { return Config{Relays: 1, Standby: -1} }

// TestDrainToASibling: the relay is kept until the one it names is advertised,
// and what it does afterwards changes nothing.
func TestDrainToASibling(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		r, sibling := w.relay(), w.relay()
		n := w.node(only())
		n.add(r)
		n.settled(r)
		n.Draining(r.ID(), time.Minute, []peer.AddrInfo{*host.InfoFromHost(sibling)})
		n.within(time.Second, "the sibling", func() bool { return n.through(sibling.ID()) && !n.through(r.ID()) })
		if got := n.state(r.ID()); got.State != Draining || got.Advertised {
			t.Errorf("the relay that drains: got %+v, want it held and not advertised", got)
		}
		if got := n.state(sibling.ID()).Sources; !slices.Equal(got, []string{"sibling"}) {
			t.Errorf("source of the sibling: got %q, want %q", got, "sibling")
		}
		r.service.Close()
		n.within(time.Second, "hop withdrawn", func() bool { return len(n.seen(Lost, r.ID())) == 1 })
		r.Close()
		n.throughout(time.Minute, "the sibling", func() bool { return n.through(sibling.ID()) })
		n.neverWithout(1)
		if got := n.seen(Lost, r.ID()); len(got) != 1 || got[0].Reason != Drained {
			t.Errorf("lost events: got %+v, want one, %q", got, Drained)
		}
		if got := n.seen(Replaced, sibling.ID()); len(got) != 1 || got[0].Old != r.ID() || got[0].Reason != Drained {
			t.Errorf("replaced events: got %+v, want one, %q", got, Drained)
		}
	})
}

// TestDrainWithNowhereToGo: the relay says that it leaves at any moment and is
// all we have.
func TestDrainWithNowhereToGo(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		r := w.relay()
		n := w.node(only())
		n.add(r)
		n.settled(r)
		time.Sleep(10 * time.Minute)
		// It stays, in spite of what it said.
		n.Draining(r.ID(), 0, nil)
		n.throughout(time.Minute, "advertised", n.advertised)
		if got := r.asked.Load(); got != 2 {
			t.Errorf("RESERVE messages: got %d, want 2: the first, and one whether we may stay", got)
		}
		if got := n.state(r.ID()); got.State != Reserved || time.Until(got.Expires) < 58*time.Minute {
			t.Errorf("the relay that stayed: got %+v, want it reserved for an hour", got)
		}
		// It lets nobody in any more, then restarts.
		r.deny.Store(true)
		n.Draining(r.ID(), 5*time.Second, nil)
		n.throughout(5*time.Second, "advertised", n.advertised)
		n.within(time.Second, "gone", func() bool { return !n.advertised() })
		if got := n.seen(Lost, r.ID()); len(got) != 1 || got[0].Reason != Drained {
			t.Errorf("lost events: got %+v, want one, %q", got, Drained)
		}
		time.Sleep(2 * time.Second)
		r.Close()
		time.Sleep(5 * time.Second)
		r.deny.Store(false)
		r.start(w)
		n.within(time.Second, "back after its restart", n.advertised)
	})
}

// TestDrainPastExpiry: a reservation that ends before the relay leaves is
// lost then.
func TestDrainPastExpiry(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		r := &hop{Host: w.host(w.net.Host("relay"), nil)}
		r.SetStreamHandler(proto.ProtoIDv2Hop, func(s network.Stream) {
			if r.asked.Load() > 0 {
				r.asked.Add(1)
				s.Reset()
				return
			}
			r.answer(s, in(time.Minute))
		})
		n := w.node(only())
		n.Add(Candidate{AddrInfo: *host.InfoFromHost(r), Source: "test"})
		n.within(time.Second, "reserved", n.advertised)
		n.Draining(r.ID(), time.Hour, nil)
		n.throughout(58*time.Second, "advertised", n.advertised)
		n.within(3*time.Second, "expired", func() bool { return !n.advertised() })
		if got := n.seen(Lost, r.ID()); len(got) != 1 || got[0].Reason != Drained {
			t.Errorf("lost events: got %+v, want one, %q", got, Drained)
		}
	})
}

// TestAllDrain: of two that leave, the one that stays longer is advertised.
func TestAllDrain(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		relays := w.relays(2)
		n := w.node(Config{Relays: 2, Standby: -1})
		n.add(relays...)
		n.settled(relays...)
		relays[0].deny.Store(true)
		relays[1].deny.Store(true)
		n.Draining(relays[0].ID(), time.Minute, nil)
		n.within(time.Second, "only the other", func() bool { return !n.through(relays[0].ID()) })
		n.Draining(relays[1].ID(), time.Second, nil)
		time.Sleep(100 * time.Millisecond)
		relays[1].Close()
		n.within(time.Second, "the one that is still there", func() bool { return n.through(relays[0].ID()) && !n.through(relays[1].ID()) })
		n.throughout(58*time.Second, "the one that is still there", n.advertised)
		n.neverWithout(1)
	})
}

// TestDrainDuringRefresh: the refresh that was under way fails.
func TestDrainDuringRefresh(t *testing.T) {
	for name, fail := range map[string]func(*hop, network.Stream){
		"reset":    func(_ *hop, s network.Stream) { s.Reset() },
		"answered": func(h *hop, s network.Stream) { h.answer(s, in(time.Hour)) },
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				r, other := &hop{Host: w.host(w.net.Host("relay"), nil)}, w.relay()
				proceed := make(chan struct{})
				r.SetStreamHandler(proto.ProtoIDv2Hop, func(s network.Stream) {
					if r.asked.Load() == 0 {
						r.answer(s, in(time.Minute))
						return
					}
					select {
					case <-proceed:
						fail(r, s)
					case <-t.Context().Done():
						s.Reset()
					}
				})
				n := w.node(only())
				n.Add(Candidate{AddrInfo: *host.InfoFromHost(r), Source: "test"})
				n.within(time.Second, "reserved", n.advertised)
				time.Sleep(37 * time.Second) // the refresh began after 30 to 36
				n.Draining(r.ID(), 10*time.Second, nil)
				n.within(time.Millisecond, "draining", func() bool { return n.state(r.ID()).State == Draining })
				close(proceed)
				n.throughout(9*time.Second, "draining and advertised", func() bool {
					return n.state(r.ID()).State == Draining && n.through(r.ID())
				})
				n.add(other)
				n.within(time.Second, "the other", func() bool { return n.through(other.ID()) && !n.through(r.ID()) })
				n.within(time.Second, "not held any more", func() bool { return n.state(r.ID()).State != Draining })
				n.neverWithout(1)
				if n.host.ConnManager().IsProtected(r.ID(), "") {
					t.Error("the connection to the relay that drained is still protected")
				}
			})
		})
	}
}

// TestSiblings: few of them, none private, none from strangers, and no relay
// speaks for another.
func TestSiblings(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		r, stranger, known := w.relay(), w.relay(), w.relay()
		nowhere := r.box.ListenAddr(9)
		n := w.node(only())
		n.add(r)
		n.settled(r)
		n.add(stranger, known)
		siblings := []peer.AddrInfo{
			{ID: known.ID(), Addrs: []ma.Multiaddr{nowhere}},
			{ID: n.host.ID(), Addrs: []ma.Multiaddr{nowhere}},
			{ID: randomID(t), Addrs: []ma.Multiaddr{ma.StringCast("/ip4/192.168.1.1/udp/4001/quic-v1")}},
			{ID: randomID(t)},
		}
		for range 1000 {
			siblings = append(siblings, peer.AddrInfo{ID: randomID(t), Addrs: []ma.Multiaddr{nowhere}})
		}
		n.Draining(stranger.ID(), time.Minute, siblings)
		n.Draining(randomID(t), time.Minute, siblings)
		time.Sleep(time.Second)
		if s := n.Status(); len(s.Relays) != 3 || n.held() != 1 || len(n.seen(Drains, "")) != 0 {
			t.Errorf("after notices of strangers: got %+v, want what was there before", s.Relays)
		}
		n.Draining(r.ID(), time.Minute, siblings)
		n.Draining(r.ID(), time.Minute, siblings[500:])
		n.within(3*time.Second, "one that was known, at its own address", func() bool { return n.through(known.ID()) || n.through(stranger.ID()) })
		// Not those that were known, ourselves, and the two without a use.
		if got, want := len(n.Status().Relays), 3+maxSiblings-4; got != want {
			t.Errorf("relays known: got %d, want %d", got, want)
		}
		for _, s := range n.Status().Relays {
			if s.Detail == "" && s.ID == siblings[2].ID.String() {
				t.Errorf("a private sibling was taken: %+v", s)
			}
		}
		n.neverWithout(1)
	})
}

// TestNoticeStorm: whatever relays say, and however often, the loop goes on.
func TestNoticeStorm(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		relays := w.relays(4)
		n := w.node(full())
		n.add(relays...)
		n.complete(3, 2)
		sibling := []peer.AddrInfo{*host.InfoFromHost(relays[3])}
		begun := time.Now()
		for i := range 1000 {
			id := relays[i%4].ID()
			if i%7 == 0 {
				id = randomID(t)
			}
			n.Draining(id, time.Duration(i%60)*time.Second, sibling)
			n.Load(id, float64(i)-500, i%2 == 0)
			if i%100 == 0 && !n.SetWish(relays[0].ID(), NoWish) {
				t.Fatal("SetWish in the storm: got false, want true")
			}
		}
		if took := time.Since(begun); took > time.Second {
			t.Errorf("2000 notices and 10 commands took %v, want them not to wait", took)
		}
		n.within(2*time.Second, "the loop listens", func() bool { return n.SetWish(relays[0].ID(), NoWish) })
		n.throughout(time.Minute, "advertised", n.advertised)
		n.neverWithout(1)
		for _, s := range n.Status().Relays {
			if s.Load < 0 || s.Load > 1 {
				t.Errorf("load: got %v, want 0 to 1", s.Load)
			}
		}
		if got := len(n.seen(Drains, "")); got > 8 {
			t.Errorf("drains events: got %d, want at most 8; events:%s", got, fmt.Sprint(n.seen(Drains, "")))
		}
	})
}
