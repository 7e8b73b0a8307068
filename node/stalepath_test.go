package node

import (
	"testing"
	"time"
)

// TestPathEnds: a relay dies in a way that its peers see at once, as a process
// that is killed does. Whoever waited for an answer over it gets one over
// another in no more time than that takes, without a pause for thought.
func TestPathEnds(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a, c, dies := w.between(2)
		p := w.ping(c, a.ID())
		time.Sleep(time.Second)
		for _, conn := range dies.Host().Network().Conns() {
			conn.Close()
		}
		if err := dies.Host().Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(5 * time.Second)
		p.stop()
		p.done.Wait()
		t.Logf("%d pings, the longest took %v; by relay: %v", p.count, p.worst, p.relays)
		// What was on its way is lost after half a trip. Then come CONNECT, with
		// two trips, the handshakes, with two more, the stream's and the ping.
		if most := 6 * relayTrip; p.worst > most {
			t.Errorf("the longest ping took %v, want %v at most", p.worst, most)
		}
		if p.relays[dies.ID()] == 0 || len(p.relays) != 2 {
			t.Errorf("pings by relay: got %v, want some over each", p.relays)
		}
	})
}
