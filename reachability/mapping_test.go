package reachability

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/testnet"
)

// TestNAT: what three stock servers show of each kind of box.
func TestNAT(t *testing.T) {
	const ei, ad, apd = EndpointIndependent, AddressDependent, AddressAndPortDependent
	for _, c := range []struct {
		name               string
		machine            func(*testnet.Net) *testnet.Host
		mapping, filtering Behavior
		observed           int
		unobserved         []string
	}{
		{"none", func(n *testnet.Net) *testnet.Host { return n.Host("subject") }, NoNAT, ei, 1, nil},
		{"full cone", boxed(testnet.FullCone()), ei, ad, 1, nil},
		{"address-restricted", boxed(testnet.AddressRestricted()), ei, ad, 1, nil},
		{"port-restricted", boxed(testnet.PortRestricted()), ei, apd, 1, nil},
		{"symmetric", boxed(testnet.Symmetric()), apd, apd, 3, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, func(t *testing.T, n *testnet.Net) {
				m := c.machine(n)
				s := track(t, start(t, m, true))
				if got := s.tracker.NAT(); got.UDP.Mapping != NotKnown && c.mapping != NoNAT || got.UDPBlocked != NotTold || got.Hairpin != NotTold {
					t.Errorf("before anybody spoke: got %+v, want unknown", got)
				}
				for i := range 3 {
					connect(t, s, start(t, n.Host(fmt.Sprint("server", i)), true))
				}
				time.Sleep(20 * time.Second)
				got := s.tracker.NAT()
				if got.UDP.Mapping != c.mapping || got.UDP.Filtering != c.filtering || got.TCP.Mapping != NotKnown || got.UDPBlocked != No {
					t.Errorf("got %+v, want mapping %s, filtering %s, TCP unknown", got, c.mapping, c.filtering)
				}
				if addrs := s.tracker.Observed(); len(addrs) != c.observed || len(got.UDP.External) != c.observed {
					t.Errorf("observed at %v, external %v, want %d", addrs, got.UDP.External, c.observed)
				}
				if got := s.tracker.Unobserved(); !slices.Equal(got, c.unobserved) {
					t.Errorf("unobserved over %v, want %v", got, c.unobserved)
				}
			})
		})
	}
}

func boxed(cfg testnet.NATConfig) func(*testnet.Net) *testnet.Host {
	return func(n *testnet.Net) *testnet.Host { return n.NAT("box", cfg).Host("subject") }
}

// TestFactsAge: where the box is gone, what it did is forgotten, and so is that
// UDP once worked.
func TestFactsAge(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		s := track(t, start(t, n.NAT("box", testnet.PortRestricted()).Host("subject"), true))
		var servers []host.Host
		for i := range 3 {
			servers = append(servers, start(t, n.Host(fmt.Sprint("server", i)), true))
			connect(t, s, servers[i])
		}
		time.Sleep(20 * time.Second)
		if got := s.tracker.NAT(); got.UDPBlocked != No || len(got.UDP.External) == 0 {
			t.Fatalf("with three servers: got %+v, want that UDP works", got)
		}
		for _, srv := range servers {
			s.Network().ClosePeer(srv.ID())
		}
		time.Sleep(quicAge - idleWake)
		if got := s.tracker.NAT().UDPBlocked; got != No {
			t.Errorf("a moment after they left: got blocked %q, want no", got)
		}
		time.Sleep(3 * idleWake)
		if got := s.tracker.NAT().UDPBlocked; got != NotTold {
			t.Errorf("a minute after they left: got blocked %q, want unknown", got)
		}
		time.Sleep(observedTTL)
		if got := s.tracker.NAT().UDP; got.Mapping != NotKnown || len(got.External) > 0 {
			t.Errorf("long after they left: got %+v, want nothing", got)
		}
	})
}

func TestUnobserved(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		s := track(t, start(t, n.NAT("box", testnet.FullCone()).Host("subject"), true))
		time.Sleep(idleWake)
		if got := s.tracker.Unobserved(); !slices.Equal(got, []string{"quic"}) {
			t.Errorf("alone: unobserved over %v, want quic", got)
		}
		srv := start(t, n.Host("server"), true)
		connect(t, s, srv)
		time.Sleep(time.Second)
		if got := s.tracker.Unobserved(); len(got) > 0 {
			t.Errorf("with a server: unobserved over %v, want none", got)
		}
		s.Network().ClosePeer(srv.ID())
		time.Sleep(2 * idleWake)
		if got := s.tracker.Unobserved(); !slices.Equal(got, []string{"quic"}) {
			t.Errorf("after it left: unobserved over %v, want quic", got)
		}
	})
}

// TestMappingByWitnesses is the pure part: observers, and where they saw us.
func TestMappingByWitnesses(t *testing.T) {
	for _, c := range []struct {
		name  string
		sees  []string // "observer external"
		want  Behavior
		first string
	}{
		{"nobody", nil, NotKnown, ""},
		{"one", []string{"1.1.1.1:1 9.9.9.9:5"}, NotKnown, "9.9.9.9:5"},
		{"one host twice", []string{"1.1.1.1:1 9.9.9.9:5", "1.1.1.1:2 9.9.9.9:5"}, NotKnown, "9.9.9.9:5"},
		{"two agree", []string{"1.1.1.1:1 9.9.9.9:5", "2.2.2.2:1 9.9.9.9:5"}, EndpointIndependent, "9.9.9.9:5"},
		{"two differ", []string{"1.1.1.1:1 9.9.9.9:5", "2.2.2.2:1 9.9.9.9:6"}, AddressAndPortDependent, "9.9.9.9:5"},
		{"per address", []string{"1.1.1.1:1 9.9.9.9:5", "1.1.1.1:2 9.9.9.9:5", "2.2.2.2:1 9.9.9.9:6"}, AddressDependent, "9.9.9.9:5"},
		{"per port", []string{"1.1.1.1:1 9.9.9.9:5", "1.1.1.1:2 9.9.9.9:7", "2.2.2.2:1 9.9.9.9:6"}, AddressAndPortDependent, "9.9.9.9:5"},
		{"one of three lies", []string{"1.1.1.1:1 9.9.9.9:5", "2.2.2.2:1 9.9.9.9:5", "3.3.3.3:1 8.8.8.8:1"}, EndpointIndependent, "9.9.9.9:5"},
		{"one of three lies, and comes first", []string{"3.3.3.3:1 8.8.8.8:1", "1.1.1.1:1 9.9.9.9:5", "2.2.2.2:1 9.9.9.9:5"}, EndpointIndependent, "9.9.9.9:5"},
	} {
		tr := &Tracker{sights: make(map[sightKey]sight)}
		for _, see := range c.sees {
			var from, at string
			fmt.Sscan(see, &from, &at)
			s := sight{
				by: peer.ID(from), from: netip.MustParseAddrPort(from), at: netip.MustParseAddrPort(at),
				network: "udp", local: "4001", outbound: true,
			}
			tr.sights[sightKey{s.from, s.network, s.local, true}] = s
		}
		got, external := tr.mapping("udp")
		if got != c.want || (len(external) == 0) != (c.first == "") || c.first != "" && external[0] != c.first {
			t.Errorf("%s: got %s at %v, want %s and first %s", c.name, got, external, c.want, c.first)
		}
	}
}

// TestSomebodyElsesAddress: what one peer says that it saw us at is shown to
// nobody who could take it for ours.
func TestSomebodyElsesAddress(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		s := track(t, start(t, n.NAT("box", testnet.PortRestricted()).Host("subject"), true))
		victim := ma.StringCast("/ip4/7.7.7.7/udp/4001/quic-v1")
		var servers []host.Host
		for i := range 3 {
			srv := start(t, n.Host(fmt.Sprint("server", i)), true)
			servers = append(servers, srv)
			connect(t, s, srv)
		}
		time.Sleep(time.Second)
		observed(t, s, servers[0].ID(), victim)
		time.Sleep(time.Minute)
		if v := s.tracker.Verdict(); v.Reachability != Private || s.ever(Public) {
			t.Errorf("got %+v, want private and never public", v)
		}
		for _, a := range s.tracker.Observed()[:1] {
			if a.Equal(victim) {
				t.Errorf("%s comes first among the addresses for hole punching", victim)
			}
		}
		if got := s.tracker.NAT().UDP; got.Mapping != EndpointIndependent || len(got.External) != 1 {
			t.Errorf("one liar of three: got %+v, want an endpoint-independent mapping", got)
		}
	})
}

// blocked is a host whose connections a test invents.
type blocked struct {
	host.Host
	conns []network.Conn
}

func (h blocked) Network() network.Network { return blockedNetwork{h.Host.Network(), h.conns} }

type blockedNetwork struct {
	network.Network
	conns []network.Conn
}

func (n blockedNetwork) Conns() []network.Conn { return n.conns }

// reached is a connection that we opened.
type reached struct {
	network.Conn
	to peer.ID
	at ma.Multiaddr
}

func (c reached) RemotePeer() peer.ID           { return c.to }
func (c reached) IsClosed() bool                { return false }
func (c reached) RemoteMultiaddr() ma.Multiaddr { return c.at }
func (c reached) Stat() network.ConnStats {
	return network.ConnStats{Stats: network.Stats{Direction: network.DirOutbound}}
}

// TestUDPBlocked: who is reached over TCP although it has QUIC is evidence, the
// second time.
func TestUDPBlocked(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		h := start(t, n.Host("subject"), false)
		to := func(i int, at string, quic bool) network.Conn {
			id := peer.ID(fmt.Sprint("peer", i))
			if quic {
				h.Peerstore().AddAddr(id, ma.StringCast(fmt.Sprintf("/ip4/11.1.1.%d/udp/4001/quic-v1", i)), time.Hour)
			}
			return reached{to: id, at: ma.StringCast(fmt.Sprintf("/ip4/11.1.1.%d%s", i, at))}
		}
		const never = time.Duration(-1)
		const tcp, udp = "/tcp/4001", "/udp/4001/quic-v1"
		for _, c := range []struct {
			name  string
			conns []network.Conn
			quic  time.Duration // since a QUIC connection lived
			want  Fact
		}{
			{"nobody", nil, never, NotTold},
			{"one over TCP", []network.Conn{to(1, tcp, true)}, never, NotTold},
			{"two over TCP", []network.Conn{to(1, tcp, true), to(2, tcp, true)}, never, Yes},
			{"two over TCP that have nothing else", []network.Conn{to(3, tcp, false), to(4, tcp, false)}, never, NotTold},
			{"one of two over QUIC", []network.Conn{to(1, tcp, true), to(2, udp, true)}, never, No},
			{"QUIC worked a moment ago", []network.Conn{to(1, tcp, true), to(2, tcp, true)}, time.Second, No},
			{"QUIC worked long ago", []network.Conn{to(1, tcp, true), to(2, tcp, true)}, quicAge, Yes},
			{"QUIC worked long ago, and nobody is there", nil, quicAge, NotTold},
		} {
			tr := &Tracker{cfg: Config{Host: blocked{h, c.conns}}}
			now := time.Now()
			if c.quic != never {
				tr.quicSeen.Store(now.Add(-c.quic).UnixNano())
			}
			if got := tr.nat(nil, now).UDPBlocked; got != c.want {
				t.Errorf("%s: got blocked %q, want %q", c.name, got, c.want)
			}
		}
	})
}
