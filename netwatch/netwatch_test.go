package netwatch

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/causeway-p2p/causeway/internal/virtual"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func ips(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func state(routes [2]route, up ...string) snapshot {
	s := snapshot{addrs: make(map[netip.Addr]bool), routes: routes}
	for _, a := range ips(up...) {
		s.addrs[a] = true
	}
	return s
}

var viaHome = [2]route{{dev: "wlan0", gateway: netip.MustParseAddr("192.168.1.1")}}

func TestCompare(t *testing.T) {
	unplugged := state(viaHome, "192.168.1.10")
	unplugged.addrs[ips("192.168.1.10")[0]] = false
	viaOffice := [2]route{{dev: "wlan0", gateway: netip.MustParseAddr("10.0.0.1")}}
	for _, c := range []struct {
		name     string
		from, to snapshot
		want     Change
		text     string
	}{
		{"same", state(viaHome, "192.168.1.10"), state(viaHome, "192.168.1.10"), Change{}, "nothing changed"},
		{
			"roamed", state(viaHome, "192.168.1.10", "2001:db8::2"), state(viaOffice, "10.0.0.7"),
			Change{Added: ips("10.0.0.7"), Removed: ips("192.168.1.10", "2001:db8::2"), Route: true},
			"192.168.1.10 is gone, 2001:db8::2 is gone, 10.0.0.7 is new, default route changed",
		},
		{"cable pulled", state(viaHome, "192.168.1.10"), unplugged, Change{Link: true}, "link lost or regained"},
		{"IPv6 came", state(viaHome), state([2]route{viaHome[0], {dev: "wlan0"}}), Change{Route: true}, "default route changed"},
		{
			"a container host", state(viaHome), state(viaHome, "172.17.0.1", "172.18.0.1", "172.19.0.1", "172.20.0.1", "172.21.0.1"),
			Change{Added: ips("172.17.0.1", "172.18.0.1", "172.19.0.1", "172.20.0.1", "172.21.0.1")},
			"172.17.0.1 is new, 172.18.0.1 is new, 172.19.0.1 is new, and 2 more",
		},
	} {
		var got Change
		c.from.compare(c.to, &got)
		if !reflect.DeepEqual(got, c.want) || got.String() != c.text || got.None() != (c.name == "same") {
			t.Errorf("%s: got %+v %q, want %+v %q", c.name, got, got, c.want, c.text)
		}
	}
}

func TestCounts(t *testing.T) {
	for addr, want := range map[string]bool{
		"192.168.1.10/24": true, "2001:db8::1/64": true, "fd00::1/64": true, "100.64.1.1/10": true,
		"127.0.0.1/8": false, "::1/128": false, "fe80::1/64": false, "169.254.1.1/16": false,
	} {
		ip, n, err := net.ParseCIDR(addr)
		if err != nil {
			t.Fatal(err)
		}
		n.IP = ip
		if got, ok := counts(n); ok != want || ok && got.String() != ip.String() {
			t.Errorf("%s: got %v %t, want %t", addr, got, ok, want)
		}
	}
	if _, ok := counts(&net.UnixAddr{}); ok {
		t.Error("a socket's path counts")
	}
}

// fake is a system in virtual time.
type fake struct {
	hint  chan struct{}
	tells error // if not nil, it does not

	mu     sync.Mutex // guards the fields below
	state  snapshot
	broken error
	ahead  time.Duration // of the wall clock
	got    []Change
	at     []time.Duration
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fake) start(t *testing.T) {
	began := time.Now()
	w := watcher{
		read: func() (snapshot, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.state, f.broken
		},
		clocks: func() (time.Time, time.Duration) {
			f.mu.Lock()
			defer f.mu.Unlock()
			return time.Now().Round(0).Add(f.ahead), time.Since(began)
		},
	}
	f.hint = make(chan struct{})
	hints := func(ctx context.Context, hinted chan<- struct{}) error {
		if f.tells != nil {
			return f.tells
		}
		for {
			select {
			case <-f.hint:
			case <-ctx.Done():
				return nil
			}
			select {
			case hinted <- struct{}{}:
			default:
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- w.run(ctx, hints, func(c Change) {
			f.set(func() { f.got, f.at = append(f.got, c), append(f.at, time.Since(began)) })
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
}

// become changes the state and says so.
func (f *fake) become(s snapshot) {
	f.set(func() { f.state = s })
	f.hint <- struct{}{}
	synctest.Wait()
}

func (f *fake) expect(t *testing.T, want ...Change) {
	t.Helper()
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !reflect.DeepEqual(f.got, want) {
		t.Errorf("got %v, want %v", f.got, want)
	}
	f.got, f.at = nil, nil
}

// TestRoaming: one call for what happens within a moment, and none for what
// does not matter.
func TestRoaming(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		f := &fake{state: state(viaHome, "192.168.1.10")}
		f.start(t)
		for range 100 {
			f.become(f.state) // veths come and go
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		f.expect(t)

		f.become(state([2]route{}))
		time.Sleep(100 * time.Millisecond)
		f.become(state([2]route{}, "10.0.0.7"))
		time.Sleep(100 * time.Millisecond)
		f.become(state(viaHome, "10.0.0.7"))
		time.Sleep(settle)
		synctest.Wait()
		if len(f.at) != 1 || f.at[0] != time.Minute+time.Second+settle {
			t.Errorf("told at %v, want %v after it began", f.at, settle)
		}
		f.expect(t, Change{Added: ips("10.0.0.7"), Removed: ips("192.168.1.10")})

		// What came while the first settled is not forgotten.
		f.become(state(viaHome, "10.0.0.7", "10.0.0.8"))
		time.Sleep(settle + time.Millisecond)
		f.become(state(viaHome, "10.0.0.8"))
		time.Sleep(time.Second)
		f.expect(t, Change{Added: ips("10.0.0.8")}, Change{Removed: ips("10.0.0.7")})

		// A moment in which nothing can be read is no change.
		f.set(func() { f.broken = errors.New("out of memory") })
		f.become(state(viaHome))
		time.Sleep(time.Second)
		f.set(func() { f.broken = nil })
		f.expect(t)
		f.become(state(viaHome))
		time.Sleep(time.Second)
		f.expect(t, Change{Removed: ips("10.0.0.8")})
	})
}

func TestSleep(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		f := &fake{state: state(viaHome, "192.168.1.10")}
		f.start(t)
		f.set(func() { f.ahead += slept }) // a clock that was corrected
		time.Sleep(time.Minute)
		f.set(func() { f.ahead -= time.Hour })
		time.Sleep(time.Minute)
		f.expect(t)

		f.set(func() { f.ahead += 3 * time.Hour })
		f.set(func() { f.state = state(viaHome, "192.168.1.11") }) // the kernel's word comes later
		time.Sleep(tick)
		f.expect(t, Change{Added: ips("192.168.1.11"), Removed: ips("192.168.1.10"), Slept: 3 * time.Hour})
		f.become(f.state)
		time.Sleep(time.Minute)
		f.expect(t)
	})
}

// TestPolling is what systems without hints get.
func TestPolling(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		f := &fake{state: state(viaHome, "192.168.1.10"), tells: errors.ErrUnsupported}
		f.start(t)
		f.set(func() { f.state = state(viaHome) })
		time.Sleep(tick)
		f.expect(t, Change{Removed: ips("192.168.1.10")})
		time.Sleep(time.Minute)
		f.expect(t)
	})
}

func TestNoInterfaces(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		want := errors.New("not allowed")
		w := watcher{read: func() (snapshot, error) { return snapshot{}, want }, clocks: systemClocks()}
		deaf := func(ctx context.Context, _ chan<- struct{}) error { <-ctx.Done(); return nil }
		if err := w.run(t.Context(), deaf, func(Change) {}); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	})
}

// TestRun is on this machine, whatever it has; package natlab has the test in
// which things happen.
func TestRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, func(Change) {}) }()
	if _, err := read(); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
