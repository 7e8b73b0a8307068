package fair

import (
	"sync"
	"testing"
	"time"
)

func BenchmarkAcquireUncapped(b *testing.B) {
	f, done := New(0, 0).Share(0, 0).Flow(), make(chan struct{})
	b.ReportAllocs()
	for b.Loop() {
		f.Acquire(f.Piece(), done)
	}
}

// BenchmarkAcquireCapped is what counting costs when nobody has to wait.
func BenchmarkAcquireCapped(b *testing.B) {
	for _, c := range []struct {
		name         string
		relay, share int64
	}{{"relay", 1 << 60, 0}, {"both", 1 << 60, 1 << 60}} {
		b.Run(c.name, func(b *testing.B) {
			f, done := New(c.relay, 0).Share(c.share, 0).Flow(), make(chan struct{})
			b.ReportAllocs()
			for b.Loop() {
				f.Acquire(maxCapped, done)
			}
		})
	}
}

// BenchmarkBucket is the alternative: a token bucket with a lock, and no order
// among those who wait.
func BenchmarkBucket(b *testing.B) {
	var mu sync.Mutex
	var t bucket
	t.set(1<<60, 0, time.Now())
	b.ReportAllocs()
	for b.Loop() {
		mu.Lock()
		t.take(maxCapped, time.Now())
		mu.Unlock()
	}
}

// BenchmarkContended is 1000 flows that wait for a cap of 1 GB/s: of that, what
// is reached.
func BenchmarkContended(b *testing.B) {
	s, c := New(1000*mB, 0), newCrowd()
	sh := s.Share(0, 0)
	for range 1000 {
		f := sh.Flow()
		c.wg.Go(func() {
			for f.Acquire(f.Piece(), c.done) == nil {
			}
		})
	}
	f, done := sh.Flow(), make(chan struct{})
	began := time.Now()
	for b.Loop() {
		f.Acquire(maxCapped, done)
	}
	b.ReportMetric(float64(b.N)*maxCapped*1001/time.Since(began).Seconds()/1e6, "MB/s")
	c.stop()
}
