package node

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/relay"
	"github.com/causeway-p2p/causeway/testnet"
)

// TestRollingRestart: three relays are drained and restarted one after the
// other, while somebody dials a peer behind them all the time. No dial fails.
// In short mode it is one of them.
func TestRollingRestart(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.bootstrap()
		relays := w.relays(3)
		a := w.behind("A", testnet.Symmetric(), Config{NoHolePunching: true})
		await(t, a, "A to advertise two relays", func(e AddrsChanged) bool { return e.Circuits >= 2 })
		w.echo(a)
		c := w.behind("C", testnet.Symmetric(), Config{NoHolePunching: true})
		await(t, c, "C to advertise two relays", func(e AddrsChanged) bool { return e.Circuits >= 2 })

		var dials, failed atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for ctx.Err() == nil {
				one, stop := context.WithTimeout(ctx, 10*time.Second)
				err := dialAnew(one, c, a.ID())
				stop()
				if ctx.Err() != nil {
					return
				}
				dials.Add(1)
				if err != nil {
					failed.Add(1)
					t.Errorf("dial %d: %v", dials.Load(), err)
				}
				time.Sleep(100 * time.Millisecond)
			}
		}()
		time.Sleep(5 * time.Second)
		rounds, enough := len(relays), int64(200)
		if testing.Short() {
			rounds, enough = 1, 60
		}
		for i, r := range relays[:rounds] {
			box, key := w.boxes[r.ID()], r.cfg.Identity
			r.Drain(10 * time.Second)
			time.Sleep(10 * time.Second)
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			time.Sleep(2 * time.Second) // the new version starts
			again := w.on(box, Config{Identity: key, Server: true, Relay: relay.Auto, Relays: -1})
			await(t, again, fmt.Sprintf("relay %d to serve again", i), func(e RelayService) bool { return e.Serving })
			time.Sleep(20 * time.Second)
		}
		cancel()
		<-done
		if n := dials.Load(); n < enough {
			t.Errorf("dialled %d times only: the test shows nothing", n)
		}
		t.Logf("%d dials, %d failed", dials.Load(), failed.Load())
	})
}

// dialAnew closes what there is to a peer and calls it.
func dialAnew(ctx context.Context, n *Node, p peer.ID) error {
	n.host.Network().ClosePeer(p)
	s, err := n.Dial(ctx, p, "echo")
	if err != nil {
		return err
	}
	return s.Close()
}
