package reachability

import (
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/testnet"
)

// both makes a machine listen on both families.
func both(m *testnet.Host) libp2p.Option { return libp2p.ListenAddrs(m.ListenAddr6(port)) }

// TestDualStack: a verdict per family, and a relay for those who have only the
// other one.
func TestDualStack(t *testing.T) {
	const four, six = "/ip4/21.0.0.9/udp/4001/quic-v1", "/ip6/3fff:9::9/udp/4001/quic-v1"
	for _, c := range []struct {
		name           string
		nat            *testnet.NATConfig
		firewall       bool
		v4, v6         Reachability
		relay4, relay6 bool // circuits through a relay of that family are worth showing
		proven, needs  bool
	}{
		{name: "open", v4: Public, v6: Public, proven: true},
		{name: "firewalled IPv6", firewall: true, v4: Public, v6: Private, relay6: true, proven: true, needs: true},
		{name: "NAT, open IPv6", nat: new(testnet.PortRestricted()), v4: Private, v6: Public, relay4: true, proven: true, needs: true},
		{name: "neither", nat: new(testnet.PortRestricted()), firewall: true, v4: Private, v6: Private, relay4: true, relay6: true, needs: true},
		{name: "full cone, open IPv6", nat: new(testnet.FullCone()), v4: Public, v6: Public, relay4: true, relay6: true, proven: true, needs: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, func(t *testing.T, n *testnet.Net) {
				var m *testnet.Host
				if c.nat != nil {
					m = n.NAT("box", *c.nat).Host("subject")
				} else {
					m = n.Host("subject")
				}
				m.Firewall6(c.firewall)
				s := track(t, start(t, m, true, both(m)))
				for i := range 2 {
					sm := n.Host(fmt.Sprint("server", i))
					srv := start(t, sm, true, both(sm))
					meet(t, s, srv, sm.ListenAddr(port))
				}
				v, took := s.await(t, "verdict", 7*time.Second, func(v Verdict) bool { return v.IPv4 == c.v4 && v.IPv6 == c.v6 && !v.Weak })
				t.Logf("after %v: %s", took, v.Because)
				time.Sleep(30 * time.Minute)
				v = s.tracker.Verdict()
				if v.IPv4 != c.v4 || v.IPv6 != c.v6 || v.Proven != c.proven || v.NeedsRelay() != c.needs {
					t.Errorf("got %+v, want IPv4 %s, IPv6 %s, proven %v, needs a relay %v", v, c.v4, c.v6, c.proven, c.needs)
				}
				if got4, got6 := v.NeedsCircuit(ma.StringCast(four)), v.NeedsCircuit(ma.StringCast(six)); got4 != c.relay4 || got6 != c.relay6 {
					t.Errorf("needs circuits through relays of IPv4 %v, IPv6 %v; want %v, %v", got4, got6, c.relay4, c.relay6)
				}
				if len(v.Transports) != 2 || v.Transports[0].Family != "ip4" || v.Transports[1].Reachability != c.v6 || v.Transports[1].Transport != "quic" {
					t.Errorf("got transports %+v", v.Transports)
				}
			})
		})
	}
}

// meet connects two hosts at one address.
func meet(t *testing.T, from, to host.Host, at ma.Multiaddr) {
	t.Helper()
	if err := from.Connect(t.Context(), peer.AddrInfo{ID: to.ID(), Addrs: []ma.Multiaddr{at}}); err != nil {
		t.Fatal(err)
	}
}
