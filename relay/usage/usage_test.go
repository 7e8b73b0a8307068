package usage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/goleak"

	"github.com/causeway-p2p/causeway/internal/virtual"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// crash ends a store as a power cut would, between two transactions.
func crash(t *testing.T, s *Store) {
	t.Helper()
	if err := s.disk.close(); err != nil {
		t.Fatal(err)
	}
	s.closing.Do(func() {})
}

func count(s *Store, p peer.ID, bytes int64) {
	a := s.Account(p)
	defer a.Release()
	a.AddBytes(bytes)
}

func wantBytes(t testing.TB, s *Store, p peer.ID, want int64) {
	t.Helper()
	if u, ok := s.Get(p); u.Bytes != want || ok != (want != 0) {
		t.Errorf("%s: got %d bytes (%v), want %d", p, u.Bytes, ok, want)
	}
}

func (s *Store) inMemory() (live, idle int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.live), s.idle
}

func TestRestart(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "usage.db")
		s := open(t, path)
		began := time.Now().UTC()
		a := s.Account("a")
		a.AddBytes(100)
		a.AddCircuit()
		a.AddRefusal()
		a.AddRefusal()
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		a.AddBytes(11)
		a.Release()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("closed again: %v", err)
		}

		s = open(t, path)
		want := Usage{Peer: "a", Bytes: 111, MonthBytes: 111, Circuits: 1, Refusals: 2, First: began, Last: began.Add(time.Minute)}
		if u, ok := s.Get("a"); !ok || u != want {
			t.Errorf("got %+v, want %+v", u, want)
		}
		a = s.Account("a")
		defer a.Release()
		if u := a.Usage(); u != want || a.MonthBytes() != 111 {
			t.Errorf("got %+v, want %+v", u, want)
		}
		if _, ok := s.Get("b"); ok {
			t.Error("a stranger is known")
		}
	})
}

func TestKill(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "usage.db")
		s := open(t, path)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		a := s.Account("a")
		a.AddBytes(100)
		time.Sleep(31 * time.Second)
		a.AddBytes(10)
		crash(t, s)
		cancel()
		if err := <-ended; err == nil {
			t.Error("the last flush must have failed")
		}
		wantBytes(t, s, "a", 110)

		s = open(t, path)
		wantBytes(t, s, "a", 100)
		count(s, "a", 1)
		wantBytes(t, s, "a", 101)
	})
}

func TestRun(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "usage.db")
		s := open(t, path)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		count(s, "a", 1)
		s.Account("stranger").Release()
		held := s.Account("held")
		held.AddBytes(1)
		if live, idle := s.inMemory(); live != 2 || idle != 1 {
			t.Errorf("%d live, %d idle, want 2 and 1", live, idle)
		}
		time.Sleep(31 * time.Second)
		if live, idle := s.inMemory(); live != 1 || idle != 0 || s.disk.count() != 2 {
			t.Errorf("after a flush: %d live, %d idle, %d on disk; want 1, 0, 2", live, idle, s.disk.count())
		}
		held.Release()
		if live, _ := s.inMemory(); live != 0 {
			t.Errorf("%d live, want none: the account is clean", live)
		}
		count(s, "late", 1)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if s.disk.count() != 3 {
			t.Errorf("%d on disk, want 3: the end flushes", s.disk.count())
		}
	})
}

// TestConcurrent: nothing is lost or counted twice while accounts come and go
// and are written.
func TestConcurrent(t *testing.T) {
	for _, path := range []string{"", filepath.Join(t.TempDir(), "usage.db")} {
		s := open(t, path)
		const workers, rounds, peers = 8, 2000, 20
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(1, uint64(w)))
				for range rounds {
					a := s.Account(peer.ID(rune('a' + rng.IntN(peers))))
					a.AddBytes(3)
					a.AddCircuit()
					a.MonthBytes()
					a.Release()
				}
			})
		}
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := s.Flush(); err != nil {
					t.Error(err)
				}
				if _, err := s.Top(5, ByBytes); err != nil {
					t.Error(err)
				}
			}
		}()
		wg.Wait()
		close(stop)
		<-stopped
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if live, idle := s.inMemory(); live != 0 || idle != 0 {
			t.Errorf("%d live, %d idle, want none", live, idle)
		}
		if path != "" {
			s = open(t, path)
		}
		var bytes, month, circuits int64
		for p := range peers {
			u, _ := s.Get(peer.ID(rune('a' + p)))
			bytes, month, circuits = bytes+u.Bytes, month+u.MonthBytes, circuits+u.Circuits
		}
		if bytes != 3*workers*rounds || month != bytes || circuits != workers*rounds {
			t.Errorf("%q: %d bytes, %d this month, %d circuits; want %d, the same, %d", path, bytes, month, circuits, 3*workers*rounds, workers*rounds)
		}
	}
}

// TestMemoryIsBounded: peers that come once leave nothing, and those that count
// something only until the next flush.
func TestMemoryIsBounded(t *testing.T) {
	s := open(t, "")
	for i := range 1000 {
		s.Account(peer.ID(fmt.Sprint("stranger", i))).Release()
	}
	if live, idle := s.inMemory(); live != 0 || idle != 0 {
		t.Errorf("%d live, %d idle, want none", live, idle)
	}
	s.maxIdle = 40
	for i := range 100 {
		count(s, peer.ID(fmt.Sprint("peer", i)), 1)
	}
	if live, idle := s.inMemory(); live != 40 || idle != 40 {
		t.Errorf("%d live, %d idle, want 40", live, idle)
	}
	select {
	case <-s.early:
	default:
		t.Error("no early flush asked for")
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	if live, idle := s.inMemory(); live != 0 || idle != 0 || s.disk.count() != 40 {
		t.Errorf("%d live, %d idle, %d kept, want 0, 0, 40", live, idle, s.disk.count())
	}
}

func TestPrune(t *testing.T) {
	for _, path := range []string{"", "usage.db"} {
		virtual.Test(t, func(t *testing.T) {
			if path != "" {
				path = filepath.Join(t.TempDir(), path)
			}
			s := open(t, path)
			s.maxRecords = 100
			for i := range 20 {
				count(s, peer.ID(fmt.Sprintf("big%02d", i)), small)
			}
			for i := range 80 {
				count(s, peer.ID(fmt.Sprintf("old%02d", i)), int64(1+i))
				time.Sleep(time.Second)
				if err := s.Flush(); err != nil {
					t.Fatal(err)
				}
			}
			if s.disk.count() != 100 {
				t.Fatalf("%d on disk, want 100", s.disk.count())
			}
			count(s, "new", 1)
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
			if s.disk.count() != 95 {
				t.Errorf("%d on disk, want 95", s.disk.count())
			}
			wantBytes(t, s, "new", 1)
			wantBytes(t, s, "big00", small)
			wantBytes(t, s, "old05", 0)
			wantBytes(t, s, "old06", 7)
		})
	}
}

func TestTop(t *testing.T) {
	s := open(t, "")
	for i := range 50 {
		a := s.Account(peer.ID(fmt.Sprintf("p%02d", i)))
		a.AddBytes(int64(i * 10))
		for range 50 - i {
			a.AddCircuit()
		}
		if i%2 == 0 {
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
			a.AddBytes(1) // what is in memory counts, not what is on disk
			defer a.Release()
			continue
		}
		a.Release()
	}
	names := func(n int, by By) string {
		t.Helper()
		top, err := s.Top(n, by)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, u := range top {
			fmt.Fprintf(&b, "%s:%d ", string(u.Peer), by.of(u))
		}
		return b.String()
	}
	for _, c := range []struct {
		n    int
		by   By
		want string
	}{
		{3, ByBytes, "p49:490 p48:481 p47:470 "},
		{2, ByMonthBytes, "p49:490 p48:481 "},
		{3, ByCircuits, "p00:50 p01:49 p02:48 "},
		{3, ByRefusals, ""},
		{0, ByBytes, ""},
		{-1, ByBytes, ""},
	} {
		if got := names(c.n, c.by); got != c.want {
			t.Errorf("top %d by %s: got %q, want %q", c.n, c.by, got, c.want)
		}
	}
	if top, _ := s.Top(1<<30, ByCircuits); len(top) != 50 {
		t.Errorf("got %d, want all 50", len(top))
	}
}

// TestFailingDisk: Run asks it again every half minute, however many want to be
// written early.
func TestFailingDisk(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		s := open(t, "")
		bad := &broken{memory: newMemory()}
		s.disk, s.maxIdle = bad, 4
		go s.Run(t.Context())
		for i := range 1000 {
			count(s, peer.ID(fmt.Sprint(i)), 1)
			time.Sleep(time.Second)
		}
		if got := bad.updates.Load(); got < 1000/30 || got > 1000/30+2 {
			t.Errorf("%d tries, want %d", got, 1000/30)
		}
		if live, _ := s.inMemory(); live != 4 {
			t.Errorf("%d live, want 4", live)
		}
	})
}

// TestFlushFails: all is kept for the next time.
func TestFlushFails(t *testing.T) {
	s := open(t, "")
	good, bad := s.disk, &broken{memory: newMemory()}
	s.disk = bad
	count(s, "a", 5)
	if err := s.Flush(); !errors.Is(err, errBroken) {
		t.Errorf("got %v, want %v", err, errBroken)
	}
	count(s, "a", 5)
	s.disk = good
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, s, "a", 10)
}

var errBroken = errors.New("disk full")

type broken struct {
	*memory
	updates atomic.Int64
}

func (b *broken) update([]entry, []peer.ID) error {
	b.updates.Add(1)
	return errBroken
}

func BenchmarkAddBytes(b *testing.B) {
	s := open(b, "")
	a := s.Account("a")
	defer a.Release()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			a.AddBytes(64 << 10)
		}
	})
}

// BenchmarkAddLocked is the alternative: a counter with a lock.
func BenchmarkAddLocked(b *testing.B) {
	var mu sync.Mutex
	var bytes int64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			mu.Lock()
			bytes += 64 << 10
			mu.Unlock()
		}
	})
}

func BenchmarkAccount(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "usage.db"))
	for i := range 1000 {
		count(s, peer.ID(fmt.Sprint(i)), 1)
	}
	s.Flush()
	for b.Loop() {
		s.Account("500").Release()
	}
}

// BenchmarkFlush writes 10 000 accounts of 100 000.
func BenchmarkFlush(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "usage.db"))
	var list []*Account
	id := func(i int) peer.ID { return peer.ID(fmt.Sprintf("%032x", uint32(i)*2654435761)) }
	for i := range 100_000 {
		a := s.Account(id(i))
		a.AddBytes(1)
		if i%10 == 0 {
			list = append(list, a)
			continue
		}
		a.Release()
		if i%10_000 == 0 {
			s.Flush()
		}
	}
	s.Flush()
	for b.Loop() {
		for _, a := range list {
			a.AddBytes(1)
		}
		if err := s.Flush(); err != nil {
			b.Fatal(err)
		}
	}
}
