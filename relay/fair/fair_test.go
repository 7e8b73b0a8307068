package fair

import (
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/causeway-p2p/causeway/internal/virtual"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	kB = 1000
	mB = 1000 * kB
)

// load is a flow in use.
type load struct {
	flow  *Flow
	bytes atomic.Int64

	mu    sync.Mutex // guards the field below
	waits []time.Duration
}

func (l *load) take(n int, done <-chan struct{}) bool {
	began := time.Now()
	if err := l.flow.Acquire(n, done); err != nil {
		return false
	}
	l.bytes.Add(int64(n))
	l.mu.Lock()
	l.waits = append(l.waits, time.Since(began))
	l.mu.Unlock()
	return true
}

// p99 is the 99th percentile of the waits.
func (l *load) p99() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waits) == 0 {
		return math.MaxInt64
	}
	s := slices.Sorted(slices.Values(l.waits))
	return s[len(s)*99/100]
}

// crowd is flows that run until stop is called.
type crowd struct {
	done chan struct{}
	wg   sync.WaitGroup
}

func newCrowd() *crowd { return &crowd{done: make(chan struct{})} }

func (c *crowd) stop() {
	close(c.done)
	c.wg.Wait()
}

// greedy asks for the next piece as soon as the last has passed.
func (c *crowd) greedy(f *Flow, n int) *load {
	l := &load{flow: f}
	c.wg.Go(func() {
		defer f.Close()
		for l.take(n, c.done) {
		}
	})
	return l
}

// interactive asks for a little once in a while.
func (c *crowd) interactive(f *Flow, n int, every time.Duration) *load {
	l := &load{flow: f}
	c.wg.Go(func() {
		defer f.Close()
		for l.take(n, c.done) {
			select {
			case <-c.done:
				return
			case <-time.After(every):
			}
		}
	})
	return l
}

func within(t *testing.T, what string, got, want int64, percent float64) {
	t.Helper()
	if off := math.Abs(float64(got-want)) / float64(want) * 100; off > percent {
		t.Errorf("%s: got %d, want %d: off by %.1f%%, want at most %v%%", what, got, want, off, percent)
	}
}

func simulate(t *testing.T, f func(t *testing.T)) { t.Helper(); virtual.Test(t, f) }

func TestNothingIsCapped(t *testing.T) {
	f := New(0, 0).Share(0, 0).Flow()
	for range 1000 {
		if err := f.Acquire(f.Piece(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if f.Piece() != MaxPiece {
		t.Errorf("piece of %d, want %d", f.Piece(), MaxPiece)
	}
	f.Close()
	f.Close()
	if err := f.Acquire(1, nil); !errors.Is(err, ErrStopped) {
		t.Errorf("closed: got %v, want %v", err, ErrStopped)
	}
}

func TestPiece(t *testing.T) {
	for _, c := range []struct {
		relay, share int64
		want         int
	}{
		{0, 0, MaxPiece},
		{-1, -1, MaxPiece},
		{1, 0, minCapped},
		{0, 1, minCapped},
		{1 * mB, 0, 5000},
		{100 * mB, 0, maxCapped},
		{100 * mB, 1 * mB, 5000},
		{1 * mB, 100 * mB, 5000},
		{math.MaxInt64, math.MaxInt64, maxCapped},
	} {
		if got := New(c.relay, 0).Share(c.share, 0).Flow().Piece(); got != c.want {
			t.Errorf("relay %d, share %d: got %d, want %d", c.relay, c.share, got, c.want)
		}
	}
}

func TestEqualSharesWhateverThePiece(t *testing.T) {
	simulate(t, func(t *testing.T) {
		s, c := New(10*mB, 0), newCrowd()
		var loads []*load
		for i := range 30 {
			n := []int{500, 1400, 4 << 10, 16 << 10, 64 << 10}[i%5]
			loads = append(loads, c.greedy(s.Share(0, 0).Flow(), n))
		}
		time.Sleep(10 * time.Second)
		c.stop()
		var total int64
		for i, l := range loads {
			total += l.bytes.Load()
			within(t, "flow "+string(rune('a'+i)), l.bytes.Load(), 10*mB*10/30, 5)
		}
		within(t, "cap over 10s", total, 100*mB, 2)
	})
}

func TestInteractive(t *testing.T) {
	for _, c := range []struct {
		name        string
		rate        int64
		greedy      int
		interactive int
		piece       int // of the greedy, or as Piece says
		most        time.Duration
	}{
		{"one greedy", 2 * mB, 1, 50, 0, time.Millisecond},
		{"one greedy that does not cut", 2 * mB, 1, 50, MaxPiece, time.Millisecond},
		{"one greedy in small pieces", 2 * mB, 1, 50, 500, 5 * time.Millisecond},
		{"50 greedy", 10 * mB, 50, 50, 0, time.Millisecond},
		{"50 greedy in small pieces", 10 * mB, 50, 50, 1000, 2 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				s, crowd := New(c.rate, 0), newCrowd()
				for range c.greedy {
					f := s.Share(0, 0).Flow()
					n := c.piece
					if n == 0 {
						n = f.Piece()
					}
					crowd.greedy(f, n)
				}
				time.Sleep(time.Second)
				var typists []*load
				for i := range c.interactive {
					typists = append(typists, crowd.interactive(s.Share(0, 0).Flow(), 200, 100*time.Millisecond+time.Duration(i)*time.Millisecond))
					time.Sleep(3 * time.Millisecond)
				}
				time.Sleep(10 * time.Second)
				crowd.stop()
				var worst time.Duration
				for _, l := range typists {
					worst = max(worst, l.p99())
				}
				if t.Logf("p99 of the wait: %v", worst); worst > c.most {
					t.Errorf("p99 of the wait: got %v, want at most %v", worst, c.most)
				}
			})
		})
	}
}

// TestSparseGainsNoBytes: a flow that keeps looking sparse gets its fair share
// and no more.
func TestSparseGainsNoBytes(t *testing.T) {
	simulate(t, func(t *testing.T) {
		s, c := New(4*mB, 0), newCrowd()
		gamer := c.interactive(s.Share(0, 0).Flow(), 2000, time.Millisecond) // wants 2 MB/s
		var honest []*load
		for range 3 {
			honest = append(honest, c.greedy(s.Share(0, 0).Flow(), 4<<10))
		}
		time.Sleep(10 * time.Second)
		c.stop()
		if got := gamer.bytes.Load(); got > 10*mB*105/100 {
			t.Errorf("got %d bytes, want at most its share of %d", got, 10*mB)
		}
		for _, l := range honest {
			if got := l.bytes.Load(); got < 10*mB*95/100 {
				t.Errorf("honest: got %d bytes, want its share of %d", got, 10*mB)
			}
		}
	})
}

func TestWorkConserving(t *testing.T) {
	simulate(t, func(t *testing.T) {
		s, c := New(2*mB, 0), newCrowd()
		slow := c.interactive(s.Share(0, 0).Flow(), 1000, 10*time.Millisecond) // 100 kB/s
		fast := c.greedy(s.Share(0, 0).Flow(), 4<<10)
		time.Sleep(10 * time.Second)
		c.stop()
		within(t, "what the slow one leaves", fast.bytes.Load(), 20*mB-slow.bytes.Load(), 2)
	})
}

func TestRateOfPeers(t *testing.T) {
	simulate(t, func(t *testing.T) {
		s, c := New(10*mB, 0), newCrowd()
		slow, fast, free := s.Share(1*mB, 0), s.Share(3*mB, 0), s.Share(0, 0)
		sum := func(list []*load) (n int64) {
			for _, l := range list {
				n += l.bytes.Swap(0)
			}
			return n
		}
		var a, b, rest []*load
		for range 4 {
			a = append(a, c.greedy(slow.Flow(), 2000))
			b = append(b, c.greedy(fast.Flow(), 2000))
		}
		rest = append(rest, c.greedy(free.Flow(), 16<<10))
		check := func(what string, wantA, wantB, wantRest int64) {
			t.Helper()
			sum(a)
			sum(b)
			sum(rest)
			time.Sleep(10 * time.Second)
			for _, l := range a {
				within(t, what+": circuits of the slow", l.bytes.Load()*4, wantA*10, 5)
			}
			within(t, what+": slow", sum(a), wantA*10, 2)
			within(t, what+": fast", sum(b), wantB*10, 2)
			within(t, what+": rest", sum(rest), wantRest*10, 2)
		}
		check("as built", 1*mB, 3*mB, 6*mB)
		slow.SetRate(2*mB, 0)
		check("faster", 2*mB, 3*mB, 5*mB)
		fast.SetRate(0, 0)
		slow.SetRate(500*kB, 0)
		s.SetRate(4500*kB, 0)
		check("all changed", 500*kB, 3200*kB, 800*kB) // 5 flows share 4 MB/s
		s.SetRate(0, 0)
		fast.SetRate(8*mB, 0)
		free.SetRate(4*mB, 0)
		check("no cap", 500*kB, 8*mB, 4*mB)
		c.stop()
	})
}

// TestRatesUnderLoad: those who wait at a rate of nothing go on as soon as it
// changes.
func TestRatesUnderLoad(t *testing.T) {
	simulate(t, func(t *testing.T) {
		s, c := New(1, 1), newCrowd()
		var loads []*load
		for range 10 {
			loads = append(loads, c.greedy(s.Share(0, 0).Flow(), 4<<10))
		}
		time.Sleep(time.Minute)
		if s.Waiting() != 10 {
			t.Errorf("%d wait, want 10", s.Waiting())
		}
		s.SetRate(10*mB, 0)
		began := time.Now()
		time.Sleep(time.Second)
		for _, l := range loads {
			within(t, "after the change", l.bytes.Load(), 1*mB, 5)
		}
		c.stop()
		if took := time.Since(began); took != time.Second {
			t.Errorf("stopped after %v, want at once", took)
		}
		// To none.
		s.SetRate(1, 1)
		waits := s.Share(0, 0).Flow()
		waits.Acquire(1, nil)
		passed := make(chan error, 1)
		go func() { passed <- waits.Acquire(MaxPiece, nil) }()
		synctest.Wait()
		s.SetRate(0, 0)
		synctest.Wait()
		select {
		case err := <-passed:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("still waits without a cap")
		}
	})
}

func TestStop(t *testing.T) {
	for name, share := range map[string]int64{"at the relay": 0, "at the share": 1} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				s := New(1000, 1000)
				if share != 0 {
					s.SetRate(mB, 0)
				}
				sh := s.Share(share, 1)
				first := sh.Flow()
				first.Acquire(1000, nil) // empties the bucket
				began := time.Now()
				a, b := sh.Flow(), sh.Flow()
				errs, done := make(chan error, 2), make(chan struct{})
				go func() { errs <- a.Acquire(1000, done) }()
				go func() { errs <- b.Acquire(1000, nil) }()
				synctest.Wait()
				if err := a.Acquire(1, nil); !errors.Is(err, errBusy) {
					t.Errorf("second call: got %v, want %v", err, errBusy)
				}
				close(done)
				b.Close()
				synctest.Wait()
				for range 2 {
					if err := <-errs; !errors.Is(err, ErrStopped) {
						t.Errorf("got %v, want %v", err, ErrStopped)
					}
				}
				if time.Since(began) != 0 || s.Waiting() != 0 {
					t.Errorf("took %v, %d still wait", time.Since(began), s.Waiting())
				}
				// One that was done can be used again.
				if share == 0 {
					if err := a.Acquire(1000, nil); err != nil || time.Since(began) > time.Second+time.Microsecond {
						t.Errorf("again: %v after %v, want none after 1s: nothing may be lost", err, time.Since(began))
					}
				}
			})
		})
	}
}

// TestGivesBack what a share had let pass when the relay's cap did not.
func TestGivesBack(t *testing.T) {
	simulate(t, func(t *testing.T) {
		s := New(1, 1)
		sh := s.Share(1000, 1000)
		f := sh.Flow()
		s.SetRate(0, 0)
		s.SetRate(1, 1)
		if err := s.Share(0, 0).Flow().Acquire(1, nil); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		time.AfterFunc(500*time.Millisecond, func() { close(done) })
		if err := f.Acquire(1000, done); !errors.Is(err, ErrStopped) {
			t.Fatalf("got %v, want %v", err, ErrStopped)
		}
		s.SetRate(0, 0)
		began := time.Now()
		if err := f.Acquire(1000, nil); err != nil || time.Since(began) != 0 {
			t.Errorf("got %v after %v, want the bytes that were given back, at once", err, time.Since(began))
		}
		if f.atShare.tag != 1000 {
			t.Errorf("has had %d, want 1000", f.atShare.tag)
		}
	})
}

func TestManyFlows(t *testing.T) {
	simulate(t, func(t *testing.T) {
		const flows = 10_000
		s, c := New(40*mB, 0), newCrowd()
		var loads []*load
		for i := range flows {
			f := s.Share(0, 0).Flow()
			if i%2 == 0 {
				loads = append(loads, c.greedy(f, 4<<10))
			} else {
				loads = append(loads, c.interactive(f, 100, time.Second))
			}
		}
		time.Sleep(2 * time.Second)
		c.stop()
		var total int64
		for i, l := range loads {
			total += l.bytes.Load()
			if l.bytes.Load() == 0 {
				t.Fatalf("flow %d got nothing", i)
			}
			if i%2 == 1 && l.p99() > time.Second {
				t.Fatalf("flow %d waited for %v", i, l.p99())
			}
		}
		within(t, "cap", total, 80*mB, 2)
		if s.Waiting() != 0 {
			t.Errorf("%d still wait", s.Waiting())
		}
	})
}
