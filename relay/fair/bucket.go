package fair

import (
	"math"
	"time"
)

// bucket is a token bucket; a token is a byte. It is filled when it is looked
// at.
type bucket struct {
	rate   float64 // tokens a second, or 0 if there is no need of any
	burst  float64 // the most that it holds
	tokens float64
	filled time.Time
}

// set changes the rate and keeps what there is. A bucket that had no rate is
// full.
func (b *bucket) set(rate, burst int64, now time.Time) {
	fresh := b.rate == 0
	b.fill(now)
	b.rate = float64(rate)
	if burst <= 0 {
		burst = max(rate/pieceTime, 2*int64(piece(rate)))
	}
	b.burst = float64(burst)
	if fresh {
		b.tokens, b.filled = b.burst, now
	}
	b.tokens = min(b.tokens, b.burst)
}

func (b *bucket) fill(now time.Time) {
	if since := now.Sub(b.filled); since > 0 {
		b.filled = now
		b.add(b.rate * since.Seconds())
	}
}

func (b *bucket) add(n float64) { b.tokens = min(b.tokens+n, b.burst) }

// take takes n tokens, or returns how long it is until they are there.
func (b *bucket) take(n int64, now time.Time) time.Duration {
	if b.rate == 0 {
		return 0
	}
	b.burst = max(b.burst, float64(n)) // else they are never there
	b.fill(now)
	if missing := float64(n) - b.tokens; missing > 0 {
		wait := math.Ceil(missing / b.rate * float64(time.Second))
		return time.Duration(min(wait, float64(time.Hour))) + 1 // or look again then
	}
	b.tokens -= float64(n)
	return 0
}
