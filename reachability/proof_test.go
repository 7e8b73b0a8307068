package reachability

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/testnet"
)

const strangerProtocol = "/test/stranger"

// asked is a Strangers whose peers do what a test says.
type asked struct {
	subject host.Host
	do      func(via peer.ID, p peer.ID, addr ma.Multiaddr, nonce uint64) error
}

func (a asked) Protocol() protocol.ID { return strangerProtocol }

func (a asked) Ask(_ context.Context, via peer.ID, addr ma.Multiaddr, nonce uint64) error {
	return a.do(via, a.subject.ID(), addr, nonce)
}

// through has a third node dial.
func through(third host.Host, p peer.ID, addr ma.Multiaddr, nonce uint64) error {
	if err := dialBack(third, p, addr, nonce); err != nil {
		return fmt.Errorf("%w: %w", ErrNotReached, err)
	}
	return nil
}

func TestStrangers(t *testing.T) {
	full, restricted := testnet.FullCone(), testnet.AddressRestricted()
	for _, c := range []struct {
		name      string
		nat       testnet.NATConfig
		do        func(third, server host.Host, turn int) func(peer.ID, ma.Multiaddr, uint64) error
		want      Reachability
		proven    bool
		filtering Behavior
	}{
		{"full cone", full, nil, Public, true, EndpointIndependent},
		{"address-restricted", restricted, nil, Private, false, AddressDependent},
		{"nobody is known", full, func(_, _ host.Host, _ int) func(peer.ID, ma.Multiaddr, uint64) error {
			return func(peer.ID, ma.Multiaddr, uint64) error { return context.DeadlineExceeded }
		}, Public, false, AddressDependent},
		{"claimed and not done", restricted, func(_, _ host.Host, _ int) func(peer.ID, ma.Multiaddr, uint64) error {
			return func(peer.ID, ma.Multiaddr, uint64) error { return nil }
		}, Public, false, AddressDependent},
		{"one of three denies", full, func(third, _ host.Host, turn int) func(peer.ID, ma.Multiaddr, uint64) error {
			return func(p peer.ID, a ma.Multiaddr, nonce uint64) error {
				if turn%3 < 2 { // the first two that are asked, even
					return ErrNotReached
				}
				return through(third, p, a, nonce)
			}
		}, Public, true, EndpointIndependent},
		{"the nonce comes where it may", restricted, func(_, server host.Host, _ int) func(peer.ID, ma.Multiaddr, uint64) error {
			return func(p peer.ID, _ ma.Multiaddr, nonce uint64) error { return sendNonce(server, p, nonce) }
		}, Public, false, AddressDependent},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, func(t *testing.T, n *testnet.Net) {
				h := start(t, n.NAT("box", c.nat).Host("subject"), true)
				third := start(t, n.Host("third"), false)
				servers := make(map[peer.ID]host.Host)
				turns := make(chan int, 1) // one at a time: they share a third node
				turns <- 0
				s := trackWith(t, Config{Host: h, Strangers: asked{h, func(via peer.ID, p peer.ID, addr ma.Multiaddr, nonce uint64) error {
					turn := <-turns
					defer func() { turns <- turn + 1 }()
					if c.do == nil {
						return through(third, p, addr, nonce)
					}
					return c.do(third, servers[via], turn)(p, addr, nonce)
				}}})
				for i := range 3 {
					srv := start(t, n.Host(fmt.Sprint("server", i)), true)
					srv.SetStreamHandler(strangerProtocol, func(s network.Stream) { s.Reset() })
					servers[srv.ID()] = srv
					connect(t, s, srv)
				}
				v, took := s.await(t, "verdict", time.Minute, func(v Verdict) bool {
					return v.Reachability == c.want && v.Proven == c.proven && !v.Weak
				})
				t.Logf("after %v: %s: %s", took, v.Reachability, v.Because)
				if c.want == Public && s.ever(Private) {
					t.Errorf("said private on the way: %+v", s.verdicts)
				}
				time.Sleep(time.Hour)
				v = s.tracker.Verdict()
				if v.Reachability != c.want || v.Proven != c.proven || v.Insured != (c.want == Public && !c.proven) || v.NeedsRelay() == c.proven {
					t.Errorf("an hour later: got %+v, want %s, proven %v", v, c.want, c.proven)
				}
				if got := s.tracker.NAT().UDP; got.Mapping != EndpointIndependent || got.Filtering != c.filtering {
					t.Errorf("got %+v, want filtering %s", got, c.filtering)
				}
				if !c.proven && v.host() == Public {
					t.Error("the host is told to serve strangers")
				}
			})
		})
	}
}

// TestStrangersSoon: however few know somebody who dials, the node knows within
// 4 s of its start that its box lets in nobody but those it talks to. A dial in
// vain takes what package stranger allows it.
func TestStrangersSoon(t *testing.T) {
	const inVain = 3200 * time.Millisecond
	simulateNodes := func(t *testing.T, vias int, late time.Duration, do func(turn int) error, check func(s *subject, begun time.Time)) {
		simulate(t, func(t *testing.T, n *testnet.Net) {
			h := start(t, n.NAT("box", testnet.AddressRestricted()).Host("subject"), true)
			turns := make(chan int, 1)
			turns <- 0
			begun := time.Now()
			s := trackWith(t, Config{Host: h, Strangers: asked{h, func(peer.ID, peer.ID, ma.Multiaddr, uint64) error {
				turn := <-turns
				turns <- turn + 1
				return do(turn)
			}}})
			for i := range 3 {
				srv := start(t, n.Host(fmt.Sprint("server", i)), true)
				if i < vias {
					srv.SetStreamHandler(strangerProtocol, func(s network.Stream) { s.Reset() })
				}
				if i == vias-1 {
					time.Sleep(late)
				}
				connect(t, s, srv)
			}
			check(s, begun)
		})
	}
	refused := errors.New("knows nobody")
	for _, c := range []struct {
		name string
		vias int
		late time.Duration
		do   func(turn int) error
	}{
		{"three", 3, 0, func(int) error { time.Sleep(inVain); return ErrNotReached }},
		{"two", 2, 0, func(int) error { time.Sleep(inVain); return ErrNotReached }},
		{"one", 1, 0, func(int) error { time.Sleep(inVain); return ErrNotReached }},
		{"two of three know nobody", 3, 0, func(turn int) error {
			if turn < 2 {
				return refused
			}
			time.Sleep(inVain)
			return ErrNotReached
		}},
		{"one comes late", 1, 500 * time.Millisecond, func(int) error { time.Sleep(inVain); return ErrNotReached }},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulateNodes(t, c.vias, c.late, c.do, func(s *subject, begun time.Time) {
				v, _ := s.await(t, "private", 5*time.Second, is(Private))
				took := time.Since(begun)
				t.Logf("after %v: %s: %s", took, v.Confidence, v.Because)
				if took > 4*time.Second {
					t.Errorf("private after %v, want at most 4s", took)
				}
				if want := map[bool]Confidence{true: Weak, false: Strong}[c.vias == 1 || c.name == "two of three know nobody"]; v.Confidence != want {
					t.Errorf("confidence %s, want %s", v.Confidence, want)
				}
				s.await(t, "sure", time.Minute, func(v Verdict) bool { return v.Reachability == Private && !v.Weak })
			})
		})
	}
	t.Run("nobody", func(t *testing.T) {
		var asked atomic.Int32
		simulateNodes(t, 3, 0, func(int) error { asked.Add(1); return refused }, func(s *subject, _ time.Time) {
			time.Sleep(10 * time.Minute)
			if v := s.tracker.Verdict(); v.Reachability != Public || !v.Insured {
				t.Errorf("got %s because %q, want public, and a relay kept", v.Reachability, v.Because)
			}
			if n := asked.Load(); n < 9 || n > 15 {
				t.Errorf("asked %d times in 10 minutes, want 3 peers, thrice at 30 s and then at 5 min", n)
			}
		})
	})
}

// TestOneStrangerForASocket: each is paid, and what gets in over TCP does over
// WebSocket on the same port.
func TestOneStrangerForASocket(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		h, via := start(t, n.Host("subject"), false), start(t, n.Host("via"), false)
		connect(t, h, via)
		addrs := make(chan string, 9)
		tr, err := New(Config{Host: h, Strangers: asked{h, func(_, _ peer.ID, addr ma.Multiaddr, _ uint64) error {
			addrs <- addr.String()
			return ErrNotReached
		}}})
		if err != nil {
			t.Fatal(err)
		}
		runAtTheEnd(t, tr)
		tr.vias[via.ID()] = struct{}{}
		const tcp, alone = "/ip4/11.0.0.2/tcp/443", "/ip4/11.0.0.2/tcp/8443/ws"
		for _, a := range []string{tcp, tcp + "/ws", tcp + "/tls/ws", alone} {
			c := cand(a, fromMapped, "dd")
			tr.addrs[c.key()] = c
		}
		ctx, cancel := context.WithCancel(t.Context())
		tr.startStrangers(ctx, time.Now())
		for _, c := range tr.addrs {
			c.next = time.Now().Add(time.Hour)
		}
		if got := tr.nextWake(time.Now()); got != idleWake {
			t.Errorf("while they are asked: woken in %v, want %v", got, idleWake)
		}
		time.Sleep(time.Minute)
		cancel()
		tr.probes.Wait()
		close(addrs)
		got := slices.Sorted(func(yield func(string) bool) {
			for a := range addrs {
				if !yield(a) {
					return
				}
			}
		})
		if !slices.Equal(got, []string{tcp, alone}) {
			t.Errorf("strangers were to dial %s, want %s and %s", got, tcp, alone)
		}
	})
}

// TestProofIsNotLostSoon: what a stranger has proven once takes three in vain
// to be taken back.
func TestProofIsNotLostSoon(t *testing.T) {
	c := strange(cand("/ip4/11.0.0.2/udp/4001/quic-v1", fromObserved, "ddd"))
	for i := range strangerPatience {
		if !c.proven() {
			t.Fatalf("not proven any more after %d failures", i)
		}
		c.stranger.asking = 1
		c.recordStranger(result{outcome: failed, era: c.stranger.era}, false, epoch)
	}
	if c.reachable != Private {
		t.Errorf("%s after %d failures, want private", c.reachable, strangerPatience)
	}
}

// TestStrangersAnswerLate: what was asked before the network changed, or a
// stranger came, counts no more.
func TestStrangersAnswerLate(t *testing.T) {
	for name, reset := range map[string]func(*candidate){
		"change": func(c *candidate) { c.renew(epoch) }, "proof": func(c *candidate) { c.prove(epoch) },
	} {
		c := cand("/ip4/11.0.0.2/udp/4001/quic-v1", fromObserved, "ddd")
		c.stranger.asking = 2
		old := result{outcome: failed, era: c.stranger.era}
		c.recordStranger(old, false, epoch)
		reset(c)
		c.recordStranger(old, false, epoch)
		if c.reachable != Public || c.stranger.asking != 0 || c.stranger.failures != 0 {
			t.Errorf("%s: %s, %+v", name, c.reachable, c.stranger)
		}
	}
}

// TestVisitors: whoever comes in by itself is a proof if it is a stranger.
func TestVisitors(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		s := track(t, start(t, n.NAT("box", testnet.FullCone()).Host("subject"), true))
		for i := range 2 {
			connect(t, s, start(t, n.Host(fmt.Sprint("server", i)), true))
		}
		v, _ := s.await(t, "insured", 5*time.Second, func(v Verdict) bool { return v.Insured && !v.Weak })
		come := func(name string, before func(*testnet.Host, host.Host)) {
			m := n.Host(name)
			h := start(t, m, false)
			before(m, h)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := h.Connect(ctx, peer.AddrInfo{ID: s.ID(), Addrs: []ma.Multiaddr{ma.StringCast(v.Addrs[0].Addr)}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		come("punched", func(m *testnet.Host, _ host.Host) { s.tracker.Contacted(m.IP()) })
		if v := s.tracker.Verdict(); v.Proven {
			t.Errorf("proven by a host that we sent packets to: %s", v.Because)
		}
		come("stranger", func(*testnet.Host, host.Host) {})
		if v := s.tracker.Verdict(); !v.Proven || v.Insured || v.Confidence != Proven {
			t.Errorf("not proven by a stranger that came: %+v", v)
		}
	})
}

// TestKnowsEverybody: who is connected to the whole network finds no stranger in
// it. It is insured until one of them comes back after a while; or from the
// beginning not, if the operator vouches for the address.
func TestKnowsEverybody(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		s := track(t, start(t, n.NAT("box", testnet.FullCone()).Host("subject"), true))
		var servers []host.Host
		for i := range 3 {
			servers = append(servers, start(t, n.Host(fmt.Sprint("server", i)), true))
			connect(t, s, servers[i])
		}
		time.Sleep(time.Hour)
		v := s.tracker.Verdict()
		if v.Reachability != Public || !v.Insured {
			t.Fatalf("got %s because %q, want public, and a relay kept", v.Reachability, v.Because)
		}
		old := servers[0]
		back := func() {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := old.Connect(ctx, peer.AddrInfo{ID: s.ID(), Addrs: []ma.Multiaddr{ma.StringCast(v.Addrs[0].Addr)}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		for _, away := range []time.Duration{contactTTL / 2, contactTTL + time.Minute} {
			s.Network().ClosePeer(old.ID())
			time.Sleep(away)
			back()
			if v := s.tracker.Verdict(); v.Proven != (away > contactTTL) {
				t.Errorf("one that was away for %v came back: proven %v: %s", away, v.Proven, v.Because)
			}
		}
	})
	if c := cand("/ip4/11.0.0.2/udp/4001/quic-v1", fromAnnounced, "dd"); !c.proven() {
		t.Error("servers get through at the address that the operator vouches for, and a relay is kept")
	}
}

func TestContacts(t *testing.T) {
	c := newContacts()
	ip := netip.MustParseAddr("11.0.0.1")
	if !c.stranger(ip, epoch, epoch) {
		t.Error("somebody unheard of is no stranger")
	}
	c.connected(ip, epoch)
	if !c.stranger(ip, epoch, epoch) {
		t.Error("its first connection makes it no stranger to itself")
	}
	if c.stranger(ip, epoch.Add(time.Second), epoch.Add(time.Second)) {
		t.Error("a stranger while it is connected")
	}
	c.disconnected(ip, epoch.Add(time.Hour))
	late := epoch.Add(time.Hour + contactTTL/2)
	c.connected(ip, late)
	if c.stranger(ip, late, late) {
		t.Error("a stranger again too soon")
	}
	c.disconnected(ip, late)
	late = late.Add(contactTTL + time.Second)
	c.connected(ip, late)
	if !c.stranger(ip, late, late) {
		t.Error("no stranger although long forgotten")
	}
	for i := range 3 * maxContacts {
		c.add(netip.AddrFrom4([4]byte{12, byte(i >> 16), byte(i >> 8), byte(i)}), late)
		if len(c.ips) > maxContacts {
			t.Fatalf("%d contacts are kept, want at most %d", len(c.ips), maxContacts)
		}
	}
	if c.stranger(netip.MustParseAddr("13.0.0.1"), late, late) {
		t.Error("a stranger although contacts were forgotten for want of room")
	}
}
