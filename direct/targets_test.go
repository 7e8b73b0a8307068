package direct

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	ma "github.com/multiformats/go-multiaddr"
)

func addrs(list ...string) (out []ma.Multiaddr) {
	for _, s := range list {
		out = append(out, ma.StringCast(s))
	}
	return out
}

func texts(list []ma.Multiaddr) string {
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = a.String()
	}
	return strings.Join(out, " ")
}

const id = "12D3KooWGBfKqTqgeTkm5Vz9dyHVXqTTYRqTfc6ULQYEYvs5yGCt"

func TestTargets(t *testing.T) {
	for _, test := range []struct{ name, named, want string }{
		{"QUIC and TCP", "/ip4/11.0.0.2/udp/4001/quic-v1 /ip4/11.0.0.2/tcp/4001", "/ip4/11.0.0.2/udp/4001/quic-v1 /ip4/11.0.0.2/tcp/4001"},
		{"twice the same", "/ip4/11.0.0.2/tcp/4001 /ip4/11.0.0.2/tcp/4001", "/ip4/11.0.0.2/tcp/4001"},
		{
			"private, loopback, link-local, shared, multicast, nowhere",
			"/ip4/192.168.1.1/tcp/4001 /ip4/127.0.0.1/tcp/4001 /ip4/169.254.169.254/tcp/4001 /ip4/100.64.0.1/tcp/4001 /ip4/224.0.0.1/udp/4001/quic-v1 /ip4/0.0.0.0/tcp/4001 /ip6/::1/tcp/4001 /ip6/fe80::1/tcp/4001 /ip6/fc00::1/tcp/4001 /ip4/255.255.255.255/udp/4001/quic-v1",
			"",
		},
		{"IPv4 addresses in IPv6 ones", "/ip6/64:ff9b::a00:1/tcp/4001 /ip6/2002:7f00:1::1/tcp/4001 /ip6/2001:0:a00:1::1/tcp/4001", ""},
		{"services of the net", "/ip4/11.0.0.2/tcp/22 /ip4/11.0.0.2/tcp/25 /ip4/11.0.0.2/tcp/0 /ip4/11.0.0.2/udp/53/quic-v1 /ip4/11.0.0.2/tcp/443", "/ip4/11.0.0.2/tcp/443"},
		{"names and other transports", "/dns4/example.com/tcp/4001 /ip4/11.0.0.2/tcp/4001/ws /ip4/11.0.0.2/udp/4001/quic-v1/webtransport /ip4/11.0.0.2/udp/4001 /ip4/11.0.0.2/tcp/4001/p2p/" + id + "/p2p-circuit", ""},
		{"with the peer's ID", "/ip4/11.0.0.2/tcp/4001/p2p/" + id, "/ip4/11.0.0.2/tcp/4001/p2p/" + id},
		{"many ports", "/ip4/11.0.0.2/tcp/4001 /ip4/11.0.0.2/tcp/4002 /ip4/11.0.0.2/tcp/4003", "/ip4/11.0.0.2/tcp/4001 /ip4/11.0.0.2/tcp/4002"},
		{"many hosts", "/ip4/11.0.0.2/tcp/4001 /ip4/21.0.0.2/tcp/4001 /ip4/22.0.0.2/tcp/4001 /ip6/2a00::1/tcp/4001", "/ip4/11.0.0.2/tcp/4001 /ip4/21.0.0.2/tcp/4001 /ip6/2a00::1/tcp/4001"},
	} {
		if got := texts(targets(addrs(strings.Fields(test.named)...))); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

// A message with thousands of addresses is no more work, and no more packets,
// than one with a few.
func TestTargetsBound(t *testing.T) {
	var named []ma.Multiaddr
	for i := range 5000 {
		named = append(named, ma.StringCast(fmt.Sprintf("/ip4/11.%d.%d.2/udp/4001/quic-v1", i/250, i%250)))
	}
	if got := targets(named); len(got) != maxIPs {
		t.Errorf("targets of 5000 hosts: got %d, want %d", len(got), maxIPs)
	}
}

func TestLANTargets(t *testing.T) {
	own := []netip.Prefix{netip.MustParsePrefix("192.168.1.10/24")}
	for named, want := range map[string]bool{
		"/ip4/192.168.1.11/udp/4001/quic-v1": true,
		"/ip4/192.168.1.11/tcp/4001":         true,
		"/ip4/192.168.1.10/tcp/4001":         false, // ourselves
		"/ip4/192.168.1.0/tcp/4001":          false, // the network
		"/ip4/192.168.1.255/tcp/4001":        false, // everybody
		"/ip4/192.168.1.11/tcp/22":           false, // a service
		"/ip4/192.168.2.11/tcp/4001":         false, // another network
		"/ip4/10.0.0.1/tcp/4001":             false,
		"/ip4/11.0.0.2/tcp/4001":             false, // public: for the other list
		"/ip4/169.254.169.254/tcp/4001":      false,
		"/ip4/127.0.0.1/tcp/4001":            false,
	} {
		if got := len(lanTargets(addrs(named), own)) == 1; got != want {
			t.Errorf("%s from %v: dialled %t, want %t", named, own, got, want)
		}
	}
	many := make([]ma.Multiaddr, 0, 200)
	for i := range 200 {
		many = append(many, ma.StringCast(fmt.Sprintf("/ip4/192.168.1.%d/tcp/4001", 11+i)))
	}
	if got := len(lanTargets(many, own)); got != maxLAN {
		t.Errorf("200 neighbours: %d are dialled, want %d", got, maxLAN)
	}
}

// TestCarrierTargets: another home's router on the carrier's network, if ours is
// on one.
func TestCarrierTargets(t *testing.T) {
	own := addrs("/ip4/100.64.0.2/udp/4001/quic-v1", "/ip4/100.64.0.2/tcp/4001")
	for named, want := range map[string]bool{
		"/ip4/100.64.0.3/udp/4001/quic-v1": true,
		"/ip4/100.127.9.9/tcp/4001":        true,
		"/ip4/100.64.0.2/tcp/4002":         false, // our own router
		"/ip4/100.64.0.3/tcp/22":           false, // a service
		"/ip4/100.128.0.3/tcp/4001":        false, // public
		"/ip4/192.168.1.11/tcp/4001":       false,
		"/ip4/169.254.169.254/tcp/4001":    false,
		"/ip4/11.0.0.2/tcp/4001":           false,
	} {
		if got := len(carrierTargets(addrs(named), own)) == 1; got != want {
			t.Errorf("%s: dialled %t, want %t", named, got, want)
		}
		if got := carrierTargets(addrs(named), nil); len(got) != 0 {
			t.Errorf("%s, and our router is on no carrier's network: %v are dialled", named, got)
		}
	}
	many := make([]ma.Multiaddr, 0, 200)
	for i := range 200 {
		many = append(many, ma.StringCast(fmt.Sprintf("/ip4/100.64.0.%d/tcp/%d", 11+i/10, 4001+i)))
	}
	got := carrierTargets(many, own)
	if len(got) != maxLAN {
		t.Errorf("200 addresses: %d are dialled, want %d", len(got), maxLAN)
	}
	for _, a := range got {
		if to, _, _ := plainAddr(a); to.Addr().String() != "100.64.0.11" {
			t.Errorf("%s is dialled, want one router's only", a)
		}
	}
}

func TestShareIP(t *testing.T) {
	a := addrs("/ip4/11.0.0.2/udp/4001/quic-v1", "/ip4/192.168.1.10/tcp/4001")
	for named, want := range map[string]bool{
		"/ip4/11.0.0.2/tcp/9":       true,
		"/ip4/11.0.0.3/tcp/4001":    false,
		"/ip4/192.168.1.10/tcp/400": false, // half the world has it
	} {
		if got := shareIP(a, addrs(named)); got != want {
			t.Errorf("%s: got %t, want %t", named, got, want)
		}
	}
}

// The ports that follow those that were seen come first; then any, each once.
func TestPunchable(t *testing.T) {
	const udp, tcp, ws = "/ip4/11.0.0.2/udp/4001/quic-v1", "/ip4/11.0.0.2/tcp/4001", "/ip4/11.0.0.3/tcp/443/ws"
	for _, test := range []struct{ name, own, theirs, want string }{
		{"both name both", udp + " " + tcp, tcp + " " + udp, udp + " " + tcp},
		{"they name QUIC", udp + " " + tcp, udp, udp},
		{"they name TCP", udp + " " + tcp, tcp, tcp},
		{"nothing in common", udp, tcp, udp},
		{"they name nothing that is dialled", udp + " " + tcp, ws, udp + " " + tcp},
		{"they name nothing", udp + " " + tcp, "", udp + " " + tcp},
	} {
		if got := texts(punchable(addrs(strings.Fields(test.own)...), addrs(strings.Fields(test.theirs)...))); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

func TestOrder(t *testing.T) {
	seen := []netip.AddrPort{netip.MustParseAddrPort("11.0.0.2:40000"), netip.MustParseAddrPort("11.0.0.2:40007")}
	got := order(seen, maxGuesses)
	if len(got) != maxGuesses {
		t.Fatalf("got %d ports, want %d", len(got), maxGuesses)
	}
	if got[0] != 40007 || got[1] != 40008 || got[nearby-1] != 40007+nearby-1 {
		t.Errorf("got %v first, want 40007, 40008, …", got[:3])
	}
	slices.Sort(got)
	if n := len(slices.Compact(got)); n != maxGuesses {
		t.Errorf("%d different ports, want %d", n, maxGuesses)
	}
	if got[0] < firstPort {
		t.Errorf("port %d is below %d", got[0], firstPort)
	}
	// Near the end there are fewer that follow.
	if got := order([]netip.AddrPort{netip.MustParseAddrPort("11.0.0.2:65535")}, 100); len(got) != 100 {
		t.Errorf("after port 65535: got %d ports, want 100", len(got))
	}
}
