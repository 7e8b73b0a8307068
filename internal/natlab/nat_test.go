//go:build linux

package natlab

import (
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	manet "github.com/multiformats/go-multiaddr/net"

	ma "github.com/multiformats/go-multiaddr"
)

// The proof that each kind of NAT is what its name says, before any result
// that was found on it is believed.
func TestNATKinds(t *testing.T) {
	for _, tc := range []struct {
		name             string
		build            func(*Lab) (host *Machine, external netip.Addr)
		independent      bool
		sameIP, stranger bool
	}{
		{"no NAT", func(lab *Lab) (*Machine, netip.Addr) {
			m := lab.Public("a")
			return m, m.IP()
		}, true, true, true},
		{"FullCone", behind(FullCone), true, true, true},
		{"AddressRestricted", behind(AddressRestricted), true, true, false},
		{"PortRestricted", behind(PortRestricted), true, false, false},
		{"Symmetric", behind(Symmetric), false, false, false},
		{"PortRestricted behind PortRestricted", behind(PortRestricted, PortRestricted), true, false, false},
		{"FullCone behind FullCone", behind(FullCone, FullCone), true, true, true},
		{"FullCone behind AddressRestricted", behind(AddressRestricted, FullCone), true, true, false},
		{"PortRestricted behind Symmetric", behind(Symmetric, PortRestricted), false, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			lab := New(t)
			s := startServers(t, lab.Public("stun1"), lab.Public("stun2"))
			m, external := tc.build(lab)
			for _, probe := range []struct {
				network string
				run     func(*testing.T, *Machine, *servers) behaviour
			}{{"UDP", probeUDP}, {"TCP", probeTCP}} {
				got := probe.run(t, m, s)
				t.Logf("%s %s: %s", tc.name, probe.network, got)
				if got.Mapping[0].Addr() != external {
					t.Errorf("%s: external address %s, want %s", probe.network, got.Mapping[0].Addr(), external)
				}
				if got.independent() != tc.independent {
					t.Errorf("%s: endpoint-independent mapping %t, want %t: %s", probe.network, got.independent(), tc.independent, got)
				}
				if !got.Contacted || got.SameIPOtherPort != tc.sameIP || got.Stranger != tc.stranger {
					t.Errorf("%s: lets in contacted, same ip, stranger %t %t %t, want true %t %t", probe.network,
						got.Contacted, got.SameIPOtherPort, got.Stranger, tc.sameIP, tc.stranger)
				}
			}
		})
	}
}

// behind builds a machine behind NATs, the outermost first.
func behind(kinds ...Kind) func(*Lab) (*Machine, netip.Addr) {
	return func(lab *Lab) (*Machine, netip.Addr) {
		outer := lab.NAT("nat0", kinds[0])
		box := outer
		for _, k := range kinds[1:] {
			box = box.NAT("nat1", k)
		}
		return box.Host("a"), outer.IP()
	}
}

// A packet that nobody asked for must not be answered, and must not take the
// tuple that a hole punch is about to use.
func TestUnsolicitedIsDropped(t *testing.T) {
	for _, kind := range []Kind{FullCone, AddressRestricted, PortRestricted, Symmetric} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			lab := New(t)
			s := startServers(t, lab.Public("stun1"), lab.Public("stun2"))
			box := lab.NAT("nat", kind)
			a := box.Host("a")
			const port = 40001
			external := netip.AddrPortFrom(box.IP(), port)

			// TCP: neither accepted nor refused. UDP: no ICMP, which a
			// connected socket would report.
			if err := s.a.Do(func() error { return dialFor(silence, "tcp4", external) }); !isTimeout(err) {
				t.Errorf("TCP dial to an unused port: %v, want a timeout", err)
			}
			if err := s.a.Do(func() error { return dialFor(silence, "udp4", external) }); !isTimeout(err) {
				t.Errorf("UDP packet to an unused port: %v, want silence", err)
			}
			for range 3 {
				s.send(s.at(0), external, 1)
			}
			if n := conntrackEntries(t, box.Machine); n != 0 {
				t.Errorf("conntrack has %d entries, want 0", n)
			}
			// The punch: the same tuple, from inside.
			seen, ok := newClient(t, a, port).ask(s.at(0), s.at(0), passes)
			if !ok {
				t.Fatal("no answer from the server that had sent unsolicited packets")
			}
			if kept := seen.Observed == external; kept != (kind != Symmetric) {
				t.Errorf("%s kept the port %d: %t (got %s)", kind, port, kept, seen.Observed)
			}
		})
	}
}

// Without hairpin: a machine cannot reach its neighbour by the external
// address, only by the LAN.
func TestNoHairpin(t *testing.T) {
	t.Parallel()
	lab := New(t)
	s := startServers(t, lab.Public("stun1"), lab.Public("stun2"))
	box := lab.NAT("nat", FullCone)
	a, b := box.Host("a"), box.Host("b")
	ca, cb := newClient(t, a, 40001), newClient(t, b, 40002)
	seen, ok := ca.ask(s.at(0), s.at(0), passes)
	if !ok {
		t.Fatal("no answer")
	}
	ca.id, cb.id = 7, 7
	msg := []byte(`{"ID":7}`)
	cb.WriteToUDPAddrPort(msg, seen.Observed)
	if _, ok := ca.hear(netip.AddrPortFrom(b.IP(), 40002), silence); ok {
		t.Errorf("a packet to %s from the LAN arrived", seen.Observed)
	}
	cb.WriteToUDPAddrPort(msg, netip.AddrPortFrom(a.IP(), 40001))
	if _, ok := ca.hear(netip.AddrPortFrom(b.IP(), 40002), passes); !ok {
		t.Errorf("a packet on the LAN did not arrive")
	}
}

// With hairpin it can, for both protocols and from the very first packet; to
// the rest of the world the box is of its kind.
func TestHairpin(t *testing.T) {
	for _, kind := range []Kind{FullCone, AddressRestricted, PortRestricted} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			lab := New(t)
			s := startServers(t, lab.Public("stun1"), lab.Public("stun2"))
			box := lab.NAT("nat", kind, Hairpin)
			a, b := box.Host("a"), box.Host("b")
			// Not the ports of the prober, which c is going to need.
			ca, cb := newClient(t, a, 40011), newClient(t, b, 40012)
			seenA, okA := ca.ask(s.at(0), s.at(0), passes)
			seenB, okB := cb.ask(s.at(0), s.at(0), passes)
			if !okA || !okB {
				t.Fatal("no answer")
			}
			ca.id, cb.id = 7, 7
			msg := []byte(`{"ID":7}`)
			cb.WriteToUDPAddrPort(msg, seenA.Observed)
			if _, ok := ca.hear(seenB.Observed, passes); !ok {
				t.Errorf("a packet from b to %s did not arrive from %s", seenA.Observed, seenB.Observed)
			}
			ca.WriteToUDPAddrPort(msg, seenB.Observed)
			if _, ok := cb.hear(seenA.Observed, passes); !ok {
				t.Errorf("the answer from a to %s did not arrive from %s", seenB.Observed, seenA.Observed)
			}
			if b := probeUDP(t, box.Host("c"), s); !b.independent() ||
				b.SameIPOtherPort != (kind != PortRestricted) || b.Stranger != (kind == FullCone) {
				t.Errorf("to the world it is %s", b)
			}
			// TCP: a listens where a server has seen it.
			var ln net.Listener
			if err := a.Do(func() (err error) {
				lc := net.ListenConfig{Control: reuse}
				ln, err = lc.Listen(t.Context(), "tcp4", netip.AddrPortFrom(a.IP(), 40003).String())
				return err
			}); err != nil {
				t.Fatal(err)
			}
			var serving sync.WaitGroup
			serving.Go(func() { serveTCP(ln) })
			t.Cleanup(func() { ln.Close(); serving.Wait() })
			external := dialTCP(t, a, 40003, s.at(0))
			if seen := dialTCP(t, b, 40004, external); seen != netip.AddrPortFrom(box.IP(), 40004) {
				t.Errorf("a saw b at %s", seen)
			}
		})
	}
}

func TestRestrict(t *testing.T) {
	for _, tc := range []struct {
		restriction      Restriction
		udp, tcp, tcp443 bool
	}{
		{0, true, true, true},
		{UDPBlocked, false, true, true},
		{TCP443Only, false, false, true},
		{TLS443Only, false, false, true},
	} {
		t.Run(tc.restriction.String(), func(t *testing.T) {
			t.Parallel()
			lab := New(t)
			s := startServers(t, lab.Public("stun1"), lab.Public("stun2"))
			box := lab.NAT("nat", FullCone)
			a := box.Host("a")
			c := newClient(t, a, 40001)
			if _, ok := c.ask(s.at(0), s.at(0), passes); !ok {
				t.Fatal("no answer before the restriction")
			}
			if tc.restriction != 0 {
				box.Restrict(tc.restriction)
			}
			wait := func(ok bool) time.Duration {
				if ok {
					return passes
				}
				return silence
			}
			if _, ok := c.ask(s.at(0), s.at(0), wait(tc.udp)); ok != tc.udp {
				t.Errorf("UDP passes: %t, want %t", ok, tc.udp)
			}
			// Nor does it come in by the mapping that there is.
			c.id++
			s.send(s.at(2), netip.AddrPortFrom(box.IP(), 40001), c.id)
			if _, ok := c.hear(s.at(2), wait(tc.udp)); ok != tc.udp {
				t.Errorf("UDP comes in: %t, want %t", ok, tc.udp)
			}
			for port, want := range map[uint16]bool{serverPorts[0]: tc.tcp, 443: tc.tcp443} {
				// Refused is as good as accepted: it was let through.
				err := a.Do(func() error { return dialFor(wait(want), "tcp4", netip.AddrPortFrom(s.a.IP(), port)) })
				if got := !isTimeout(err); got != want {
					t.Errorf("TCP to port %d passes: %t (%v), want %t", port, got, err, want)
				}
			}
		})
	}
}

func TestPublicAddressesAreDiverse(t *testing.T) {
	seen := map[netip.Prefix]bool{}
	for n := range maxPublic {
		for _, p := range []netip.Prefix{publicSubnet(n).v4, publicSubnet(n).v6} {
			group := 16
			if p.Addr().Is6() {
				group = 32
				if !netip.MustParsePrefix("3fff::/20").Contains(p.Addr()) {
					t.Fatalf("network %d: %s is not in 3fff::/20", n, p)
				}
			}
			g, _ := p.Addr().Prefix(group)
			if seen[g] {
				t.Fatalf("network %d: %s is not the first in %s", n, p, g)
			}
			seen[g] = true
			proto := map[bool]string{true: "/ip6/", false: "/ip4/"}[p.Addr().Is6()]
			if a := ma.StringCast(proto + host(p, 2).String()); !manet.IsPublicAddr(a) {
				t.Fatalf("network %d: %s does not pass for public", n, a)
			}
		}
	}
}
