package testnet_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/causeway-p2p/causeway/internal/virtual"
	"github.com/causeway-p2p/causeway/testnet"
)

// socket is a raw socket with the assertions the NAT tests need.
type socket struct {
	net.PacketConn
	t *testing.T
}

func listen(t *testing.T, h *testnet.Host, port int) socket {
	t.Helper()
	c, err := h.ListenPacket(port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return socket{c, t}
}

func (s socket) addr() netip.AddrPort { return s.LocalAddr().(*net.UDPAddr).AddrPort() }

func (s socket) send(to netip.AddrPort) {
	s.t.Helper()
	if _, err := s.WriteTo([]byte("hello"), net.UDPAddrFromAddrPort(to)); err != nil {
		s.t.Fatal(err)
	}
}

// receive waits, in virtual time, far longer than any packet takes.
func (s socket) receive() (from netip.AddrPort, ok bool) {
	s.t.Helper()
	s.SetReadDeadline(time.Now().Add(time.Second))
	b := make([]byte, 1500)
	_, addr, err := s.ReadFrom(b)
	if err != nil {
		if nerr, is := err.(net.Error); !is || !nerr.Timeout() {
			s.t.Fatalf("read: got %v, want a packet or a timeout", err)
		}
		return netip.AddrPort{}, false
	}
	return addr.(*net.UDPAddr).AddrPort(), true
}

// seenBy returns the endpoint under which to sees packets from s.
func (s socket) seenBy(to socket) netip.AddrPort {
	s.t.Helper()
	s.send(to.addr())
	from, ok := to.receive()
	if !ok {
		s.t.Fatalf("packet from %v to %v did not arrive", s.addr(), to.addr())
	}
	return from
}

// reaches says whether a packet from s to an endpoint arrives at the socket.
func (s socket) reaches(endpoint netip.AddrPort, at socket) bool {
	s.t.Helper()
	s.send(endpoint)
	_, ok := at.receive()
	return ok
}

// simulate runs f in virtual time on a network of its own.
func simulate(t *testing.T, cfg testnet.Config, f func(t *testing.T, n *testnet.Net)) {
	t.Helper()
	virtual.Test(t, func(t *testing.T) {
		n := testnet.New(cfg)
		t.Cleanup(testnet.Linger)
		t.Cleanup(n.Close)
		f(t, n)
	})
}

func wantDrops(t *testing.T, n *testnet.Net, reason testnet.DropReason, want uint64) {
	t.Helper()
	if got := n.Drops()[reason]; got != want {
		t.Errorf("drops for %q: got %d, want %d (all: %v)", reason, got, want, n.Drops())
	}
}

func TestMappingAndFiltering(t *testing.T) {
	behaviors := []testnet.Behavior{testnet.EndpointIndependent, testnet.AddressDependent, testnet.AddressAndPortDependent}
	for _, mapping := range behaviors {
		for _, filtering := range behaviors {
			t.Run(fmt.Sprintf("%v mapping, %v filtering", mapping, filtering), func(t *testing.T) {
				simulate(t, testnet.Config{}, func(t *testing.T, n *testnet.Net) {
					box := n.NAT("box", testnet.NATConfig{Mapping: mapping, Filtering: filtering})
					inside := box.Host("inside")
					known, stranger := n.Host("known"), n.Host("stranger")
					known1, known2, stranger1 := listen(t, known, 1), listen(t, known, 2), listen(t, stranger, 1)

					// RFC 4787 section 4.1: what each destination sees.
					s := listen(t, inside, 4001)
					first := s.seenBy(known1)
					if first.Addr() != box.WAN() {
						t.Errorf("external address: got %v, want %v", first.Addr(), box.WAN())
					}
					if again := s.seenBy(known1); again != first {
						t.Errorf("same destination: got %v, want %v again", again, first)
					}
					for _, c := range []struct {
						what string
						to   socket
						same bool
					}{
						{"same address, other port", known2, mapping != testnet.AddressAndPortDependent},
						{"other address", stranger1, mapping == testnet.EndpointIndependent},
					} {
						if got := s.seenBy(c.to); (got == first) != c.same {
							t.Errorf("mapping for %s: got %v after %v, want the same: %v", c.what, got, first, c.same)
						}
					}

					// RFC 4787 section 5: who may answer a socket that sent to
					// one destination only.
					s = listen(t, inside, 4002)
					open := s.seenBy(known1)
					if open == first {
						t.Errorf("two sockets share %v", open)
					}
					var refused uint64
					for _, c := range []struct {
						what string
						from socket
						pass bool
					}{
						{"contacted endpoint", known1, true},
						{"contacted address, other port", known2, filtering != testnet.AddressAndPortDependent},
						{"stranger", stranger1, filtering == testnet.EndpointIndependent},
					} {
						if got := c.from.reaches(open, s); got != c.pass {
							t.Errorf("packet from %s passes: got %v, want %v", c.what, got, c.pass)
						}
						if !c.pass {
							refused++
						}
					}
					wantDrops(t, n, testnet.DropFiltered, refused)

					// A port that was never mapped is closed whatever the filter.
					if known1.reaches(netip.AddrPortFrom(box.WAN(), 1023), s) {
						t.Error("a packet to an unmapped port arrived")
					}
					wantDrops(t, n, testnet.DropNoMapping, 1)
				})
			})
		}
	}
}

func TestPresets(t *testing.T) {
	for _, c := range []struct {
		name               string
		got                testnet.NATConfig
		mapping, filtering testnet.Behavior
	}{
		{"full cone", testnet.FullCone(), testnet.EndpointIndependent, testnet.EndpointIndependent},
		{"address-restricted", testnet.AddressRestricted(), testnet.EndpointIndependent, testnet.AddressDependent},
		{"port-restricted", testnet.PortRestricted(), testnet.EndpointIndependent, testnet.AddressAndPortDependent},
		{"symmetric", testnet.Symmetric(), testnet.AddressAndPortDependent, testnet.AddressAndPortDependent},
	} {
		if c.got.Mapping != c.mapping || c.got.Filtering != c.filtering {
			t.Errorf("%s: got %v mapping and %v filtering, want %v and %v", c.name, c.got.Mapping, c.got.Filtering, c.mapping, c.filtering)
		}
	}
}

func TestTwoMachinesBehindOneBox(t *testing.T) {
	for _, preserve := range []bool{false, true} {
		t.Run(fmt.Sprintf("preserve port %v", preserve), func(t *testing.T) {
			simulate(t, testnet.Config{}, func(t *testing.T, n *testnet.Net) {
				cfg := testnet.PortRestricted()
				cfg.PreservePort = preserve
				box := n.NAT("box", cfg)
				server := listen(t, n.Host("server"), 53)
				a, b := listen(t, box.Host("a"), 4001), listen(t, box.Host("b"), 4001)
				seenA, seenB := a.seenBy(server), b.seenBy(server)
				if (seenA.Port() == 4001) != preserve {
					t.Errorf("first machine's external port: got %d, want 4001: %v", seenA.Port(), preserve)
				}
				if seenA == seenB {
					t.Errorf("both machines appear as %v", seenA)
				}
				if !server.reaches(seenA, a) || !server.reaches(seenB, b) {
					t.Error("an answer went astray")
				}
				// On the LAN they meet without the box.
				if got := a.seenBy(b); got != a.addr() {
					t.Errorf("on the LAN: seen as %v, want %v", got, a.addr())
				}
			})
		})
	}
}

func TestHairpin(t *testing.T) {
	for _, hairpin := range []bool{false, true} {
		t.Run(fmt.Sprint(hairpin), func(t *testing.T) {
			simulate(t, testnet.Config{}, func(t *testing.T, n *testnet.Net) {
				cfg := testnet.FullCone()
				cfg.Hairpin = hairpin
				box := n.NAT("box", cfg)
				server := listen(t, n.Host("server"), 53)
				a, b := listen(t, box.Host("a"), 4001), listen(t, box.Host("b"), 4001)
				seenA, seenB := a.seenBy(server), b.seenBy(server)
				a.send(seenB)
				from, ok := b.receive()
				if ok != hairpin {
					t.Errorf("packet through the box's own address arrives: got %v, want %v", ok, hairpin)
				}
				if hairpin && from != seenA { // RFC 4787 REQ-9
					t.Errorf("seen as %v, want the external %v", from, seenA)
				}
				if !hairpin {
					wantDrops(t, n, testnet.DropNoHairpin, 1)
				}
			})
		})
	}
}

func TestCarrierGradeNAT(t *testing.T) {
	simulate(t, testnet.Config{}, func(t *testing.T, n *testnet.Net) {
		carrier := n.NAT("carrier", testnet.PortRestricted())
		home := carrier.NAT("home", testnet.FullCone())
		h := home.Host("h")
		if !netip.MustParsePrefix("100.64.0.0/10").Contains(home.WAN()) {
			t.Errorf("inner box's outside: got %v, want one of 100.64.0.0/10", home.WAN())
		}
		if h.PublicIP() != carrier.WAN() {
			t.Errorf("public address: got %v, want the carrier's %v", h.PublicIP(), carrier.WAN())
		}
		s := listen(t, h, 4001)
		server, stranger := listen(t, n.Host("server"), 53), listen(t, n.Host("stranger"), 53)
		seen := s.seenBy(server)
		if seen.Addr() != carrier.WAN() {
			t.Errorf("seen as %v, want the carrier's %v", seen, carrier.WAN())
		}
		if !server.reaches(seen, s) {
			t.Error("the answer did not come through both boxes")
		}
		if stranger.reaches(seen, s) {
			t.Error("a stranger came through the carrier's filter")
		}
		// The carrier's other customers reach the home box without the carrier.
		neighbour := listen(t, carrier.NAT("neighbour", testnet.FullCone()).Host("n"), 4001)
		neighbour.send(netip.AddrPortFrom(home.WAN(), 1023))
		time.Sleep(time.Second)
		wantDrops(t, n, testnet.DropNoMapping, 1)
	})
}

func TestMappingTimeout(t *testing.T) {
	for _, c := range []struct {
		timeout, want time.Duration
	}{{0, 5 * time.Minute}, {30 * time.Second, 30 * time.Second}} {
		t.Run(c.timeout.String(), func(t *testing.T) {
			simulate(t, testnet.Config{Latency: -1, Bandwidth: -1}, func(t *testing.T, n *testnet.Net) {
				cfg := testnet.PortRestricted()
				cfg.MappingTimeout = c.timeout
				s := listen(t, n.NAT("box", cfg).Host("h"), 4001)
				server, other := listen(t, n.Host("server"), 53), listen(t, n.Host("other"), 53)
				seen := s.seenBy(server)
				// Packets in do not refresh, packets out do, and leave to send
				// expires for each sender by itself.
				time.Sleep(c.want - time.Second)
				if !server.reaches(seen, s) {
					t.Errorf("the mapping is gone before %v", c.want)
				}
				if again := s.seenBy(other); again != seen {
					t.Errorf("mapping refreshed: got %v, want %v", again, seen)
				}
				time.Sleep(time.Second)
				if server.reaches(seen, s) {
					t.Error("the server may still send long after it was last sent to")
				}
				wantDrops(t, n, testnet.DropFiltered, 1)
				if !other.reaches(seen, s) {
					t.Error("the refreshed mapping is gone")
				}
				time.Sleep(c.want)
				if other.reaches(seen, s) {
					t.Errorf("the mapping is still there after %v", c.want)
				}
				wantDrops(t, n, testnet.DropNoMapping, 1)
			})
		})
	}
}

func TestRebindAndRenumber(t *testing.T) {
	simulate(t, testnet.Config{}, func(t *testing.T, n *testnet.Net) {
		box := n.NAT("box", testnet.FullCone())
		h := box.Host("h")
		s, server := listen(t, h, 4001), listen(t, n.Host("server"), 53)
		before := s.seenBy(server)
		box.Rebind()
		if server.reaches(before, s) {
			t.Error("the old mapping survived the restart")
		}
		after := s.seenBy(server)
		if after == before {
			t.Errorf("the new mapping is the old one, %v", before)
		}
		wan := box.Renumber()
		if wan == after.Addr() || wan != h.PublicIP() || wan != box.WAN() {
			t.Errorf("new address: got %v, before %v, public %v", wan, after.Addr(), h.PublicIP())
		}
		if server.reaches(after, s) {
			t.Error("the old address still works")
		}
		wantDrops(t, n, testnet.DropNoRoute, 1)
		if got := s.seenBy(server).Addr(); got != wan {
			t.Errorf("seen from %v, want the new address %v", got, wan)
		}
	})
}

func TestPortsRunOut(t *testing.T) {
	simulate(t, testnet.Config{Latency: -1, Bandwidth: -1}, func(t *testing.T, n *testnet.Net) {
		s := listen(t, n.NAT("box", testnet.Symmetric()).Host("h"), 4001)
		server := n.Host("server")
		const free = 65535 - 1024 + 1
		for i := range free + 3 {
			s.send(netip.AddrPortFrom(server.IP(), uint16(1+i)))
		}
		time.Sleep(time.Second)
		wantDrops(t, n, testnet.DropNoPort, 3)
		time.Sleep(5 * time.Minute)
		s.send(netip.AddrPortFrom(server.IP(), 65535))
		wantDrops(t, n, testnet.DropNoPort, 3)
	})
}

// TestSequentialPorts: the ports of a sequential box follow one another, past
// those that are taken.
func TestSequentialPorts(t *testing.T) {
	simulate(t, testnet.Config{}, func(t *testing.T, n *testnet.Net) {
		cfg := testnet.Symmetric()
		cfg.Sequential = true
		s := listen(t, n.NAT("box", cfg).Host("inside"), 4001)
		var last uint16
		for i := range 5 {
			port := s.seenBy(listen(t, n.Host(fmt.Sprint("server", i)), 4001)).Port()
			if i > 0 && port != last+1 {
				t.Errorf("destination %d: got port %d, want %d", i, port, last+1)
			}
			last = port
		}
	})
}

func TestSameSeedSamePorts(t *testing.T) {
	ports := func(seed uint64) (got []uint16) {
		simulate(t, testnet.Config{Seed: seed}, func(t *testing.T, n *testnet.Net) {
			s := listen(t, n.NAT("box", testnet.Symmetric()).Host("h"), 4001)
			server := n.Host("server")
			for port := range 5 {
				got = append(got, s.seenBy(listen(t, server, 1+port)).Port())
			}
		})
		return got
	}
	first, again, other := fmt.Sprint(ports(1)), fmt.Sprint(ports(1)), fmt.Sprint(ports(2))
	if first != again {
		t.Errorf("same seed: got ports %s, then %s", first, again)
	}
	if first == other {
		t.Errorf("another seed: got the same ports %s", first)
	}
}
