package relay

import (
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// maxKeys bounds those whose requests are counted. Beyond it some are
// forgotten, which gives them their whole allowance again: to turn newcomers
// away instead would let strangers shut out everybody.
const maxKeys = 1 << 16

// rates bounds how often something is asked for, per key. For each it knows the
// time at which the whole allowance is there again, and nothing else (the
// generic cell rate algorithm, ITU-T I.371).
type rates[K comparable] struct {
	mu    sync.Mutex // guards the field below
	until map[K]time.Time
}

func newRates[K comparable]() *rates[K] { return &rates[K]{until: make(map[K]time.Time)} }

// take tells whether one more request is in order, of perMinute a minute and as
// many at once.
func (r *rates[K]) take(k K, perMinute int, now time.Time) bool {
	if perMinute <= 0 {
		return true
	}
	each := time.Minute / time.Duration(perMinute)
	r.mu.Lock()
	defer r.mu.Unlock()
	t, known := r.until[k]
	if t.Before(now) {
		t = now
	}
	if t.Sub(now) > time.Minute-each {
		return false
	}
	if !known && len(r.until) >= maxKeys {
		r.forgetLocked(now)
	}
	r.until[k] = t.Add(each)
	return true
}

// forgetLocked makes room for many, so that it is seldom called.
func (r *rates[K]) forgetLocked(now time.Time) {
	for k, t := range r.until {
		if !t.After(now) {
			delete(r.until, k)
		}
	}
	for k := range r.until {
		if len(r.until) < maxKeys*3/4 {
			return
		}
		delete(r.until, k)
	}
}

// requests bounds what a peer, and an address, may ask of the relay.
type requests struct {
	peers *rates[peer.ID]
	ips   *rates[netip.Addr]
}

func newRequests() requests { return requests{newRates[peer.ID](), newRates[netip.Addr]()} }

func (r requests) take(p peer.ID, from origin, pol *policy, now time.Time) bool {
	// First, so that many identities at one address are one.
	if from.ip.IsValid() && !r.ips.take(from.host(), pol.RequestsPerIP, now) {
		return false
	}
	return r.peers.take(p, pol.RequestsPerPeer, now)
}
