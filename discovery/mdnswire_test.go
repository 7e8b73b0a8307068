package discovery

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/net/dns/dnsmessage"
)

const (
	neighbourID = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"
	lanDomain   = "_p2p._udp.local."
)

func decode(t testing.TB, s string) peer.ID {
	t.Helper()
	id, err := peer.Decode(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func multiaddrs(list ...string) (out []ma.Multiaddr) {
	for _, s := range list {
		out = append(out, ma.StringCast(s))
	}
	return out
}

func TestMDNSThereAndBack(t *testing.T) {
	id := decode(t, neighbourID)
	addrs := multiaddrs("/ip4/192.168.1.7/udp/4001/quic-v1", "/ip4/192.168.1.7/tcp/4001", "/ip6/fd00::7/tcp/4001", "/ip4/11.0.0.1/tcp/4001")
	for _, relay := range []bool{false, true} {
		texts, ips := textsOf(id, addrs, relay)
		if want := []netip.Addr{netip.MustParseAddr("192.168.1.7"), netip.MustParseAddr("fd00::7")}; !slices.Equal(ips, want) {
			t.Errorf("IPs: got %v, want %v", ips, want)
		}
		data, err := answer(lanDomain, "anyname", texts, ips)
		if err != nil {
			t.Fatal(err)
		}
		m, err := parseMDNS(data, lanDomain)
		if err != nil || m.asks {
			t.Fatalf("got %+v, %v", m, err)
		}
		got := peersOf(m.texts)
		if len(got) != 1 || got[0].ID != id || len(got[0].Addrs) != 3 || got[0].relay != relay {
			t.Errorf("got %v, want %s at the three private addresses, relay %t", got, id, relay)
		}
		if m, err := parseMDNS(data, "_p2p-other._udp.local."); err != nil || len(m.texts) != 0 {
			t.Errorf("on another network: got %v, %v, want nothing", m, err)
		}
	}
	q, err := question(lanDomain)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := parseMDNS(q, lanDomain); err != nil || !m.asks || m.texts != nil {
		t.Errorf("a question: got %+v, %v", m, err)
	}
	if m, err := parseMDNS(q, "_p2p-other._udp.local."); err != nil || m.asks {
		t.Errorf("another network's question: got %+v, %v", m, err)
	}
}

// TestMDNSInUppercase: DNS names do not care.
func TestMDNSInUppercase(t *testing.T) {
	q, err := question(strings.ToUpper(lanDomain))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := parseMDNS(q, lanDomain); err != nil || !m.asks {
		t.Errorf("got %+v, %v, want a question", m, err)
	}
}

func TestGoodbyeIsNoPeer(t *testing.T) {
	name := dnsmessage.MustNewName("x." + lanDomain)
	msg := dnsmessage.Message{
		Header: dnsmessage.Header{Response: true},
		Answers: []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET},
			Body:   &dnsmessage.TXTResource{TXT: []string{"dnsaddr=/ip4/10.0.0.1/tcp/1/p2p/" + neighbourID}},
		}},
	}
	data, err := msg.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if m, err := parseMDNS(data, lanDomain); err != nil || len(m.texts) != 0 {
		t.Errorf("TTL 0: got %v, %v, want nothing", m.texts, err)
	}
}

// TestWhatIsOnLAN: what a stranger on the LAN can make us dial.
func TestWhatIsOnLAN(t *testing.T) {
	for _, tt := range []struct {
		addr string
		want bool
	}{
		{"/ip4/10.1.2.3/tcp/4001", true},
		{"/ip4/172.16.0.1/udp/4001/quic-v1", true},
		{"/ip4/192.168.0.1/udp/4001/quic-v1", true},
		{"/ip6/fd12::1/udp/4001/quic-v1", true},
		{"/ip4/127.0.0.1/tcp/4001", false},
		{"/ip6/::1/tcp/4001", false},
		{"/ip4/169.254.169.254/tcp/80", false}, // clouds have secrets there
		{"/ip6/fe80::1/tcp/4001", false},
		{"/ip4/0.0.0.0/tcp/4001", false},
		{"/ip4/224.0.0.1/udp/4001/quic-v1", false},
		{"/ip4/11.0.0.1/tcp/4001", false},
		{"/ip4/100.64.0.1/tcp/4001", false},
		{"/ip6/2001:db8::1/tcp/4001", false},
		{"/ip6/::ffff:127.0.0.1/tcp/4001", false},
		{"/dns4/router.local/tcp/4001", false},
		{"/ip4/10.0.0.1/tcp/443/wss", false},
		{"/ip4/10.0.0.1/udp/4001", false},
		{"/ip4/10.0.0.1/tcp/4001/p2p/" + neighbourID + "/p2p-circuit", false},
	} {
		if got := isLANAddr(ma.StringCast(tt.addr)); got != tt.want {
			t.Errorf("%s: got %t, want %t", tt.addr, got, tt.want)
		}
	}
	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf("dnsaddr=/ip4/10.0.0.1/tcp/%d/p2p/%s", i+1, neighbourID))
	}
	if got := peersOf(many); len(got) != 1 || len(got[0].Addrs) != maxLANAddrs {
		t.Errorf("1000 addresses: got %d peers, want 1 with %d", len(got), maxLANAddrs)
	}
	if got := peersOf([]string{"", "dnsaddr=", "dnsaddr=/p2p/" + neighbourID, "dnsaddr=/ip4/10.0.0.1/tcp/1", "x=y", "dnsaddr=/ip4/11.0.0.1/tcp/1/p2p/" + neighbourID}); len(got) != 0 {
		t.Errorf("texts without a neighbour: got %v", got)
	}
}

func FuzzParseMDNS(f *testing.F) {
	texts, ips := textsOf(decode(f, neighbourID), multiaddrs("/ip4/192.168.1.7/tcp/4001", "/ip6/fd00::7/udp/1/quic-v1"), true)
	a, err := answer(lanDomain, "x", texts, ips)
	if err != nil {
		f.Fatal(err)
	}
	q, err := question(lanDomain)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(a)
	f.Add(q)
	f.Add(append(slices.Clone(q[:4]), "\xff\xff\xff\xff\xff\xff\xff\xff\xc0\x0c"...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseMDNS(data, lanDomain)
		if err != nil {
			return
		}
		if len(m.texts) > maxMDNSTexts {
			t.Errorf("%d texts", len(m.texts))
		}
		for _, p := range peersOf(m.texts) {
			if len(p.Addrs) == 0 || len(p.Addrs) > maxLANAddrs {
				t.Errorf("%s has %d addresses", p.ID, len(p.Addrs))
			}
			for _, a := range p.Addrs {
				if !isLANAddr(a) {
					t.Errorf("%s is taken for a neighbour's", a)
				}
			}
		}
	})
}
