package node

import (
	"fmt"
	"slices"
	"testing"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/reachability"
)

func TestShown(t *testing.T) {
	const (
		pub4    = "/ip4/11.0.0.1/udp/4001/quic-v1"
		tcp4    = "/ip4/11.0.0.1/tcp/4001"
		pub6    = "/ip6/2a00::1/udp/4001/quic-v1"
		lan     = "/ip4/192.168.1.2/udp/4001/quic-v1"
		name    = "/dns4/node.example.org/udp/4001/quic-v1"
		circuit = "/ip4/22.0.0.1/udp/4001/quic-v1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit"
		six     = "/ip6/2a01::1/udp/4001/quic-v1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit"
		stale   = "/ip4/23.0.0.1/udp/4001/quic-v1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit"
	)
	const unknown, private, public = reachability.Unknown, reachability.Private, reachability.Public
	verdict := func(v4, v6 reachability.Reachability, addrs ...reachability.AddrVerdict) reachability.Verdict {
		v := reachability.Verdict{Reachability: unknown, IPv4: v4, IPv6: v6, Addrs: addrs}
		switch {
		case v4 == public || v6 == public:
			v.Reachability = public
		case v4 == private || v6 == private:
			v.Reachability = private
		}
		return v
	}
	is := func(addr string, r reachability.Reachability) reachability.AddrVerdict {
		return reachability.AddrVerdict{Addr: addr, Reachability: r}
	}
	tried := func(addr string, failed int) reachability.AddrVerdict {
		return reachability.AddrVerdict{Addr: addr, Reachability: private, Source: "interface", FailedBy: failed}
	}
	for _, c := range []struct {
		name                       string
		direct, announce, circuits []string
		verdict                    reachability.Verdict
		want                       []string
	}{
		{name: "nothing", verdict: verdict(unknown, unknown)},
		{
			name: "unknown: everything", direct: []string{pub4, lan}, circuits: []string{circuit}, verdict: verdict(unknown, unknown),
			want: []string{pub4, lan, circuit},
		},
		{
			name: "public: no circuits", direct: []string{pub4, lan}, circuits: []string{circuit}, verdict: verdict(public, unknown, is(pub4, public)),
			want: []string{pub4, lan},
		},
		{
			name: "private: what could not be dialled goes, the LAN stays", direct: []string{pub4, lan}, circuits: []string{circuit},
			verdict: verdict(private, unknown, is(pub4, private)), want: []string{lan, circuit},
		},
		{
			name: "private: observed but not judged goes too", direct: []string{pub4, tcp4, lan}, circuits: []string{circuit},
			verdict: verdict(private, unknown, is(pub4, private)), want: []string{lan, circuit},
		},
		{
			name: "public: one transport is blocked", direct: []string{pub4, tcp4}, circuits: []string{circuit},
			verdict: verdict(public, unknown, is(pub4, public), is(tcp4, private)), want: []string{pub4},
		},
		{
			name: "public: one server could not dial one transport of an interface", direct: []string{pub4, tcp4},
			verdict: verdict(public, unknown, is(pub4, public), tried(tcp4, 1)), want: []string{pub4, tcp4},
		},
		{
			name: "public: two servers could not", direct: []string{pub4, tcp4},
			verdict: verdict(public, unknown, is(pub4, public), tried(tcp4, 2)), want: []string{pub4},
		},
		{
			name: "dual stack: v6 public, v4 private", direct: []string{pub4, pub6, lan}, circuits: []string{circuit},
			verdict: verdict(private, public, is(pub4, private), is(pub6, public)), want: []string{pub6, lan, circuit},
		},
		{
			name: "dual stack: v6 public, v4 unknown", direct: []string{pub6}, circuits: []string{circuit},
			verdict: verdict(unknown, public, is(pub6, public)), want: []string{pub6, circuit},
		},
		{
			name: "dual stack: v4 public, v6 private: circuits for those with v6 only", direct: []string{pub4, pub6}, circuits: []string{circuit, six},
			verdict: verdict(public, private, is(pub4, public), is(pub6, private)), want: []string{pub4, six},
		},
		{
			name: "dual stack: v6 public, v4 private: circuits for those with v4 only", direct: []string{pub6}, circuits: []string{circuit, six},
			verdict: verdict(private, public, is(pub6, public)), want: []string{pub6, circuit},
		},
		{
			name: "dual stack: both public", direct: []string{pub4, pub6}, circuits: []string{circuit, six},
			verdict: verdict(public, public, is(pub4, public), is(pub6, public)), want: []string{pub4, pub6},
		},
		{
			name: "announced in place of direct", direct: []string{pub4, lan}, announce: []string{name}, verdict: verdict(unknown, unknown),
			want: []string{name},
		},
		{
			name: "announced: our servers may be wrong, the operator is not", direct: []string{lan}, announce: []string{tcp4}, circuits: []string{circuit},
			verdict: verdict(private, unknown, is(tcp4, private)), want: []string{tcp4, circuit},
		},
		{name: "announced and private", announce: []string{lan}, verdict: verdict(public, unknown, is(lan, public)), want: []string{lan}},
		{
			name: "circuits of go-libp2p's manager are not doubled", direct: []string{lan, circuit, stale}, circuits: []string{circuit},
			verdict: verdict(private, unknown), want: []string{lan, circuit},
		},
		{
			name: "nor kept when public", direct: []string{pub4, circuit}, circuits: []string{circuit}, verdict: verdict(public, unknown, is(pub4, public)),
			want: []string{pub4},
		},
	} {
		got := shown(addrs(c.direct), addrs(c.announce), addrs(c.circuits), c.verdict)
		if fmt.Sprint(got) != fmt.Sprint(addrs(c.want)) {
			t.Errorf("%s: direct %v, announced %v, circuits %v, verdict %+v:\ngot  %v\nwant %v", c.name, c.direct, c.announce, c.circuits, c.verdict, got, c.want)
		}
	}
}

func addrs(list []string) []ma.Multiaddr {
	out := make([]ma.Multiaddr, len(list))
	for i, s := range list {
		out[i] = ma.StringCast(s)
	}
	return out
}

// TestShownUnproven: a public address that no stranger has reached yet is shown
// where there is nothing better.
func TestShownUnproven(t *testing.T) {
	public := ma.StringCast("/ip4/11.0.0.2/udp/4001/quic-v1")
	circuit := ma.StringCast("/ip4/21.0.0.2/udp/4001/quic-v1/p2p/12D3KooWGBfKqTqgeTkm5Vz9dyHVXqTTYRqTfc6ULQYEYvs5yGCt/p2p-circuit")
	verdict := func(proven bool) reachability.Verdict {
		return reachability.Verdict{
			Reachability: reachability.Public, IPv4: reachability.Public, IPv6: reachability.Unknown,
			Proven: proven, Insured: !proven,
			Addrs: []reachability.AddrVerdict{{Addr: public.String(), Reachability: reachability.Public, Proven: proven}},
		}
	}
	for _, c := range []struct {
		name     string
		circuits []ma.Multiaddr
		proven   bool
		want     []ma.Multiaddr
	}{
		{"unproven, no circuit", nil, false, []ma.Multiaddr{public}},
		{"unproven, a circuit", []ma.Multiaddr{circuit}, false, []ma.Multiaddr{circuit}},
		{"proven, a circuit left over", []ma.Multiaddr{circuit}, true, []ma.Multiaddr{public}},
	} {
		if got := shown(nil, nil, c.circuits, verdict(c.proven)); !slices.EqualFunc(got, c.want, ma.Multiaddr.Equal) {
			t.Errorf("%s, seen by few: got %v, want %v", c.name, got, c.want)
		}
		if got := shown([]ma.Multiaddr{public}, nil, c.circuits, verdict(c.proven)); !slices.EqualFunc(got, c.want, ma.Multiaddr.Equal) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}
