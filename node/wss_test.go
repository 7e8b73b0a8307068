package node

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/direct"
	"github.com/causeway-p2p/causeway/netwatch"
	"github.com/causeway-p2p/causeway/testnet"
)

func addrsOf(list ...string) (out []ma.Multiaddr) {
	for _, s := range list {
		out = append(out, ma.StringCast(s))
	}
	return out
}

func TestNaming(t *testing.T) {
	const (
		pub, lan, loop = "/ip4/11.0.0.1", "/ip4/10.0.0.1", "/ip4/127.0.0.1"
		six            = "/ip6/2a00::1"
		secure         = "/tcp/443/tls/ws"
		named          = "/dns4/relay.example.org/tcp/443/tls/ws"
		named6         = "/dns6/relay.example.org/tcp/443/tls/ws"
		quic           = pub + "/udp/4001/quic-v1"
		other          = "/tcp/4001"
		circuit        = "/ip4/22.0.0.1/tcp/443/tls/ws/p2p/" + idB + "/p2p-circuit"
	)
	all := []string{"/ip4/0.0.0.0" + secure, "/ip6/::" + secure, "/ip4/0.0.0.0" + other}
	for _, c := range []struct {
		name         string
		listen       []string
		private      bool
		addrs, shown []string
	}{
		{name: "no TLS", listen: []string{"/ip4/0.0.0.0/tcp/443"}, addrs: []string{pub + "/tcp/443", quic}, shown: []string{pub + "/tcp/443", quic}},
		{
			name: "one name for each family, and plain TCP elsewhere only", listen: all,
			addrs: []string{pub + secure, pub + "/tcp/443", "/ip4/11.0.0.2" + secure, six + secure, six + "/tcp/443", pub + other, quic},
			shown: []string{named, named6, pub + other, quic},
		},
		{name: "the name as others know it", listen: all, addrs: []string{pub + "/tcp/443/wss", pub + "/tcp/443/tls/sni/x.example/ws"}, shown: []string{named}},
		{name: "plain TCP is the same socket", listen: all, addrs: []string{pub + "/tcp/443"}, shown: []string{named}},
		{name: "private addresses are no reason", listen: all, addrs: []string{lan + secure, loop + secure, lan + "/tcp/443", lan + other}, shown: []string{lan + other}},
		{name: "unless they count", listen: all, private: true, addrs: []string{lan + secure, loop + secure, loop + other}, shown: []string{named, loop + other}},
		{name: "loopback is no reason where there is more", listen: all, private: true, addrs: []string{loop + secure, lan + "/tcp/443"}, shown: []string{named}},
		{name: "loopback alone", listen: []string{loop + secure}, private: true, addrs: []string{loop + secure}, shown: []string{named}},
		{
			name: "another port, and plain TCP was wanted there", listen: []string{"/ip4/0.0.0.0/tcp/4001/tls/ws", "/ip4/0.0.0.0/tcp/4001"},
			addrs: []string{pub + other, pub + other + "/tls/ws", pub + other + "/ws"},
			shown: []string{pub + other, "/dns4/relay.example.org/tcp/4001/tls/ws", pub + other + "/ws"},
		},
		{
			name: "another port, and it was not", listen: []string{"/ip4/0.0.0.0/tcp/4001/tls/ws"},
			addrs: []string{pub + other, pub + other + "/tls/ws"}, shown: []string{"/dns4/relay.example.org/tcp/4001/tls/ws"},
		},
		{
			name: "a port that the kernel chose", listen: []string{"/ip4/0.0.0.0/tcp/0/tls/ws"}, private: true,
			addrs: []string{lan + "/tcp/7777/tls/ws", lan + "/tcp/7777", loop + "/tcp/7777/tls/ws", lan + other},
			shown: []string{"/dns4/relay.example.org/tcp/7777/tls/ws", lan + other},
		},
		{name: "others' names and circuits stay", listen: all, addrs: []string{"/dns4/x.example/tcp/443/tls/ws", circuit}, shown: []string{"/dns4/x.example/tcp/443/tls/ws", circuit}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newNaming(Config{Listen: addrsOf(c.listen...), TLSName: "relay.example.org", AllowPrivate: c.private})
			got, want := s.apply(addrsOf(c.addrs...)), addrsOf(c.shown...)
			if !slices.EqualFunc(got, want, ma.Multiaddr.Equal) {
				t.Errorf("from %s:\ngot  %s\nwant %s", c.addrs, got, want)
			}
		})
	}
}

func TestWithPlainTCP(t *testing.T) {
	got := withPlainTCP(addrsOf("/ip4/0.0.0.0/tcp/443/tls/ws", "/ip6/::/tcp/443/tls/ws", "/ip4/0.0.0.0/tcp/4001/ws", "/ip6/::/tcp/443"))
	want := addrsOf("/ip4/0.0.0.0/tcp/443/tls/ws", "/ip6/::/tcp/443/tls/ws", "/ip4/0.0.0.0/tcp/4001/ws", "/ip6/::/tcp/443", "/ip4/0.0.0.0/tcp/443")
	if !slices.EqualFunc(got, want, ma.Multiaddr.Equal) {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestTLSConfig(t *testing.T) {
	certificate := new(tls.Config)
	for _, c := range []struct {
		name string
		cfg  Config
		want string // empty: no fault
	}{
		{"neither", Config{Listen: addrsOf("/ip4/0.0.0.0/tcp/443/ws")}, ""},
		{"both", Config{Listen: addrsOf("/ip4/0.0.0.0/tcp/443/tls/ws"), TLS: certificate, TLSName: "relay.example.org"}, ""},
		{"no certificate", Config{Listen: addrsOf("/ip4/0.0.0.0/tcp/443/wss")}, "listen on /ip4/0.0.0.0/tcp/443/tls/ws: there is no certificate for it"},
		{"no name", Config{TLS: certificate}, `TLS name "": want a DNS name that the certificate is for`},
		{"not a name", Config{TLS: certificate, TLSName: "a/b"}, `TLS name "a/b": want`},
		{"a name to listen on", Config{Listen: addrsOf("/dns4/x.example/tls/ws"), TLS: certificate, TLSName: "x.example"}, "want an IP address and a TCP port"},
	} {
		_, err := New(c.cfg)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestWhyRelayed(t *testing.T) {
	const strict = "only TCP port 443 gets out of here, and peers listen on other ports"
	for _, c := range []struct {
		name    string
		s       direct.PeerStatus
		only443 bool
		want    string
	}{
		{"not strict", direct.PeerStatus{Why: "nothing came back in time"}, false, "nothing came back in time"},
		{"strict", direct.PeerStatus{Why: "nothing came back in time"}, true, strict},
		{"strict, and not tried yet", direct.PeerStatus{}, true, ""},
		{"strict, and direct all the same", direct.PeerStatus{Direct: true, Why: "x"}, true, "x"},
	} {
		if got := whyRelayed(c.s, c.only443); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// TestStrictNetworkLeft: what was found of a network is not said of the next one.
func TestStrictNetworkLeft(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.bootstrap()
		a := w.behind("A", testnet.PortRestricted(), Config{})
		was := a.strict.here()
		a.strict.found(was, true)
		a.networkChanged(netwatch.Change{Link: true})
		if a.strict.holds() {
			t.Error("the network is another, and still only TCP port 443 is said to get out")
		}
		a.strict.found(was, true)
		if a.strict.holds() {
			t.Error("a netcheck that began on the last network is taken for one of this")
		}
	})
}
