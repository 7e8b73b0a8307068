package autorelay

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	ma "github.com/multiformats/go-multiaddr"
)

func randomID(t *testing.T) peer.ID {
	t.Helper()
	_, pub, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestCircuitAddrs(t *testing.T) {
	relay, other := randomID(t), randomID(t)
	const (
		quic4   = "/ip4/11.0.0.1/udp/4001/quic-v1"
		tcp4    = "/ip4/11.0.0.1/tcp/4001"
		tcp6    = "/ip6/2a00::1/tcp/4001"
		name    = "/dns4/relay.example.org/tcp/443/tls/ws"
		lan     = "/ip4/10.0.0.1/tcp/4001"
		any4    = "/ip4/0.0.0.0/tcp/4001"
		foreign = "/ip4/11.0.0.9/tcp/4001"
	)
	many := func(n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf("/ip4/11.1.%d.%d/tcp/4001", i/256, i%256))
		}
		return list
	}
	own := "/p2p/" + relay.String()
	circuit := own + "/p2p-circuit"
	for _, c := range []struct {
		name                string
		policy              addrPolicy
		told, vouched, live []string
		want                []string // without the relay's own part
	}{
		{name: "nothing known"},
		{name: "told", told: []string{quic4, tcp6}, want: []string{quic4, tcp6}},
		{name: "with the relay's ID in them", told: []string{quic4 + own}, want: []string{quic4}},
		{name: "a name", told: []string{name}, want: []string{name}},
		{name: "told counts, not the reservation", told: []string{quic4}, vouched: []string{tcp4}, want: []string{quic4}},
		{name: "the reservation fills in", vouched: []string{tcp4}, want: []string{tcp4}},
		{name: "live in any case", told: []string{quic4}, live: []string{tcp4}, want: []string{quic4, tcp4}},
		{name: "no address twice", told: []string{quic4, quic4 + own}, live: []string{quic4}, want: []string{quic4}},
		{name: "somebody else's", told: []string{foreign + "/p2p/" + other.String(), quic4}, want: []string{quic4}},
		{name: "circuits over circuits", told: []string{foreign + "/p2p/" + other.String() + "/p2p-circuit", "/p2p-circuit", quic4 + circuit, quic4}, want: []string{quic4}},
		{name: "only a name", told: []string{own}},
		{name: "private ones are no use to strangers", told: []string{lan, quic4, any4}, vouched: []string{lan}, live: []string{lan}, want: []string{quic4}},
		{name: "all private", told: []string{lan}, live: []string{lan}},
		{name: "private allowed", policy: addrPolicy{private: true}, told: []string{lan, any4}, live: []string{lan}, want: []string{lan}},
		{name: "private network: not unless vouched for", policy: addrPolicy{vouchedPrivate: true}, told: []string{lan}, live: []string{lan}},
		{name: "private network: vouched for", policy: addrPolicy{vouchedPrivate: true}, vouched: []string{lan, any4}, want: []string{lan}},
		{name: "private network: vouched for beside told", policy: addrPolicy{vouchedPrivate: true}, told: []string{quic4, lan}, vouched: []string{lan}, want: []string{lan, quic4}},
		{name: "only so many", told: many(10000), want: many(maxPerRelay)},
		{name: "live has its place among many", told: many(10000), live: []string{tcp4}, want: append([]string{tcp4}, many(maxPerRelay-1)...)},
		{name: "over TLS has its place among many", told: append(many(10000), name), want: append([]string{name}, many(maxPerRelay-1)...)},
		{name: "overlong", told: []string{"/dns4/" + strings.Repeat("a.", 500) + "org/tcp/1", quic4}, want: []string{quic4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := c.policy.circuitAddrs(relay, addrs(c.told), addrs(c.vouched), addrs(c.live))
			want := make(map[string]bool)
			for _, s := range c.want {
				want[s+circuit] = true
			}
			ok := len(got) == len(want)
			for _, a := range got {
				ok = ok && want[a.String()]
			}
			if !ok {
				t.Errorf("told %s, vouched %s, live %s:\ngot  %s\nwant %s through %s", few(c.told), c.vouched, c.live, few(stringsOf(got)), c.want, relay)
			}
			for i := 1; i < len(got); i++ {
				if got[i-1].Compare(got[i]) > 0 {
					t.Errorf("order: got %v, want it independent of the order of what came in", got)
				}
			}
			// The same set in another order is the same result: no change to publish.
			if len(c.told) <= maxPerRelay {
				turned := addrs(c.told)
				for i, j := 0, len(turned)-1; i < j; i, j = i+1, j-1 {
					turned[i], turned[j] = turned[j], turned[i]
				}
				again := c.policy.circuitAddrs(relay, turned, addrs(c.vouched), addrs(c.live))
				if fmt.Sprint(again) != fmt.Sprint(got) {
					t.Errorf("reversed input: got %v, want %v", again, got)
				}
			}
		})
	}
}

func TestNameless(t *testing.T) {
	for a, want := range map[string]bool{
		"/ip4/11.0.0.1/tcp/443/wss":                      true,
		"/ip4/11.0.0.1/tcp/443/tls/ws":                   true,
		"/ip4/11.0.0.1/tcp/443/tls/sni/relay.example/ws": false,
		"/dns4/relay.example/tcp/443/tls/ws":             false,
		"/dns/relay.example/tcp/443/wss":                 false,
		"/ip4/11.0.0.1/tcp/4001/ws":                      false,
		"/ip4/11.0.0.1/tcp/443":                          false,
		"/ip4/11.0.0.1/udp/4001/quic-v1/webtransport":    false,
	} {
		if got := nameless(ma.StringCast(a)); got != want {
			t.Errorf("nameless(%s): got %v, want %v", a, got, want)
		}
	}
	if hasName(ma.StringCast("/dns4/relay.example/tcp/443")) || !hasName(ma.StringCast("/dns4/relay.example/tcp/443/tls/ws")) {
		t.Error("hasName: want it for TLS and WebSocket alone")
	}
	if nameless(nil) {
		t.Error("nameless(nil): got true")
	}
}

// few shortens a list for a failure text.
func few(list []string) string {
	if len(list) > 10 {
		return fmt.Sprintf("%.100q and %d more", list[:3], len(list)-3)
	}
	return fmt.Sprintf("%.100q", list)
}

func addrs(list []string) []ma.Multiaddr {
	out := make([]ma.Multiaddr, len(list))
	for i, s := range list {
		out[i] = ma.StringCast(s)
	}
	return out
}

func TestCircuitAddrsOfNil(t *testing.T) {
	id := randomID(t)
	if got := (addrPolicy{private: true, vouchedPrivate: true}).circuitAddrs(id, []ma.Multiaddr{nil, {}}, []ma.Multiaddr{nil}, []ma.Multiaddr{nil}); len(got) != 0 {
		t.Errorf("nil addresses: got %v, want none", got)
	}
}

func TestBackoff(t *testing.T) {
	for _, c := range []struct {
		why  Reason
		n    int
		most time.Duration
	}{
		{Unreachable, 1, 2 * time.Second},
		{Unreachable, 2, 4 * time.Second},
		{Misbehaved, 5, 32 * time.Second},
		{Unreachable, 6, time.Minute},
		{Unreachable, 1 << 40, time.Minute},
		{Full, 1, 30 * time.Second},
		{Full, 2, time.Minute},
		{Full, 6, 10 * time.Minute},
		{Full, 1 << 40, 10 * time.Minute},
		{Forbidden, 1, 10 * time.Minute},
		{Forbidden, 1 << 40, 2 * time.Hour},
	} {
		least, seen := c.most/4, make(map[time.Duration]bool)
		for range 1000 {
			d := backoff(c.why, c.n)
			seen[d] = true
			if d < least || d > c.most {
				t.Errorf("backoff(%q, %d): got %v, want %v to %v", c.why, c.n, d, least, c.most)
				break
			}
		}
		if len(seen) < 900 {
			t.Errorf("backoff(%q, %d): got %d different pauses of 1000, want jitter", c.why, c.n, len(seen))
		}
	}
}

func TestReasonAndSentence(t *testing.T) {
	status := func(s pbv2.Status) error { return client.ReservationError{Status: s, Reason: "reservation failed"} }
	for _, c := range []struct {
		err    error
		reason Reason
		want   string
	}{
		{status(pbv2.Status_RESERVATION_REFUSED), Full, "RESERVATION_REFUSED"},
		{status(pbv2.Status_RESOURCE_LIMIT_EXCEEDED), Full, "RESOURCE_LIMIT_EXCEEDED"},
		{status(pbv2.Status_PERMISSION_DENIED), Forbidden, "PERMISSION_DENIED"},
		{status(pbv2.Status_MALFORMED_MESSAGE), Misbehaved, "MALFORMED_MESSAGE"},
		{status(pbv2.Status_UNEXPECTED_MESSAGE), Misbehaved, "UNEXPECTED_MESSAGE"},
		{status(pbv2.Status(4711)), Unreachable, "4711"},
		{context.DeadlineExceeded, Unreachable, "no answer in time"},
		{fmt.Errorf("dial: %w", context.DeadlineExceeded), Unreachable, "no answer in time"},
		{client.ReservationError{Status: pbv2.Status_CONNECTION_FAILED, Reason: "failed to open stream"}, Unreachable, "CONNECTION_FAILED"},
		{errors.New("first\nsecond"), Unreachable, "first"},
		{errors.New(strings.Repeat("ä", 10000)), Unreachable, strings.Repeat("ä", 30) + "…"},
	} {
		if got := reasonOf(c.err); got != c.reason {
			t.Errorf("reasonOf(%.60v): got %q, want %q", c.err, got, c.reason)
		}
		if got := sentence(c.err); got != c.want {
			t.Errorf("sentence(%.60v): got %q, want %q", c.err, got, c.want)
		}
	}
}

func TestConfig(t *testing.T) {
	_, err := New(Config{Relays: -1, ProbeInterval: -time.Second})
	for _, part := range []string{"Host is missing", "Relays is -1", "ProbeInterval is -1s"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("New with three faults: got %v, want %q in it", err, part)
		}
	}
	if got := (Config{}).withDefaults(); got.Relays != 2 || got.ProbeInterval != time.Second || got.OnAddrs == nil || got.OnEvent == nil || got.OnNeed == nil {
		t.Errorf("defaults: got %+v, want 2 relays, 1 s and callbacks", got)
	}
}
