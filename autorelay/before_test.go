package autorelay

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
)

// introductions are the calls of BeforeReserve.
type introductions struct {
	mu    sync.Mutex // guards the field below
	calls []peer.ID
}

func (i *introductions) note(id peer.ID) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.calls = append(i.calls, id)
}

func (i *introductions) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.calls)
}

func TestBeforeReserve(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		r := w.relay()
		var in introductions
		var n *node
		n = w.node(Config{Relays: 1, BeforeReserve: func(_ context.Context, id peer.ID) {
			spoken, _ := n.host.Peerstore().SupportsProtocols(id, proto.ProtoIDv2Hop)
			if n.host.Network().Connectedness(id) != network.Connected || len(spoken) == 0 {
				t.Errorf("called before the relay is connected and identified")
			}
			if got := r.asked.Load(); int(got) != in.count() {
				t.Errorf("called after RESERVE %d, want before each", got)
			}
			in.note(id)
		}})
		n.add(r)
		n.settled(r)
		time.Sleep(2 * time.Hour) // with refreshes
		if got := int(r.asked.Load()); got < 3 || in.count() != got {
			t.Errorf("%d calls before %d RESERVEs", in.count(), got)
		}
		gone := w.relay()
		info := *host.InfoFromHost(gone)
		gone.Close()
		n.Add(Candidate{AddrInfo: info, Source: "test"})
		n.within(time.Second, "pinned", func() bool { return n.SetWish(gone.ID(), Pinned) })
		n.within(time.Minute, "asked in vain", func() bool { return n.state(gone.ID()).Reason == Unreachable })
		if got := int(r.asked.Load()); in.count() != got {
			t.Errorf("called for a relay that cannot be reached")
		}
	})
}

// TestBeforeReserveHangs: the reservation is asked for all the same.
func TestBeforeReserveHangs(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		r := w.relay()
		n := w.node(Config{Relays: 1, BeforeReserve: func(ctx context.Context, _ peer.ID) { <-ctx.Done() }})
		n.add(r)
		n.within(reserveTimeout/2+time.Second, "advertised", n.advertised)
	})
}

func TestRefresh(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		relays := w.relays(2)
		strict := w.relay()
		strict.deny.Store(true)
		var mu sync.Mutex
		var hold chan struct{}
		n := w.node(Config{Relays: 3, BeforeReserve: func(ctx context.Context, _ peer.ID) {
			mu.Lock()
			wait := hold
			mu.Unlock()
			if wait != nil {
				<-wait
			}
		}})
		n.add(append(relays, strict)...)
		n.settled(relays...)
		n.within(time.Second, "refused", func() bool { return n.state(strict.ID()).Reason == Forbidden })
		asked := func(a, b, c int64) func() bool {
			return func() bool {
				return relays[0].asked.Load() == a && relays[1].asked.Load() == b && strict.asked.Load() == c
			}
		}
		if !n.Refresh() {
			t.Error("Refresh: got false while it runs")
		}
		n.within(time.Second, "all asked again", asked(2, 2, 2))
		n.throughout(time.Minute, "no more", asked(2, 2, 2))

		// Calls under way began too early.
		wait := make(chan struct{})
		mu.Lock()
		hold = wait
		mu.Unlock()
		strict.deny.Store(false)
		n.Refresh()
		time.Sleep(100 * time.Millisecond)
		n.Refresh()
		n.Refresh()
		mu.Lock()
		hold = nil
		mu.Unlock()
		close(wait)
		n.within(time.Second, "all asked twice", asked(4, 4, 4))
		n.throughout(time.Minute, "no more", asked(4, 4, 4))
		if !n.through(strict.ID()) {
			t.Errorf("the relay that takes us now is not advertised; events:%s", n.story())
		}
		if lost := n.seen(Lost, ""); len(lost) > 0 {
			t.Errorf("lost: %+v", lost)
		}
		n.stop()
		if n.Refresh() {
			t.Error("Refresh: got true after it ended")
		}
	})
}
