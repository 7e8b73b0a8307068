package node

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/causeway-p2p/causeway/testnet"
)

// TestGuessing: how often guessing ports leads through, and what it costs; and
// that a NAT which hands out its ports one after another is passed at once.
func TestGuessing(t *testing.T) {
	trials := 24
	if testing.Short() {
		trials = 6
	}
	sequential := testnet.Symmetric()
	sequential.Sequential = true
	for _, test := range []struct {
		name string
		cfg  testnet.NATConfig
		// atLeast is far below what the sums say: 98 of 100 where ports are
		// random, and all where they are not.
		atLeast float64
	}{
		{"random ports", testnet.Symmetric(), .75},
		{"sequential ports", sequential, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			var mu sync.Mutex // guards the field below
			var events []DirectAttempt
			t.Run("trials", func(t *testing.T) {
				for i := range trials {
					t.Run(fmt.Sprint(i), func(t *testing.T) {
						simulateOn(t, testnet.Config{Latency: 20 * time.Millisecond, Seed: uint64(i + 1)}, func(t *testing.T, w *world) {
							w.bootstrap()
							w.relays(1)
							a, b := w.pair(
								w.net.NAT("nat a", testnet.PortRestricted()).Host("a"),
								w.net.NAT("nat b", test.cfg).Host("b"))
							w.connectRelayed(a, b.ID())
							e := next(t, b.History(timeout(t)), "the attempt to end", func(e DirectAttempt) bool { return e.Peer == a.ID() })
							other := next(t, a.History(timeout(t)), "the other side's end", func(e DirectAttempt) bool { return e.Peer == b.ID() })
							e.Guesses += other.Guesses
							mu.Lock()
							events = append(events, e)
							mu.Unlock()
						})
					})
				}
			})
			var won, packets int
			var took []time.Duration
			for _, e := range events {
				packets += e.Guesses
				if e.Outcome.Direct() {
					won++
					took = append(took, e.Took)
				}
			}
			slices.Sort(took)
			if len(took) == 0 || float64(won) < test.atLeast*float64(len(events)) {
				t.Fatalf("%d of %d led through", won, len(events))
			}
			t.Logf("%d of %d led through, the median after %v, the last after %v; %d packets of 60 bytes each time, both sides together",
				won, len(events), took[len(took)/2], took[len(took)-1], packets/len(events))
		})
	}
}
