package node

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/portmap"
	"github.com/causeway-p2p/causeway/reachability"
	"github.com/causeway-p2p/causeway/testnet"
)

func multiaddrs(list ...string) (out []ma.Multiaddr) {
	for _, s := range list {
		out = append(out, ma.StringCast(s))
	}
	return out
}

func TestMappedAddrs(t *testing.T) {
	listen := multiaddrs(
		"/ip4/0.0.0.0/udp/4001/quic-v1", "/ip6/::/udp/4001/quic-v1", "/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/tcp/4001/ws",
		"/ip4/127.0.0.1/tcp/4002", "/ip4/192.168.1.10/tcp/4003", "/ip4/8.1.1.1/tcp/4004", "/p2p-circuit", "/ip4/0.0.0.0/tcp/0",
		"/dns4/example.com/tcp/4005",
	)
	var ports []string
	for _, a := range listen {
		if p, ok := mappable(a); ok {
			ports = append(ports, p.String())
		}
	}
	if want := []string{"UDP 4001", "TCP 4001", "TCP 4001", "TCP 4003"}; !slices.Equal(ports, want) {
		t.Errorf("to be mapped: %q, want %q", ports, want)
	}
	outside := netip.MustParseAddr("8.2.2.2")
	got := texts(mappedAddrs(listen, []portmap.Mapping{
		{Port: portmap.Port{Protocol: portmap.UDP, Number: 4001}, External: netip.AddrPortFrom(outside, 4001)},
		{Port: portmap.Port{Protocol: portmap.TCP, Number: 4001}, External: netip.AddrPortFrom(outside, 9)},
		{Port: portmap.Port{Protocol: portmap.TCP, Number: 5}, External: netip.AddrPortFrom(outside, 5)},
	}))
	slices.Sort(got)
	if want := []string{"/ip4/8.2.2.2/tcp/9", "/ip4/8.2.2.2/tcp/9/ws", "/ip4/8.2.2.2/udp/4001/quic-v1"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := mappedAddrs(listen, nil); len(got) > 0 {
		t.Errorf("without a mapping: %v", got)
	}
}

// TestWhoMaps: not those for whom there is no router, or who do not want it.
func TestWhoMaps(t *testing.T) {
	net := testnet.New(testnet.Config{})
	defer net.Close()
	for _, c := range []struct {
		name string
		cfg  Config
		want bool
	}{
		{"as by default", Config{}, true},
		{"one address of many", Config{Listen: multiaddrs("/ip4/127.0.0.1/tcp/0", "/ip4/0.0.0.0/tcp/0")}, true},
		{"told not to", Config{NoPortMapping: true}, false},
		{"loopback", Config{Listen: multiaddrs("/ip4/127.0.0.1/tcp/0", "/ip6/::1/udp/0/quic-v1")}, false},
		{"announced", Config{Announce: multiaddrs("/ip4/8.1.1.1/tcp/4001")}, false},
		{"simulated", Config{Listen: multiaddrs("/ip4/8.1.1.1/udp/4001/quic-v1"), Transports: []libp2p.Option{net.Host("a").Transport()}}, false},
	} {
		n, err := New(c.cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.newMapper(); err != nil || (n.mapper != nil) != c.want {
			t.Errorf("%s: got %t, %v, want %t", c.name, n.mapper != nil, err, c.want)
		}
	}
}

// TestMappedShown: what a router says is told to others once a server got
// through, and not twice.
func TestMappedShown(t *testing.T) {
	a := newAdvertiser(Config{}, nil)
	direct := multiaddrs("/ip4/192.168.1.10/udp/4001/quic-v1")
	mapped := multiaddrs("/ip4/8.2.2.2/udp/4001/quic-v1", "/ip4/8.2.2.2/tcp/4001")
	a.setMapped(mapped)
	if got := a.addrs(direct); len(got) != 1 {
		t.Errorf("nobody got through, and yet %v", got)
	}
	a.setVerdict(reachability.Verdict{
		Reachability: reachability.Public, IPv4: reachability.Public, IPv6: reachability.Unknown,
		Addrs: []reachability.AddrVerdict{
			{Addr: mapped[0].String(), Reachability: reachability.Public},
			{Addr: mapped[1].String(), Reachability: reachability.Private},
		},
	})
	for _, direct := range [][]ma.Multiaddr{direct, append(multiaddrs(mapped[0].String()), direct...)} {
		got := texts(a.addrs(direct))
		slices.Sort(got)
		if want := []string{direct[len(direct)-1].String(), mapped[0].String()}; !slices.Equal(got, want) {
			t.Errorf("with %v: got %q, want %q", direct, got, want)
		}
	}
}
