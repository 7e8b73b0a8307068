package oneshot

import (
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Allowance is a rate limit per peer.
type Allowance struct {
	// static
	burst    int
	interval time.Duration
	peers    int

	mu    sync.Mutex            // guards the field below
	spent map[peer.ID]time.Time // when the peer has its whole burst again
}

// NewAllowance allows each peer a burst at once and one more every interval. It
// remembers at most so many peers.
func NewAllowance(burst int, interval time.Duration, peers int) *Allowance {
	return &Allowance{burst: burst, interval: interval, peers: peers, spent: make(map[peer.ID]time.Time)}
}

// Take reports whether a peer may once more, and takes note.
func (a *Allowance) Take(p peer.ID, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	until, known := a.spent[p]
	if !known && len(a.spent) >= a.peers {
		a.forgetLocked(now)
	}
	if until.Before(now) {
		until = now
	}
	if until.Sub(now) > time.Duration(a.burst-1)*a.interval {
		return false
	}
	a.spent[p] = until.Add(a.interval)
	return true
}

// forgetLocked makes room, if need be at the cost of giving somebody a fresh
// allowance. To turn the newcomer away would let strangers shut out friends.
func (a *Allowance) forgetLocked(now time.Time) {
	for p, until := range a.spent {
		if !until.After(now) {
			delete(a.spent, p)
		}
	}
	for p := range a.spent {
		if len(a.spent) < a.peers {
			return
		}
		delete(a.spent, p)
	}
}
