package node

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
)

// TestStreamReset: a peer resets a stream, as go-libp2p does when it has two of
// our pings already. That is an answer: what else runs to the peer runs on.
func TestStreamReset(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a, c, _ := w.between(2)
		s, err := c.Dial(timeout(t), a.ID(), "echo")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		var resets atomic.Int32
		answers := &ping.PingService{Host: a.Host()}
		a.Host().SetStreamHandler(ping.ID, func(st network.Stream) {
			if resets.Add(1) <= 2 {
				st.Reset()
				return
			}
			answers.PingHandler(st)
		})
		begun := time.Now()
		if _, err := c.Ping(timeout(t), a.ID()); err != nil {
			t.Errorf("ping: %v", err)
		}
		t.Logf("an answer after %v", time.Since(begun))
		if got := resets.Load(); got != 3 {
			t.Errorf("%d pings have come, want 3", got)
		}
		if err := exchange(s, 1000); err != nil {
			t.Errorf("the stream that was there before: %v", err)
		}
	})
}
