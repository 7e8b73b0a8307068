package testnet

import "time"

const (
	// maxQueueTime bounds how long a packet waits for its line: the buffer of
	// a home router that is not bloated.
	maxQueueTime = 100 * time.Millisecond
	// minQueueBits lets a burst of some 40 full packets through even on slow
	// lines, where 100 ms would not hold one QUIC flight.
	minQueueBits = 8 * 64 << 10
)

// line is one direction of a machine's access link: it sends one bit after the
// other, and packets queue for it. It keeps no queue, only when the last bit of
// the last packet is through. Guarded by Net.mu.
type line struct {
	bitsPerSecond int // not positive: no limit
	busyUntil     time.Time
}

// reserve queues a packet and says when its last bit is through; false if the
// queue is full.
func (l *line) reserve(now time.Time, bits int) (time.Time, bool) {
	if l.bitsPerSecond <= 0 {
		return now, true
	}
	start := now
	if l.busyUntil.After(now) {
		start = l.busyUntil
		limit := max(maxQueueTime, l.duration(minQueueBits))
		if start.Sub(now) > limit {
			return now, false
		}
	}
	l.busyUntil = start.Add(l.duration(bits))
	return l.busyUntil, true
}

func (l *line) duration(bits int) time.Duration {
	return time.Duration(float64(bits) / float64(l.bitsPerSecond) * float64(time.Second))
}
