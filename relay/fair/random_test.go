package fair

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// FuzzSchedule runs random flows that come, ask, give up and go, while rates
// change, and holds that no more passes than the rates allow, that nobody waits
// for ever, and that what is left behind is an empty queue.
func FuzzSchedule(f *testing.F) {
	for seed := range uint64(5) {
		f.Add(seed, uint32(100*kB), uint32(0), uint8(10))
		f.Add(seed, uint32(0), uint32(50*kB), uint8(10))
		f.Add(seed, uint32(1*mB), uint32(100*kB), uint8(40))
	}
	f.Fuzz(func(t *testing.T, seed uint64, rate, shareRate uint32, flows uint8) {
		// Slower than this, virtual hours pass for a piece.
		rate, shareRate = atLeast(rate, 10*kB), atLeast(shareRate, 10*kB)
		flows = flows%64 + 1
		simulate(t, func(t *testing.T) { schedule(t, seed, int64(rate), int64(shareRate), int(flows)) })
	})
}

func atLeast(rate uint32, least uint32) uint32 {
	if rate != 0 {
		rate = max(rate, least)
	}
	return rate
}

func schedule(t *testing.T, seed uint64, rate, shareRate int64, flows int) {
	s := New(rate, 0)
	shares := []*Share{s.Share(shareRate, 0), s.Share(shareRate, 0), s.Share(0, 0)}
	passed := make([]atomic.Int64, len(shares))
	began := time.Now()
	var wg sync.WaitGroup
	for i := range flows {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() {
			flow := shares[i%len(shares)].Flow()
			defer flow.Close()
			for range 20 {
				n := 1 + rng.IntN(maxCapped)
				done := make(chan struct{})
				if rng.IntN(4) == 0 {
					giveUp := time.AfterFunc(time.Duration(rng.IntN(200))*time.Millisecond, func() { close(done) })
					defer giveUp.Stop()
				}
				if rng.IntN(40) == 0 {
					time.AfterFunc(time.Duration(rng.IntN(200))*time.Millisecond, flow.Close)
				}
				if flow.Acquire(n, done) == nil {
					passed[i%len(shares)].Add(int64(n))
				}
				time.Sleep(time.Duration(rng.IntN(3)) * time.Duration(rng.IntN(20)) * time.Millisecond)
			}
		})
	}
	if seed%2 == 0 { // slower, and back
		time.Sleep(100 * time.Millisecond)
		s.SetRate(rate/2, 0)
		time.Sleep(100 * time.Millisecond)
		s.SetRate(rate, 0)
	}
	wg.Wait()
	took := time.Since(began)
	var total int64
	for i := range shares {
		n := passed[i].Load()
		if total += n; i < 2 {
			allowed(t, "share", n, shareRate, took)
		}
	}
	allowed(t, "relay", total, rate, took)
	// The longest there can be for all of it, one after the other.
	if slowest := min(orMax(rate), orMax(shareRate)); slowest != 1<<62 {
		if most := float64(flows)*20*maxCapped/float64(slowest/2) + 20*0.06 + 1; took.Seconds() > most {
			t.Errorf("took %v, want at most %.0fs", took, most)
		}
	}
	if s.Waiting() != 0 {
		t.Errorf("%d still wait", s.Waiting())
	}
	for i, sh := range shares {
		if sh.q.waiting() != 0 {
			t.Errorf("%d still wait at share %d", sh.q.waiting(), i)
		}
	}
	synctest.Wait()
}

func allowed(t *testing.T, what string, got, rate int64, took time.Duration) {
	t.Helper()
	if rate == 0 {
		return
	}
	burst := max(rate/pieceTime, 2*maxCapped)
	if most := burst + int64(float64(rate)*took.Seconds()) + 1; got > most {
		t.Errorf("%s: %d bytes passed in %v, want at most %d", what, got, took, most)
	}
}

func orMax(rate int64) int64 {
	if rate == 0 {
		return 1 << 62
	}
	return rate
}
