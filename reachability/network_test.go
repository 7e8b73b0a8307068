package reachability

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/testnet"
)

// TestVerdictByNetwork asks stock AutoNAT v2 servers, from behind every kind of
// box.
func TestVerdictByNetwork(t *testing.T) {
	behind := func(cfg testnet.NATConfig) func(*testnet.Net) *testnet.Host {
		return func(n *testnet.Net) *testnet.Host { return n.NAT("box", cfg).Host("subject") }
	}
	for _, c := range []struct {
		name    string
		machine func(*testnet.Net) *testnet.Host
		servers int
		want    Reachability
		weak    bool
		insured bool
		within  time.Duration
	}{
		{"public", func(n *testnet.Net) *testnet.Host { return n.Host("subject") }, 1, Public, true, false, 2 * time.Second},
		{"public", func(n *testnet.Net) *testnet.Host { return n.Host("subject") }, 2, Public, false, false, 3 * time.Second},
		{"full cone", behind(testnet.FullCone()), 1, Public, true, true, 2 * time.Second},
		{"address-restricted", behind(testnet.AddressRestricted()), 2, Public, false, true, 3 * time.Second},
		{"port-restricted", behind(testnet.PortRestricted()), 1, Private, true, false, 4 * time.Second},
		{"port-restricted", behind(testnet.PortRestricted()), 2, Private, false, false, 4 * time.Second},
		{"symmetric", behind(testnet.Symmetric()), 1, Private, true, false, 4 * time.Second},
		{"symmetric", behind(testnet.Symmetric()), 3, Private, false, false, 4 * time.Second},
		{"CGNAT", func(n *testnet.Net) *testnet.Host {
			return n.NAT("carrier", testnet.PortRestricted()).NAT("home", testnet.PortRestricted()).Host("subject")
		}, 1, Private, true, false, 4 * time.Second},
	} {
		t.Run(fmt.Sprintf("%s, %d servers", c.name, c.servers), func(t *testing.T) {
			simulate(t, func(t *testing.T, n *testnet.Net) {
				m := c.machine(n)
				s := track(t, start(t, m, true))
				if v := s.tracker.Verdict(); v.Reachability != Unknown || v.Because != "no connected peer offers AutoNAT v2 yet" {
					t.Errorf("without servers: got %q because %q", v.Reachability, v.Because)
				}
				for i := range c.servers {
					connect(t, s, start(t, n.Host(fmt.Sprint("server", i)), true))
				}
				v, took := s.await(t, "verdict", c.within, func(v Verdict) bool {
					return v.Reachability == c.want && v.Weak == c.weak
				})
				t.Logf("%s after %v: %s", v.Reachability, took, v.Because)
				other := Public
				if c.want == Public {
					other = Private
				}
				if s.ever(other) {
					t.Errorf("said %q on the way to %q: %+v", other, c.want, s.verdicts)
				}
				if v.IPv4 != c.want || v.IPv6 != Unknown || v.Insured != c.insured || v.NeedsRelay() == (c.want == Public && !c.insured) {
					t.Errorf("got IPv4 %q, IPv6 %q, insured %v, needs relay %v", v.IPv4, v.IPv6, v.Insured, v.NeedsRelay())
				}
				if !strings.Contains(v.Because, m.PublicIP().String()) {
					t.Errorf("because %q: want it to name %s", v.Because, m.PublicIP())
				}
				// Nothing changes while nothing happens: identify speaks once
				// per connection, and still the address stays.
				time.Sleep(20 * time.Minute)
				if w := s.tracker.Verdict(); w.Reachability != c.want || !w.Since.Equal(v.Since) {
					t.Errorf("20 idle minutes later: got %+v, want %q since %v", w, c.want, v.Since)
				}
				w := s.tracker.Verdict()
				if i := slices.IndexFunc(w.Addrs, func(a AddrVerdict) bool { return a.Reachability == c.want }); i < 0 {
					t.Errorf("no address is %q: %+v", c.want, w.Addrs)
				} else if age := time.Since(w.Addrs[i].LastChecked); age > recheckPublic+time.Minute {
					t.Errorf("checked %v ago, want at most %v", age, recheckPublic)
				}
			})
		})
	}
}

// firewalled is a subject with two servers that dial back from machines of
// their own; shut closes and opens their way.
func firewalled(t *testing.T, n *testnet.Net) (s *subject, servers []*scripted, shut func(bool)) {
	m := n.Host("subject")
	var dialers []*testnet.Host
	for i := range 2 {
		d := n.Host(fmt.Sprint("dialer", i))
		dialers = append(dialers, d)
		servers = append(servers, script(t, n.Host(fmt.Sprint("server", i)), honest(start(t, d, false))))
	}
	shut = func(on bool) {
		for _, d := range dialers {
			if on {
				n.Cut(d, m)
			} else {
				n.Mend(d, m)
			}
		}
	}
	return track(t, start(t, m, true)), servers, shut
}

func total(servers []*scripted) (sum int) {
	for _, s := range servers {
		sum += s.requests()
	}
	return sum
}

func TestHysteresis(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		s, servers, shut := firewalled(t, n)
		for _, srv := range servers {
			connect(t, s, srv)
		}
		s.await(t, "public", 5*time.Second, func(v Verdict) bool { return v.Addrs[0].DialledBy == 2 })

		// One lost dial-back changes nothing.
		before := total(servers)
		shut(true)
		for total(servers) == before {
			time.Sleep(time.Second)
		}
		time.Sleep(dialBackWait)
		shut(false)
		time.Sleep(time.Minute)
		if s.ever(Private) {
			t.Fatalf("one failed dial-back made it private: %+v", s.verdicts)
		}

		// publicPatience in a row do.
		before = total(servers)
		shut(true)
		v, took := s.await(t, "private", recheckPublic+time.Minute, is(Private))
		if got := total(servers) - before; got != publicPatience {
			t.Errorf("private after %d failed dial-backs, want %d", got, publicPatience)
		}
		t.Logf("private %v after the firewall closed: %s", took, v.Because)

		// One that arrives makes it public again.
		before = total(servers)
		shut(false)
		s.await(t, "public again", recheckPrivate+time.Minute, is(Public))
		if got := total(servers) - before; got > 1 { // none, if one under way got through
			t.Errorf("public again after %d dial-backs, want at most 1", got)
		}
	})
}

func TestPrivateUntilThePublicAddressComes(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		s, servers, shut := firewalled(t, n)
		shut(true)
		connect(t, s, servers[0])
		s.await(t, "private", 4*time.Second, is(Private))
		// A new server is asked without waiting for the recheck.
		shut(false)
		connect(t, s, servers[1])
		_, took := s.await(t, "public", confirmSame+5*time.Second, is(Public))
		t.Logf("public after %v", took)
	})
}

func TestEmitsReachability(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		h := start(t, n.Host("subject"), true)
		subscribe := func() event.Subscription {
			sub, err := h.EventBus().Subscribe(new(event.EvtLocalReachabilityChanged))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { sub.Close() })
			return sub
		}
		next := func(sub event.Subscription) string {
			select {
			case e := <-sub.Out():
				return e.(event.EvtLocalReachabilityChanged).Reachability.String()
			case <-time.After(5 * time.Second):
				return "nothing"
			}
		}
		s := track(t, h)
		early := subscribe()
		if got := next(early); got != network.ReachabilityUnknown.String() {
			t.Errorf("first event: got %s, want Unknown in place of what libp2p.ForceReachabilityPublic said", got)
		}
		connect(t, s, start(t, n.Host("server"), true))
		if got := next(early); got != network.ReachabilityPublic.String() {
			t.Errorf("second event: got %s, want Public", got)
		}
		if got := next(early); got != "nothing" {
			t.Errorf("third event: got %s, want none", got)
		}
		if got := next(subscribe()); got != network.ReachabilityPublic.String() {
			t.Errorf("a late subscriber got %s, want Public", got)
		}
	})
}

func TestAnnounced(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		box := n.NAT("box", testnet.PortRestricted())
		m := box.Host("subject")
		h := start(t, m, true)
		public := ma.StringCast(fmt.Sprintf("/ip4/%s/udp/%d/quic-v1", box.WAN(), port))
		s := track(t, h, public)
		v := s.tracker.Verdict()
		if v.Reachability != Unknown {
			t.Errorf("an announced public address counts before it was verified: %+v", v)
		}
		connect(t, s, start(t, n.Host("server0"), true))
		connect(t, s, start(t, n.Host("server1"), true))
		v, _ = s.await(t, "the announced address private", 8*time.Second, func(v Verdict) bool {
			return v.Addrs[0].Reachability == Private
		})
		if v.Addrs[0].Addr != public.String() || v.Addrs[0].Source != "announced" || !v.Unreachable()[public.String()] {
			t.Errorf("the announced address comes first and is unreachable: got %+v", v.Addrs)
		}
	})
}

func TestAnnouncedPrivateCountsOnTheOperatorsWord(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		m := n.NAT("box", testnet.PortRestricted()).Host("subject")
		a := m.ListenAddr(port)
		s := track(t, start(t, m, true), a)
		v, _ := s.await(t, "public", time.Second, is(Public))
		if v.Weak || !strings.Contains(v.Because, "operator") || v.Addrs[0].Addr != a.String() {
			t.Errorf("got %+v, want public by the operator's word on %s", v, a)
		}
		// It stays so although servers find the observed address closed.
		srv := script(t, n.Host("server"), honest(start(t, n.Host("dialer"), false)))
		connect(t, s, srv)
		time.Sleep(time.Minute)
		if v := s.tracker.Verdict(); v.Reachability != Public {
			t.Errorf("got %+v, want still public", v)
		}
		if srv.askedAbout(a) {
			t.Errorf("asked a server about the private %s", a)
		}
	})
}

// TestAnnouncedNameCountsOnTheOperatorsWord: servers cannot dial most names, so
// that one which is announced alone counts, unless a server has judged it.
func TestAnnouncedNameCountsOnTheOperatorsWord(t *testing.T) {
	const name = "/dns4/relay.example/udp/4001/quic-v1"
	t.Run("alone", func(t *testing.T) {
		simulate(t, func(t *testing.T, n *testnet.Net) {
			s := track(t, start(t, n.NAT("box", testnet.PortRestricted()).Host("subject"), true), ma.StringCast(name))
			v, _ := s.await(t, "public", time.Second, is(Public))
			if v.Weak || v.Insured || v.Because != "the operator announced relay.example:4001 over QUIC; no server has judged the name" {
				t.Errorf("got %+v, want public by the operator's word on %s", v, name)
			}
			// Stock servers refuse to dial it, and find the observed address closed.
			connect(t, s, start(t, n.Host("server0"), true))
			connect(t, s, start(t, n.Host("server1"), true))
			time.Sleep(time.Minute)
			if v := s.tracker.Verdict(); v.Reachability != Public {
				t.Errorf("got %+v, want still public", v)
			}
		})
	})
	t.Run("beside an address that servers judge", func(t *testing.T) {
		simulate(t, func(t *testing.T, n *testnet.Net) {
			box := n.NAT("box", testnet.PortRestricted())
			public := ma.StringCast(fmt.Sprintf("/ip4/%s/udp/%d/quic-v1", box.WAN(), port))
			s := track(t, start(t, box.Host("subject"), true), ma.StringCast(name), public)
			connect(t, s, start(t, n.Host("server0"), true))
			connect(t, s, start(t, n.Host("server1"), true))
			v, _ := s.await(t, "a verdict", 8*time.Second, func(v Verdict) bool { return v.Reachability != Unknown })
			if v.Reachability != Private {
				t.Errorf("got %+v, want private: servers could not dial the address", v)
			}
		})
	})
}

// TestAnnouncedPays holds that we pay for the dial of an address that the
// operator vouches for although servers see us elsewhere.
func TestAnnouncedPays(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		front := n.Host("front") // where the operator believes we are
		s := track(t, start(t, n.Host("subject"), true), front.ListenAddr(port))
		paid := make(chan int, 1)
		srv := script(t, n.Host("server"), func(_ *scripted, r request) {
			if r.addr.Equal(front.ListenAddr(port)) {
				select {
				case paid <- r.wantData(maxDialData, 0):
				default:
				}
				r.respond(0x64, 0, 0)
				return
			}
			r.respond(200, 100, 0)
		})
		connect(t, s, srv)
		select {
		case got := <-paid:
			if got != maxDialData {
				t.Errorf("paid %d bytes, want %d", got, maxDialData)
			}
		case <-time.After(10 * time.Second):
			t.Error("the server never got its dial data")
		}
		synctest.Wait()
	})
}

// TestServersComeAndGo holds that verdicts outlive the servers that gave them.
func TestServersComeAndGo(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		s := track(t, start(t, n.Host("subject"), true))
		var servers []host.Host
		for i := range 2 {
			srv := start(t, n.Host(fmt.Sprint("server", i)), true)
			connect(t, s, srv)
			servers = append(servers, srv)
		}
		s.await(t, "public", 5*time.Second, is(Public))
		for _, srv := range servers {
			if err := s.Network().ClosePeer(srv.ID()); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour)
		if v := s.tracker.Verdict(); v.Reachability != Public {
			t.Errorf("an hour without servers: got %+v, want what was last known", v)
		}
	})
}

// TestMetBeforeRun: a peer that was met after New, but before Run came to it,
// says only once where it sees us.
func TestMetBeforeRun(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		box := n.NAT("box", testnet.PortRestricted())
		h, srv := start(t, box.Host("subject"), false), start(t, n.Host("server"), true)
		tr, err := New(Config{Host: h})
		if err != nil {
			t.Fatal(err)
		}
		connect(t, h, srv)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- tr.Run(ctx) }()
		time.Sleep(10 * time.Second)
		if v := tr.Verdict(); v.Reachability != Private {
			t.Errorf("got %s because %q, want private", v.Reachability, v.Because)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
	})
}

// TestRenumbered: a provider that changes the address overnight breaks all
// connections; with the new ones comes the new verdict, and the old address
// goes.
func TestRenumbered(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		box := n.NAT("box", testnet.FullCone())
		s := track(t, start(t, box.Host("subject"), true))
		var servers []host.Host
		for i := range 3 {
			srv := start(t, n.Host(fmt.Sprint("server", i)), true)
			connect(t, s, srv)
			servers = append(servers, srv)
		}
		old := box.WAN().String()
		s.await(t, "public", 5*time.Second, func(v Verdict) bool { return v.Reachability == Public && !v.Weak })
		time.Sleep(time.Hour)
		box.Renumber()
		for _, srv := range servers {
			s.Network().ClosePeer(srv.ID())
		}
		time.Sleep(time.Minute)
		for _, srv := range servers {
			connect(t, s, srv)
		}
		v, took := s.await(t, "public at the new address", 5*time.Second, func(v Verdict) bool {
			return v.Reachability == Public && !v.Weak && strings.Contains(v.Because, box.WAN().String())
		})
		t.Logf("after %v: %s", took, v.Because)
		time.Sleep(time.Minute)
		for _, a := range s.tracker.Verdict().Addrs {
			if strings.Contains(a.Addr, old) {
				t.Errorf("still a candidate: %+v", a)
			}
		}
	})
}
