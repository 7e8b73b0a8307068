package autorelay

import (
	"testing"
	"time"

	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
)

// TestFeel: on relays that cannot ask for room, those who came early find out
// by themselves that slots are scarce, and nobody goes without.
func TestFeel(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		rc := relayv2.DefaultResources()
		rc.MaxReservations = 4
		var relays []*stock
		for range 4 {
			relays = append(relays, w.relay(relayv2.WithResources(rc)))
		}
		var nodes []*node
		for range 12 {
			n := w.node(Config{Relays: 2, Standby: 1, ProbeInterval: 10 * time.Second})
			n.add(relays...)
			nodes = append(nodes, n)
			time.Sleep(time.Second)
		}
		without := func() (count int) {
			for _, n := range nodes {
				if !n.advertised() {
					count++
				}
			}
			return count
		}
		if without() == 0 {
			t.Error("nobody is without an address although the first took three slots each: the test shows nothing")
		}
		time.Sleep(20 * time.Minute)
		if got := without(); got != 0 {
			t.Errorf("nodes without an address after 20 minutes: got %d of %d on %d slots, want none", got, len(nodes), 4*len(relays))
		}
	})
}

// TestFeelGivesBack: what is taken only to see whether there is room is given
// back, and nobody hears of it.
func TestFeelGivesBack(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		relays := w.relays(6)
		n := w.node(full())
		n.add(relays...)
		n.complete(3, 2)
		before := n.current()
		time.Sleep(2*feelFirst + time.Second)
		asked := 0
		for _, r := range relays {
			asked += int(r.asked.Load())
		}
		if asked < 3+scarceAfter {
			t.Errorf("RESERVE messages: got %d, want at least %d", asked, 3+scarceAfter)
		}
		if n.held() != 3 || len(n.seen(Lost, "")) > 0 {
			t.Errorf("held: got %d, want 3 and none lost;%s", n.held(), n.story())
		}
		if got := n.current(); len(got) != len(before) {
			t.Errorf("advertised: got %v, want %v", got, before)
		}
		connected := len(n.host.Network().Peers())
		if connected != 3 {
			t.Errorf("connected relays: got %d, want the 3 that are held", connected)
		}
	})
}
