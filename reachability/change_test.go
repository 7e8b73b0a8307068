package reachability

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2/pb"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/testnet"
)

// mapped is a subject behind a strict box with servers that reach it at an
// address only while open says so.
func mapped(t *testing.T, n *testnet.Net, servers int) (s *subject, addr ma.Multiaddr, open *atomic.Bool) {
	box := n.NAT("box", testnet.PortRestricted())
	m := box.Host("subject")
	s = track(t, start(t, m, true))
	addr = ma.StringCast(fmt.Sprintf("/ip4/%s/udp/4001/quic-v1", box.WAN()))
	open = new(atomic.Bool)
	for i := range servers {
		helper := start(t, box.Host(fmt.Sprint("helper", i)), false) // the router's part
		connect(t, s, script(t, n.Host(fmt.Sprint("server", i)), func(_ *scripted, r request) {
			status := pb.DialStatus_E_DIAL_ERROR
			if open.Load() && r.addr.Equal(addr) && dialBack(helper, s.ID(), m.ListenAddr(port), r.nonce) == nil {
				status = pb.DialStatus_OK
			}
			r.respond(pb.DialResponse_OK, status, 0)
		}))
	}
	return s, addr, open
}

func TestMapping(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		s, addr, open := mapped(t, n, 2)
		s.await(t, "private", 5*time.Second, func(v Verdict) bool { return v.Reachability == Private && !v.Weak })
		open.Store(true)
		s.tracker.SetMapped([]ma.Multiaddr{addr})
		v, took := s.await(t, "public", 3*time.Second, func(v Verdict) bool { return v.Reachability == Public && !v.Weak })
		if a := v.Addrs[0]; a.Source != "mapping" || a.Addr != addr.String() || !v.Proven || v.NeedsRelay() {
			t.Errorf("got %+v, want public by the mapping, and no relay", v)
		}
		t.Logf("public %v after the mapping: %s", took, v.Because)
		s.tracker.SetMapped(nil)
		s.await(t, "private again", time.Second, is(Private))
	})
}

// TestFlappingAddress: an address that comes and goes turns the verdict a few
// times, and counts once it stays.
func TestFlappingAddress(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		s, addr, open := mapped(t, n, 2)
		open.Store(true)
		s.await(t, "private", 5*time.Second, func(v Verdict) bool { return v.Reachability == Private && !v.Weak })
		before := s.turns()
		for range 200 {
			s.tracker.SetMapped([]ma.Multiaddr{addr})
			time.Sleep(3 * time.Second)
			s.tracker.SetMapped(nil)
			time.Sleep(3 * time.Second)
		}
		if got := s.turns() - before; got > 6 {
			t.Errorf("the answer turned %d times in 20 minutes, want 6 at most", got)
		}
		s.tracker.SetMapped([]ma.Multiaddr{addr})
		_, took := s.await(t, "public", maxFlapWait+10*time.Second, is(Public))
		t.Logf("%d turns; public %v after it stays", s.turns()-before, took)
	})
}

// TestNetworkChanges: after each change the verdict is found again, soon, and
// nothing is left of 1000 of them.
func TestNetworkChanges(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		s, addr, open := mapped(t, n, 2)
		s.tracker.SetMapped([]ma.Multiaddr{addr})
		s.await(t, "private", 5*time.Second, func(v Verdict) bool { return v.Reachability == Private && !v.Weak })
		var goroutines int
		slowest := make(map[Reachability]time.Duration)
		for i := range 1000 {
			time.Sleep(20 * time.Second) // servers serve 12 a minute
			want := []Reachability{Public, Private}[i%2]
			open.Store(want == Public)
			s.tracker.NetworkChanged()
			_, took := s.await(t, "verdict", 5*time.Second, is(want))
			slowest[want] = max(slowest[want], took)
			if i == 10 {
				goroutines = runtime.NumGoroutine()
			}
		}
		time.Sleep(time.Minute)
		if got := runtime.NumGoroutine(); got > goroutines+5 {
			t.Errorf("%d goroutines after 1000 changes, %d after ten", got, goroutines)
		}
		v := s.tracker.Verdict()
		s.tracker.client.mu.Lock()
		pending := len(s.tracker.client.pending)
		s.tracker.client.mu.Unlock()
		if len(v.Addrs) > 2 || pending > 0 {
			t.Errorf("%d addresses and %d nonces are left: %+v", len(v.Addrs), pending, v.Addrs)
		}
		if got := s.turns(); got > 1003 {
			t.Errorf("%d turns by 1000 changes", got)
		}
		t.Logf("public within %v, private within %v", slowest[Public], slowest[Private])
	})
}

// TestChangeToTheSame: nothing happens to the verdict when the network is as
// good as before, however often that is said.
func TestChangeToTheSame(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		s := track(t, start(t, n.Host("subject"), true))
		for i := range 2 {
			connect(t, s, start(t, n.Host(fmt.Sprint("server", i)), true))
		}
		s.await(t, "public", 3*time.Second, func(v Verdict) bool { return v.Reachability == Public && !v.Weak })
		before := s.turns()
		for range 100 {
			s.tracker.NetworkChanged()
			time.Sleep(time.Second)
		}
		if v := s.tracker.Verdict(); v.Reachability != Public || s.turns() != before {
			t.Errorf("got %s, %d turns, want public all the time", v.Reachability, s.turns()-before)
		}
	})
}

// stockish is a script with the limits of go-libp2p's server: two requests at a
// time, each for as long as a dial into the void takes.
func stockish(t *testing.T) func(*scripted, request) {
	var inFlight atomic.Int32
	return func(_ *scripted, r request) {
		defer inFlight.Add(-1)
		if int(inFlight.Add(1)) > maxPerServer {
			r.respond(pb.DialResponse_E_REQUEST_REJECTED, pb.DialStatus_UNUSED, 0)
			return
		}
		select {
		case <-time.After(5 * time.Second):
			r.respond(pb.DialResponse_OK, pb.DialStatus_E_DIAL_ERROR, 0)
		case <-t.Context().Done():
		}
	}
}

// TestAllAddressesSoon: 3 transports × 2 families, all dead, 2 servers.
func TestAllAddressesSoon(t *testing.T) {
	var usual, apart []ma.Multiaddr
	for _, ip := range []string{"/ip4/11.9.9.9", "/ip6/2a01::9"} {
		for _, rest := range []string{"/udp/4001/quic-v1", "/tcp/4001", "/tcp/4001/ws"} {
			usual = append(usual, ma.StringCast(ip+rest))
		}
		for _, rest := range []string{"/udp/4001/quic-v1", "/tcp/4001", "/tcp/443/ws"} {
			apart = append(apart, ma.StringCast(ip+rest))
		}
	}
	for _, c := range []struct {
		name   string
		addrs  []ma.Multiaddr
		within time.Duration
	}{
		{"TCP and WebSocket on one port", usual, 3 * time.Second},
		{"each on its own", apart, 6 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, func(t *testing.T, n *testnet.Net) {
				var servers []host.Host
				for i := range 2 {
					servers = append(servers, script(t, n.Host(fmt.Sprint("server", i)), stockish(t)))
				}
				s := track(t, start(t, n.NAT("box", testnet.PortRestricted()).Host("subject"), true), c.addrs...)
				for _, srv := range servers {
					connect(t, s, srv)
				}
				_, took := s.await(t, "all private", c.within, func(v Verdict) bool {
					private := 0
					for _, a := range v.Addrs {
						if a.Source == "announced" && a.Reachability == Private {
							private++
						}
					}
					return private == 6
				})
				t.Logf("all 6 after %v", took)
			})
		})
	}
}
