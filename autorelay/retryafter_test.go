package autorelay

import (
	"testing"
	"time"

	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
)

// TestRetryAfter: a relay that is full is asked again when it wants to be.
func TestRetryAfter(t *testing.T) {
	for _, after := range []time.Duration{3 * time.Second, 4 * time.Minute, 100 * time.Hour} {
		t.Run(after.String(), func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				rc := relayv2.DefaultResources()
				rc.MaxReservations = 0
				r := w.relay(relayv2.WithResources(rc))
				n := w.node(Config{})
				n.add(r)
				n.within(time.Second, "refused", func() bool { return len(n.seen(Failed, r.ID())) == 1 })
				n.RetryAfter(r.ID(), after)
				want := time.Now().Add(min(after, retryFullMax))
				n.within(time.Second, "as the relay wants it", func() bool { return n.state(r.ID()).Retry.Equal(want) })
				time.Sleep(time.Until(want) - time.Second)
				if got := r.asked.Load(); got != 1 {
					t.Errorf("asked %d times before %v, want once", got, after)
				}
				n.within(3*time.Second, "asked again", func() bool { return r.asked.Load() == 2 })
			})
		})
	}
}
