package discovery

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	drouting "github.com/libp2p/go-libp2p/p2p/discovery/routing"

	"github.com/causeway-p2p/causeway/testnet"
)

// fakeRouting is a DHT that notes what it is told.
type fakeRouting struct {
	begun time.Time
	fail  func(n int) error // for the n-th announcement; may block

	mu       sync.Mutex // guards the fields below
	provided []time.Duration
	keys     map[cid.Cid]int
}

func (r *fakeRouting) Provide(ctx context.Context, key cid.Cid, announce bool) error {
	r.mu.Lock()
	if !announce {
		panic("an announcement that is none")
	}
	r.provided = append(r.provided, time.Since(r.begun))
	if r.keys == nil {
		r.keys = make(map[cid.Cid]int)
	}
	r.keys[key]++
	n := len(r.provided)
	r.mu.Unlock()
	if r.fail == nil {
		return nil
	}
	if err := r.fail(n); !errors.Is(err, errHang) {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

var errHang = errors.New("hang until the context ends")

func (r *fakeRouting) FindProvidersAsync(ctx context.Context, key cid.Cid, n int) <-chan peer.AddrInfo {
	ch := make(chan peer.AddrInfo)
	close(ch)
	return ch
}

// since returns when announcements were made, counted from a time.
func (r *fakeRouting) since(t time.Time) (at []time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.provided {
		if d := p - t.Sub(r.begun); d >= 0 {
			at = append(at, d)
		}
	}
	return at
}

// announcing starts an announcer on a fake DHT.
func announcing(t *testing.T, n *testnet.Net, fail func(int) error) (*Discovery, *fakeRouting, chan error) {
	r := &fakeRouting{begun: time.Now(), fail: fail}
	told := make(chan error, 1000)
	d := New(Config{Host: start(t, n.Host("self")), Routing: r, Found: func(Candidate) {}, Announced: func(err error) { told <- err }})
	run(t, d)
	return d, r, told
}

func TestAnnounce(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		d, r, told := announcing(t, n, nil)
		d.AddrsChanged() // while off
		time.Sleep(time.Hour)
		if got := r.since(r.begun); len(got) > 0 {
			t.Fatalf("announced after %v, without being told to", got)
		}

		// On: at once, and again every 20 minutes at most.
		begun := time.Now()
		d.Announce(true)
		time.Sleep(2 * time.Hour)
		all := r.since(begun)
		if len(all) < 6 || all[0] != 0 {
			t.Fatalf("announced after %v, want at once and then every 20 minutes", all)
		}
		for i := range all[1:] {
			if gap := all[i+1] - all[i]; gap > announceEvery || gap < announceEvery/2 {
				t.Errorf("announcement %d came %v after the one before, want at most %v", i+1, gap, announceEvery)
			}
		}
		if len(told) != len(all) {
			t.Errorf("told of %d announcements, want %d", len(told), len(all))
		}

		// A burst of address changes is one more announcement, in seconds.
		time.Sleep(time.Minute)
		begun = time.Now()
		for range 50 {
			d.AddrsChanged()
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(announceGap + time.Second)
		if got := r.since(begun); len(got) != 1 || got[0] > announceGap {
			t.Errorf("50 changes in half a second: announced after %v, want once within %v", got, announceGap)
		}
		// Changes without end are announced without end, but not more often.
		begun = time.Now()
		for range 60 {
			d.AddrsChanged()
			time.Sleep(time.Second)
		}
		if got := len(r.since(begun)); got < 8 || got > 13 {
			t.Errorf("a change a second for a minute: %d announcements, want one per %v", got, announceGap)
		}

		// Off, and on again.
		d.Announce(false)
		time.Sleep(announceGap)
		begun = time.Now()
		d.AddrsChanged()
		time.Sleep(time.Hour)
		if got := r.since(begun); len(got) > 0 {
			t.Errorf("switched off, and announced after %v", got)
		}
		begun = time.Now()
		d.Announce(true)
		synctest.Wait()
		if got := r.since(begun); len(got) != 1 {
			t.Errorf("switched on again: %d announcements at once, want 1", len(got))
		}
		if len(r.keys) != 1 {
			t.Errorf("announced under %d keys, want 1", len(r.keys))
		}
	})
}

func TestAnnounceAfterFailure(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		const failures = 12
		d, r, told := announcing(t, n, func(n int) error {
			switch {
			case n == 3:
				return errHang
			case n <= failures:
				return errors.New("no peers in table")
			}
			return nil
		})
		d.Announce(true)
		time.Sleep(time.Hour)
		all := r.since(r.begun)
		retry := announceRetry
		for i := range failures {
			took := time.Duration(0)
			if i+1 == 3 {
				took = announceTimeout
			}
			if gap := all[i+1] - all[i] - took; gap < retry/2 || gap > retry {
				t.Errorf("retry %d: after %v, want %v to %v", i+1, gap, retry/2, retry)
			}
			retry = min(2*retry, maxAnnounceRetry)
		}
		if gap := all[failures+1] - all[failures]; gap < announceEvery/2 {
			t.Errorf("after the first success: again after %v, want about %v", gap, announceEvery)
		}
		for i := range failures + 1 {
			if err := <-told; (err == nil) != (i == failures) {
				t.Errorf("announcement %d: told %v", i+1, err)
			}
		}
	})
}

// TestAddrsChangeWhileRetrying must not make the retry wait longer.
func TestAddrsChangeWhileRetrying(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		d, r, _ := announcing(t, n, func(n int) error {
			if n == 1 {
				return errors.New("no peers in table")
			}
			return nil
		})
		d.Announce(true)
		synctest.Wait()
		d.AddrsChanged()
		time.Sleep(time.Minute)
		if got := r.since(r.begun); len(got) != 2 || got[1] > announceRetry {
			t.Errorf("announced after %v, want the retry within %v", got, announceRetry)
		}
	})
}

// TestStopWhileAnnouncing: nobody is told of an announcement that the end of
// Run broke off.
func TestStopWhileAnnouncing(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := &fakeRouting{begun: time.Now(), fail: func(int) error { return errHang }}
		d := New(Config{
			Host: start(t, n.Host("self")), Routing: r, Found: func(Candidate) {},
			Announced: func(err error) { t.Errorf("told of %v", err) },
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- d.Run(ctx) }()
		d.Announce(true)
		synctest.Wait()
		cancel()
		if err := <-done; err != nil || len(r.since(r.begun)) != 1 {
			t.Errorf("Run: got %v after %d announcements", err, len(r.provided))
		}
	})
}

// keySeen is a DHT that only remembers the key.
type keySeen struct {
	fakeRouting
	key cid.Cid
}

func (k *keySeen) Provide(_ context.Context, key cid.Cid, _ bool) error { k.key = key; return nil }

// TestKeyIsThatOfGoLibp2p holds that users of go-libp2p's routing discovery
// find us under the namespace's name.
func TestKeyIsThatOfGoLibp2p(t *testing.T) {
	var theirs keySeen
	if _, err := drouting.NewRoutingDiscovery(&theirs).Advertise(t.Context(), Namespace); err != nil {
		t.Fatal(err)
	}
	if got, err := rendezvousKey(Namespace); err != nil || !got.Equals(theirs.key) {
		t.Errorf("key of %s: got %v, %v, want %v", Namespace, got, err, theirs.key)
	}
}
