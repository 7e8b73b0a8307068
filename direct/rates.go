package direct

import (
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"
)

// What strangers can make us send is bounded here: an attempt is at most
// maxIPs addresses per family, maxPorts ports and two transports, with about
// five packets of 1,252 bytes each to a QUIC address that does not answer.
const (
	// perPeer bounds the attempts that one peer begins: two rounds at once, and
	// again when something has changed.
	perPeerEvery, perPeerBurst = 20 * time.Second, 4
	// inTotal bounds those with all peers together, whoever begins: a stranger
	// that comes over a relay makes us begin.
	inTotalEvery, inTotalBurst = time.Second / 2, 40
	// Guessing costs a thousand small packets a time.
	guessEvery, guessBurst = 15 * time.Second, 2
	// maxPeers bounds the peers that are remembered. When it is full, new ones
	// share what is left in total.
	maxPeers = 1024
)

type rates struct {
	total, guesses *rate.Limiter

	mu    sync.Mutex // guards the field below
	peers map[peer.ID]*peerRate
}

type peerRate struct {
	*rate.Limiter
	used time.Time
}

func newRates() *rates {
	return &rates{
		total:   rate.NewLimiter(rate.Every(inTotalEvery), inTotalBurst),
		guesses: rate.NewLimiter(rate.Every(guessEvery), guessBurst),
		peers:   make(map[peer.ID]*peerRate),
	}
}

// allow reports whether p may begin another attempt.
func (r *rates) allow(p peer.ID, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	one := r.peers[p]
	if one == nil {
		if len(r.peers) >= maxPeers {
			r.sweepLocked(now)
		}
		one = &peerRate{Limiter: rate.NewLimiter(rate.Every(perPeerEvery), perPeerBurst)}
		if len(r.peers) < maxPeers {
			r.peers[p] = one
		}
	}
	one.used = now
	return one.AllowN(now, 1) && r.total.AllowN(now, 1)
}

func (r *rates) sweepLocked(now time.Time) {
	for p, one := range r.peers {
		if now.Sub(one.used) > perPeerBurst*perPeerEvery {
			delete(r.peers, p)
		}
	}
}
