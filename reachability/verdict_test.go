package reachability

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/testnet"
)

func TestDescribe(t *testing.T) {
	const id = "/p2p/12D3KooWEZXjE41uU4EL2gpkAQeDXYok6wghN7wwNVPF5bwkaNfS"
	for addr, want := range map[string]string{
		"/ip4/11.0.0.2/udp/4001/quic-v1":              "11.0.0.2:4001 over QUIC",
		"/ip4/11.0.0.2/udp/4001/quic-v1" + id:         "11.0.0.2:4001 over QUIC",
		"/ip6/2a01::2/udp/4001/quic-v1":               "[2a01::2]:4001 over QUIC",
		"/ip4/11.0.0.2/tcp/4001":                      "11.0.0.2:4001 over TCP",
		"/ip6/2a01::2/tcp/4001" + id:                  "[2a01::2]:4001 over TCP",
		"/ip4/11.0.0.2/tcp/4001/ws":                   "11.0.0.2:4001 over WebSocket",
		"/dns4/relay.example/tcp/443/wss":             "relay.example:443 over WebSocket",
		"/dns4/relay.example/tcp/443/tls/ws":          "relay.example:443 over WebSocket",
		"/dns/relay.example/udp/4001/quic-v1":         "relay.example:4001 over QUIC",
		"/ip4/11.0.0.2/udp/4001/quic-v1/webtransport": "11.0.0.2:4001 over WebTransport",
		"/ip4/11.0.0.2/udp/4001/webrtc-direct":        "11.0.0.2:4001 over WebRTC",
		"/dns4/localhost/tcp/4001":                    "localhost:4001 over TCP", // and not what it resolves to
		"/dnsaddr/bootstrap.libp2p.io":                "/dnsaddr/bootstrap.libp2p.io",
		"/ip6zone/eth0/ip6/fe80::1/udp/4001/quic-v1":  "[fe80::1%eth0]:4001 over QUIC",
		"/ip6zone/eth0/ip6/fe80::1/tcp/4001/ws":       "[fe80::1%eth0]:4001 over WebSocket",
	} {
		if got := describe(ma.StringCast(addr)); got != want {
			t.Errorf("%s: got %q, want %q", addr, got, want)
		}
	}
}

// TestNamesAreNotResolved: the tracker asks for endpoints with every verdict.
func TestNamesAreNotResolved(t *testing.T) {
	if ap, _, ok := endpoint(ma.StringCast("/dns4/localhost/tcp/4001")); ok {
		t.Errorf("got %v, want no endpoint: nobody looks the name up", ap)
	}
}

func TestFamilies(t *testing.T) {
	for addr, want := range map[string]string{
		"/ip4/11.0.0.2/tcp/1":             "4",
		"/ip6/2a01::2/tcp/1":              "6",
		"/ip6zone/eth0/ip6/fe80::1/tcp/1": "6",
		"/dns4/relay.example/tcp/1":       "4",
		"/dns6/relay.example/tcp/1":       "6",
		"/dns/relay.example/tcp/1":        "46",
		"/dnsaddr/relay.example":          "46",
	} {
		v4, v6 := families(ma.StringCast(addr))
		got := ""
		if v4 {
			got += "4"
		}
		if v6 {
			got += "6"
		}
		if got != want {
			t.Errorf("%s: got families %q, want %q", addr, got, want)
		}
	}
	if v4, v6 := families(nil); v4 || v6 {
		t.Errorf("no address: got %v, %v, want neither", v4, v6)
	}
}

var epoch = time.Unix(1_700_000_000, 0)

var letters = map[rune]outcome{'d': dialled, 'f': failed, 's': silent, 'n': declined}

// strange is a candidate that a stranger got through to, filter one that no
// stranger did.
func strange(c *candidate) *candidate { c.prove(epoch); c.decide(false); return c }

func filter(c *candidate) *candidate {
	c.stranger.asking = strangerPatience
	for range strangerPatience {
		c.recordStranger(result{outcome: failed}, false, epoch)
	}
	return c
}

// cand makes a candidate with one outcome per letter: d dialled, f failed,
// n declined; each from the next server.
func cand(addr string, src source, outcomes string) *candidate {
	return hear(newCandidate(ma.StringCast(addr), src, epoch), outcomes)
}

// word is a candidate that counts on the operator's word.
func word(addr, outcomes string) *candidate {
	c := newCandidate(ma.StringCast(addr), fromAnnounced, epoch)
	c.takeWord()
	return hear(c, outcomes)
}

func hear(c *candidate, outcomes string) *candidate {
	for i, o := range outcomes {
		r := result{server: peer.ID(fmt.Sprint("server", i)), outcome: letters[o]}
		c.record(r, true, epoch.Add(time.Duration(i)*time.Second))
	}
	return c
}

func TestReduce(t *testing.T) {
	const v4, v4b, v6, lan = "/ip4/11.0.0.2/udp/4001/quic-v1", "/ip4/11.0.0.3/udp/4001/quic-v1", "/ip6/2a01::2/udp/4001/quic-v1", "/ip4/192.168.0.2/udp/4001/quic-v1"
	const tcp, name = "/ip4/11.0.0.2/tcp/4001", "/dns/relay.example/udp/4001/quic-v1"
	asking := cand(v4, fromInterface, "")
	asking.asking["server"] = struct{}{}
	for _, c := range []struct {
		name    string
		cands   []*candidate
		servers int
		want    string // reachability, IPv4, IPv6, weak
		because string
	}{
		{"nothing", nil, 0, "unknown unknown unknown strong", "no connected peer offers AutoNAT v2 yet"},
		{"no servers", []*candidate{cand(v4, fromInterface, "")}, 0, "unknown unknown unknown strong", "no connected peer offers AutoNAT v2 yet"},
		{"no address", nil, 3, "unknown unknown unknown strong", "no public address of ours is known yet"},
		{"under way", []*candidate{asking}, 1, "unknown unknown unknown strong", "the first dial-back is on its way"},
		{"not yet asked", []*candidate{cand(v4, fromInterface, "")}, 1, "unknown unknown unknown strong", "no dial-back was asked for yet"},
		{"declined", []*candidate{cand(v4, fromInterface, "nn")}, 2, "unknown unknown unknown strong", "servers declined to dial us back so far"},
		{"one dialled", []*candidate{cand(v4, fromInterface, "d")}, 1, "public public unknown weak", "1 of 1 server dialled 11.0.0.2:4001 over QUIC"},
		{"two dialled", []*candidate{cand(v4, fromInterface, "dd")}, 2, "public public unknown strong", "2 of 2 servers dialled 11.0.0.2:4001 over QUIC"},
		{"one dialled, one declined", []*candidate{cand(v4, fromInterface, "dn")}, 2, "public public unknown weak", "1 of 1 server dialled 11.0.0.2:4001 over QUIC"},
		{"doubt", []*candidate{cand(v4, fromInterface, "df")}, 2, "public public unknown weak", "1 of 2 servers dialled 11.0.0.2:4001 over QUIC"},
		{"settled, then doubt", []*candidate{cand(v4, fromInterface, "ddff")}, 4, "public public unknown strong", "2 of 4 servers dialled 11.0.0.2:4001 over QUIC"},
		{"a minority got through", []*candidate{cand(v4, fromInterface, "dff")}, 3, "private private unknown strong", "2 of 3 servers could not dial 11.0.0.2:4001 over QUIC"},
		{"no doubt any more", []*candidate{cand(v4, fromInterface, "ddfff")}, 5, "private private unknown strong", "3 of 5 servers could not dial 11.0.0.2:4001 over QUIC"},
		{"one failed", []*candidate{cand(v4, fromInterface, "f")}, 1, "private private unknown weak", "1 of 1 server could not dial 11.0.0.2:4001 over QUIC"},
		{"two failed", []*candidate{cand(v4, fromInterface, "ff")}, 2, "private private unknown strong", "2 of 2 servers could not dial 11.0.0.2:4001 over QUIC"},
		{"failed, then dialled: a third decides", []*candidate{cand(v4, fromInterface, "fd")}, 2, "private private unknown weak", "1 of 2 servers could not dial 11.0.0.2:4001 over QUIC"},
		{"a majority got through", []*candidate{cand(v4, fromInterface, "fdd")}, 3, "public public unknown strong", "2 of 3 servers dialled 11.0.0.2:4001 over QUIC"},
		{"two addresses failed", []*candidate{cand(v4, fromInterface, "ff"), cand(v4b, fromObserved, "f")}, 2, "private private unknown strong", "2 of 2 servers could not dial 11.0.0.2:4001 over QUIC, nor 1 address more"},
		{"three addresses failed", []*candidate{cand(v4, fromInterface, "f"), cand(v4b, fromObserved, "f"), cand(v6, fromInterface, "f")}, 1, "private private private weak", "1 of 1 server could not dial 11.0.0.2:4001 over QUIC, nor 2 addresses more"},
		{"each server another address", []*candidate{cand(v4, fromObserved, "f"), cand(v4b, fromObserved, "nf")}, 2, "private private unknown strong", "2 of 2 servers could not dial any of 2 addresses like 11.0.0.2:4001 over QUIC"},
		{"another server for each transport", []*candidate{cand(v4, fromObserved, "f"), cand(tcp, fromObserved, "nf")}, 2, "private private unknown weak", "1 of 1 server could not dial 11.0.0.2:4001 over QUIC, nor 1 address more"},
		{"most tried the other transport", []*candidate{cand(v4, fromObserved, "f"), cand(tcp, fromObserved, "fff")}, 3, "private private unknown strong", "3 of 3 servers could not dial 11.0.0.2:4001 over TCP, nor 1 address more"},
		{"one of two addresses", []*candidate{cand(v4, fromInterface, "ff"), cand(v4b, fromObserved, "d")}, 2, "public public unknown weak", "1 of 1 server dialled 11.0.0.3:4001 over QUIC, but it is one that we talk to: a relay is kept until a stranger gets through"},
		{"behind a box", []*candidate{cand(v4, fromObserved, "dd")}, 2, "public public unknown strong", "2 of 2 servers dialled 11.0.0.2:4001 over QUIC, but every server is one that we talk to: a relay is kept until a stranger gets through"},
		{"behind a box, by a stranger", []*candidate{strange(cand(v4, fromObserved, "dd"))}, 2, "public public unknown strong", "2 of 2 servers dialled 11.0.0.2:4001 over QUIC, and so did a stranger"},
		{"a stranger came by itself", []*candidate{strange(cand(v4, fromInterface, ""))}, 0, "public public unknown strong", "a stranger dialled 11.0.0.2:4001 over QUIC"},
		{"servers get through and strangers do not", []*candidate{filter(cand(v4, fromObserved, "dd"))}, 2, "private private unknown strong", "2 of 2 servers dialled 11.0.0.2:4001 over QUIC, but no stranger could: only hosts that we talk to get through"},
		{"no stranger, and one address more", []*candidate{filter(cand(v4, fromObserved, "dd")), cand(tcp, fromObserved, "ff")}, 2, "private private unknown strong", "2 of 2 servers dialled 11.0.0.2:4001 over QUIC, but no stranger could: only hosts that we talk to get through"},
		{"a mapping", []*candidate{cand(v4, fromMapped, "dd")}, 2, "public public unknown strong", "2 of 2 servers dialled 11.0.0.2:4001 over QUIC"},
		{"one of two families", []*candidate{cand(v4, fromInterface, "ff"), cand(v6, fromInterface, "dd")}, 2, "public private public strong", "2 of 2 servers dialled [2a01::2]:4001 over QUIC"},
		{"the better evidence speaks", []*candidate{cand(v4, fromInterface, "d"), cand(v4b, fromInterface, "dd")}, 2, "public public unknown strong", "2 of 2 servers dialled 11.0.0.3:4001 over QUIC"},
		{"the operator's word", []*candidate{cand(lan, fromAnnounced, "")}, 0, "public public unknown strong", "the operator announced 192.168.0.2:4001 over QUIC; AutoNAT does not judge private addresses"},
		{"the operator's word is not evidence if public", []*candidate{cand(v4, fromAnnounced, "")}, 1, "unknown unknown unknown strong", "no dial-back was asked for yet"},
		{"the operator's word on a name", []*candidate{word(name, "nn")}, 2, "public public public strong", "the operator announced relay.example:4001 over QUIC; no server has judged the name"},
		{"the operator's word against one server's", []*candidate{word(name, "nfn")}, 3, "public public public strong", "the operator announced relay.example:4001 over QUIC; 1 server could not dial it, and the others do not judge names"},
		{"the operator's word against most servers'", []*candidate{word(name, "nffff")}, 5, "private private private strong", "4 of 4 servers could not dial relay.example:4001 over QUIC"},
		{"a name that servers can dial, and do not reach", []*candidate{word(name, "ffff")}, 4, "private private private strong", "4 of 4 servers could not dial relay.example:4001 over QUIC"},
		{"a private address of an interface", []*candidate{cand(lan, fromInterface, "")}, 1, "unknown unknown unknown strong", "no dial-back was asked for yet"},
		{"a name", []*candidate{cand(name, fromAnnounced, "dd")}, 2, "public public public strong", "2 of 2 servers dialled relay.example:4001 over QUIC"},
	} {
		v, _ := reduce(c.cands, c.servers, epoch)
		strength := "strong"
		if v.Weak {
			strength = "weak"
		}
		if got := fmt.Sprint(v.Reachability, " ", v.IPv4, " ", v.IPv6, " ", strength); got != c.want || v.Because != c.because {
			t.Errorf("%s: got %s because %q, want %s because %q", c.name, got, v.Because, c.want, c.because)
		}
		if v.NeedsRelay() != (v.IPv4 != Public || v.IPv6 == Private || v.Insured) || v.Insured != strings.Contains(v.Because, "a relay is kept") {
			t.Errorf("%s: needs a relay %v with IPv4 %s and IPv6 %s", c.name, v.NeedsRelay(), v.IPv4, v.IPv6)
		}
		if len(v.Addrs) != len(c.cands) {
			t.Errorf("%s: evidence on %d addresses, want %d", c.name, len(v.Addrs), len(c.cands))
		}
		for _, a := range v.Addrs {
			if (a.Reachability == Private) != v.Unreachable()[a.Addr] {
				t.Errorf("%s: Unreachable is %v with %+v", c.name, v.Unreachable(), a)
			}
		}
		none, _ := reduce(nil, c.servers, epoch)
		if !v.same(v) || (len(v.Addrs) > 0 && v.same(none)) {
			t.Errorf("%s: same is wrong about %+v", c.name, v)
		}
	}
}

// TestTransportConfidence: a transport's verdict is as sure as all who could not
// dial it, each at another address.
func TestTransportConfidence(t *testing.T) {
	const a, b, tcp = "/ip4/11.0.0.2/udp/4001/quic-v1", "/ip4/11.0.0.2/udp/4002/quic-v1", "/ip4/11.0.0.2/tcp/4001"
	v, _ := reduce([]*candidate{cand(a, fromObserved, "f"), cand(b, fromObserved, "nf"), cand(tcp, fromObserved, "f")}, 2, epoch)
	got := make(map[string]Confidence)
	for _, tv := range v.Transports {
		got[tv.Transport] = tv.Confidence
	}
	if got["quic"] != Strong || got["tcp"] != Weak || v.Confidence != Strong {
		t.Errorf("got %v and %s in all, want QUIC strong, TCP weak, strong in all", got, v.Confidence)
	}
}

func TestVerdictJSON(t *testing.T) {
	v, _ := reduce([]*candidate{cand("/ip4/11.0.0.2/udp/4001/quic-v1", fromObserved, "d"), cand("/ip4/11.0.0.2/tcp/4001", fromInterface, "")}, 1, epoch)
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"reachability":"public"`, `"ipv6":"unknown"`, `"weak":true`, `"dialled_by":1`, `"source":"observed"`, `"source":"interface"`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("got %s, want %s in it", data, want)
		}
	}
	if got := strings.Count(string(data), "last_checked"); got != 1 {
		t.Errorf("%d addresses have a time of last check, want 1: %s", got, data)
	}
}

func TestLibp2pReachability(t *testing.T) {
	for r, want := range map[Reachability]network.Reachability{
		Unknown: network.ReachabilityUnknown, Private: network.ReachabilityPrivate, Public: network.ReachabilityPublic, "": network.ReachabilityUnknown,
	} {
		if got := r.libp2p(); got != want {
			t.Errorf("%q: got %v, want %v", r, got, want)
		}
	}
}

// TestRecord follows one address through outcomes: what it is held for, and
// when it is asked about again. Each letter is an outcome as in cand.
func TestRecord(t *testing.T) {
	for _, c := range []struct {
		outcomes string
		other    bool
		want     Reachability
		next     time.Duration
	}{
		{"", true, Unknown, 0},
		{"d", true, Public, confirmOther},
		{"d", false, Public, confirmSame},
		{"dd", true, Public, confirmOther},
		{"dd", false, Public, recheckPublic},
		{"ddd", true, Public, recheckPublic},
		{"f", true, Private, confirmOther},
		{"f", false, Private, confirmSame},
		{"ff", true, Private, confirmOther},
		{"ff", false, Private, recheckPrivate},
		{"fff", true, Private, recheckPrivate},
		{"ddf", true, Public, confirmOther},
		{"dddf", true, Public, recheckDoubt},
		{"ddff", true, Public, confirmOther},
		{"ddff", false, Public, recheckDoubt},
		{"ddfff", true, Private, recheckPrivate},
		{"ddfff", false, Private, recheckPrivate},
		{"ddffd", true, Public, recheckPublic},
		{"ddffdff", true, Public, recheckDoubt}, // in a row means in a row
		{"ffd", true, Private, confirmOther},    // a minority
		{"ffd", false, Private, recheckPrivate},
		{"fd", false, Public, confirmSame},
		{"ffdd", false, Public, confirmSame},
		{"ffddd", true, Public, recheckPublic},
		{"s", true, Private, confirmOther},
		{"dds", true, Public, confirmOther},
		{"dds", false, Public, recheckDoubt},
		{"dss", true, Private, confirmOther},
		{"n", true, Unknown, afterDecline},
		{"nn", true, Unknown, afterDecline},
		{"nnn", true, Unknown, afterDeclines},
		{"nnf", true, Private, confirmOther},
		{"ddn", true, Public, afterDecline},
		{"nndn", true, Public, afterDecline},
	} {
		cd := newCandidate(ma.StringCast("/ip4/11.0.0.2/tcp/1"), fromInterface, epoch)
		for i, o := range c.outcomes {
			cd.record(result{server: peer.ID(strconv.Itoa(i)), outcome: letters[o]}, c.other, epoch)
		}
		if got := cd.next.Sub(epoch); cd.reachable != c.want || got != c.next {
			t.Errorf("%q, another server %v: got %s, next in %v; want %s, next in %v", c.outcomes, c.other, cd.reachable, got, c.want, c.next)
		}
	}
	cd := newCandidate(ma.StringCast("/ip4/11.0.0.2/tcp/1"), fromInterface, epoch)
	for i := range 1000 {
		cd.record(result{server: peer.ID(strconv.Itoa(i)), outcome: outcome(i % 3)}, true, epoch.Add(time.Duration(i)))
		if len(cd.outcomes) > maxWitnesses {
			t.Fatalf("%d outcomes kept after %d servers, want at most %d", len(cd.outcomes), i+1, maxWitnesses)
		}
	}
	if _, ok := cd.outcomes["999"]; !ok {
		t.Error("the newest outcome was forgotten, not the oldest")
	}
}

// TestPickServer holds who is asked.
func TestPickServer(t *testing.T) {
	const addr = "/ip4/11.0.0.2/udp/4001/quic-v1"
	servers := func(ids ...string) map[peer.ID]*server {
		m := make(map[peer.ID]*server)
		for _, id := range ids {
			m[peer.ID(id)] = &server{doors: make(map[string]struct{})}
		}
		return m
	}
	seen := func(c *candidate, by ...string) *candidate {
		for _, id := range by {
			c.observers[peer.ID(id)] = epoch
		}
		return c
	}
	full := servers("a", "b")
	full["a"].inFlight = maxPerServer
	busy := servers("a", "b")
	for range maxPerMinute {
		busy["b"].recent = append(busy["b"].recent, epoch)
	}
	said := func(c *candidate, who string, o outcome, at int) *candidate {
		c.record(result{server: peer.ID(who), outcome: o}, true, epoch.Add(time.Duration(at)*time.Second))
		return c
	}
	for _, c := range []struct {
		name    string
		servers map[peer.ID]*server
		cand    *candidate
		want    string
	}{
		{"none", servers(), cand(addr, fromInterface, ""), ""},
		{"the only one", servers("a"), cand(addr, fromInterface, ""), "a"},
		{"no room", full, cand(addr, fromInterface, ""), "b"},
		{"too often in this minute", busy, cand(addr, fromInterface, ""), "a"},
		{"who sees us costs nothing", servers("a", "b", "c"), seen(cand(addr, fromInterface, ""), "b"), "b"},
		{"one peer's word is asked of that peer", servers("a", "b", "c"), seen(cand(addr, fromObserved, ""), "c"), "c"},
		{"and of nobody else", servers("a", "b"), seen(cand(addr, fromObserved, ""), "c"), ""},
		{"two peers' word is asked of others too", servers("a"), seen(cand(addr, fromObserved, ""), "b", "c"), "a"},
		{"who has not judged yet", servers("a", "b"), said(cand(addr, fromInterface, ""), "a", dialled, 0), "b"},
		{"who has not judged yet before who sees us", servers("a", "b"), seen(said(cand(addr, fromInterface, ""), "a", dialled, 0), "a"), "b"},
		{"in turn", servers("a", "b"), said(said(cand(addr, fromInterface, ""), "a", dialled, 1), "b", dialled, 0), "b"},
		{"in turn after it declined", servers("a", "b"), said(said(said(cand(addr, fromInterface, ""), "a", dialled, 1), "b", dialled, 0), "b", declined, 2), "a"},
	} {
		tr := &Tracker{servers: c.servers}
		for range 10 { // map order must not matter
			if got, ok := tr.pickServer(c.cand, epoch.Add(10*time.Second), false); string(got) != c.want || ok != (c.want != "") {
				t.Errorf("%s: got %q, %v, want %q", c.name, got, ok, c.want)
				break
			}
		}
	}
	if got, _ := (&Tracker{servers: busy}).pickServer(seen(cand(addr, fromObserved, ""), "b"), epoch.Add(time.Minute+time.Second), false); got != "b" {
		t.Errorf("a minute later: got %q, want b again", got)
	}
}

// TestGist: what is counted makes no difference, what is found and where does.
func TestGist(t *testing.T) {
	const a, b, tcp = "/ip4/11.0.0.2/udp/4001/quic-v1", "/ip4/11.0.0.2/udp/4002/quic-v1", "/ip4/11.0.0.2/tcp/4001"
	one := func(addr, outcomes string) *candidate { return cand(addr, fromObserved, outcomes) }
	for _, c := range []struct {
		name     string
		one, two []*candidate
		same     bool
	}{
		{"a third server", []*candidate{one(a, "ff")}, []*candidate{one(a, "fff")}, true},
		{"TCP as well", []*candidate{one(a, "ff")}, []*candidate{one(a, "ff"), one(tcp, "ff")}, true},
		{"TCP alone", []*candidate{one(a, "ff")}, []*candidate{one(tcp, "ff")}, true},
		{"a symmetric NAT", []*candidate{one(a, "f")}, []*candidate{one(a, "f"), one(b, "nf")}, true},
		{"insured by more", []*candidate{one(a, "d")}, []*candidate{one(a, "ddd")}, true},
		{"another address", []*candidate{one(a, "ff")}, []*candidate{one("/ip4/12.0.0.2/udp/4001/quic-v1", "ff")}, false},
		{"public and private", []*candidate{one(a, "dd")}, []*candidate{one(a, "ff")}, false},
		{"a stranger came", []*candidate{one(a, "dd")}, []*candidate{strange(one(a, "dd"))}, false},
		{"no stranger could", []*candidate{one(a, "ff")}, []*candidate{filter(one(a, "dd"))}, false},
		{"an interface's", []*candidate{one(a, "dd")}, []*candidate{cand(a, fromInterface, "dd")}, false},
		{"nothing known", []*candidate{one(a, "")}, []*candidate{one(a, "")}, false}, // another word is news
	} {
		v, x := reduce(c.one, 3, epoch)
		w, y := reduce(c.two, 3, epoch)
		if same := x != "" && x == y; same != c.same {
			t.Errorf("%s: %q is %q, and %q is %q; want the same: %v", c.name, v.Because, x, w.Because, y, c.same)
		}
	}
}

// TestSaidOnce: whoever follows the verdicts hears each answer once, and whoever
// asks for it how many have given it.
func TestSaidOnce(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		s := track(t, start(t, n.NAT("box", testnet.PortRestricted()).Host("subject"), true))
		for i := range 4 {
			connect(t, s, start(t, n.Host(fmt.Sprint("server", i)), true))
		}
		time.Sleep(time.Hour)
		var said []string
		s.mu.Lock()
		for _, v := range s.verdicts {
			if text := v.Because; v.Reachability == Private && (len(said) == 0 || said[len(said)-1] != text) {
				said = append(said, text)
			}
		}
		s.mu.Unlock()
		if len(said) == 0 || len(said) > 2 { // one server's word, and more than one's
			t.Errorf("said private %d times, want once or twice:\n%s", len(said), strings.Join(said, "\n"))
		}
		if v := s.tracker.Verdict(); v.Addrs[0].FailedBy < 3 || !strings.HasPrefix(v.Because, fmt.Sprint(v.Addrs[0].FailedBy, " of ")) {
			t.Errorf("%d servers failed, and the verdict says %q", v.Addrs[0].FailedBy, v.Because)
		}
	})
}
