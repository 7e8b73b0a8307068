package reachability

import (
	"context"
	"fmt"
	"net/netip"
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
				turn := 0
				s := trackWith(t, Config{Host: h, Strangers: asked{h, func(via peer.ID, p peer.ID, addr ma.Multiaddr, nonce uint64) error {
					if c.do == nil {
						return through(third, p, addr, nonce)
					}
					turn++
					return c.do(third, servers[via], turn-1)(p, addr, nonce)
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
