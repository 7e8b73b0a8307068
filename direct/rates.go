package direct

import (
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"
)

// What strangers can make us send is bounded here: the peer names the
// addresses, and we send the packets.
const (
	// perPeer bounds the attempts with one peer, whoever begins: a few at once,
	// and again when something has changed.
	perPeerEvery, perPeerBurst = 20 * time.Second, 4
	// inTotal bounds those with all peers together: a stranger that comes over
	// a relay makes us begin.
	inTotalEvery, inTotalBurst = time.Second / 2, 40
	// perIP bounds the dials to one IP address that lead to nothing, however
	// many peers name it. One over QUIC is up to nine packets of 1,280 bytes.
	// An attempt is up to six.
	perIPEvery, perIPBurst = 6 * time.Second, 12
	// Guessing costs a thousand small packets a time.
	guessEvery, guessBurst = 30 * time.Second, 2
	// maxRemembered bounds the peers and the IP addresses that are remembered.
	// When it is full, new ones share one place.
	maxRemembered = 1024
)

type rates struct {
	total, guesses *rate.Limiter
	peers          *buckets[peer.ID]
	ips            *buckets[netip.Addr]
}

func newRates() *rates {
	return &rates{
		total:   rate.NewLimiter(rate.Every(inTotalEvery), inTotalBurst),
		guesses: rate.NewLimiter(rate.Every(guessEvery), guessBurst),
		peers:   newBuckets[peer.ID](perPeerEvery, perPeerBurst),
		ips:     newBuckets[netip.Addr](perIPEvery, perIPBurst),
	}
}

// allow reports whether there may be another attempt with p.
func (r *rates) allow(p peer.ID, now time.Time) bool {
	return r.peers.take(p, now) && r.total.AllowN(now, 1)
}

// buckets are token buckets by key, from which what was taken can be given
// back.
type buckets[K comparable] struct {
	every time.Duration // for one token
	burst float64

	mu   sync.Mutex // guards the field below
	held map[K]*bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newBuckets[K comparable](every time.Duration, burst int) *buckets[K] {
	return &buckets[K]{every: every, burst: float64(burst), held: make(map[K]*bucket)}
}

// take takes a token of the key's, if there is one.
func (b *buckets[K]) take(key K, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	one := b.ofLocked(key, now)
	one.tokens = min(b.burst, one.tokens+float64(now.Sub(one.at))/float64(b.every))
	one.at = now
	if one.tokens < 1 {
		return false
	}
	one.tokens--
	return true
}

// give gives tokens back.
func (b *buckets[K]) give(key K, n int, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	one := b.ofLocked(key, now)
	one.tokens = min(b.burst, one.tokens+float64(n))
}

func (b *buckets[K]) ofLocked(key K, now time.Time) *bucket {
	if one := b.held[key]; one != nil {
		return one
	}
	if len(b.held) >= maxRemembered {
		for k, one := range b.held {
			if now.Sub(one.at) > time.Duration(b.burst)*b.every {
				delete(b.held, k) // full again
			}
		}
	}
	if len(b.held) >= maxRemembered {
		var shared K
		key = shared
		if one := b.held[key]; one != nil {
			return one
		}
	}
	one := &bucket{tokens: b.burst, at: now}
	b.held[key] = one
	return one
}
