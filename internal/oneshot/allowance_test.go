package oneshot

import (
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

func TestAllowance(t *testing.T) {
	const peers = 1024
	a := NewAllowance(10, 6*time.Second, peers)
	start := time.Unix(0, 0)
	took := func(p peer.ID, tries int, at time.Duration) (n int) {
		for range tries {
			if a.Take(p, start.Add(at)) {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		at   time.Duration
		want int
	}{{0, 10}, {5 * time.Second, 0}, {6 * time.Second, 1}, {30 * time.Second, 4}, {time.Hour, 10}, {time.Hour + time.Minute, 10}} {
		if got := took("p", 1000, c.at); got != c.want {
			t.Errorf("after %v: %d of 1000 taken, want %d", c.at, got, c.want)
		}
		if got := took(peer.ID("at "+c.at.String()), 1, c.at); got != 1 {
			t.Errorf("after %v: another peer is refused", c.at)
		}
	}
	// A crowd takes no memory, and shuts nobody out.
	for i := range 10 * peers {
		if got := took(peer.ID(fmt.Sprint(i)), 1, 2*time.Hour); got != 1 || len(a.spent) > peers {
			t.Fatalf("peer %d: %d taken and %d kept, want 1 and at most %d", i, got, len(a.spent), peers)
		}
	}
	// Those whose allowance is whole are forgotten first.
	took("late", 1, 3*time.Hour)
	if len(a.spent) != 1 {
		t.Errorf("%d kept after all have their allowance again, want 1", len(a.spent))
	}
}
