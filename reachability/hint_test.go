package reachability

import (
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"

	"github.com/causeway-p2p/causeway/testnet"
)

// TestHint: a server of AutoNAT v1 is asked when there is no other, and is
// believed only so far.
func TestHint(t *testing.T) {
	for _, c := range []struct {
		name string
		nat  testnet.NATConfig
		want Reachability
	}{
		{"full cone", testnet.FullCone(), Public},
		{"port-restricted", testnet.PortRestricted(), Private},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, func(t *testing.T, n *testnet.Net) {
				s := track(t, start(t, n.NAT("box", c.nat).Host("subject"), true))
				old := start(t, n.Host("old"), false, libp2p.EnableNATService())
				old.RemoveStreamHandler(autonatv2.DialProtocol)
				connect(t, s, old)
				v, took := s.await(t, "hint", 30*time.Second, is(c.want))
				t.Logf("after %v: %s: %s", took, v.Reachability, v.Because)
				if took < hintPatience {
					t.Errorf("asked after %v already, want %v", took, hintPatience)
				}
				if v.Confidence != Hint || !v.Weak || v.Proven || !v.NeedsRelay() || v.IPv4 != c.want || v.IPv6 != Unknown || !strings.Contains(v.Because, "v1") {
					t.Errorf("got %+v, want a hint", v)
				}
				// A server of v2 is believed instead.
				connect(t, s, start(t, n.Host("server"), true))
				s.await(t, "a verdict", 5*time.Second, func(v Verdict) bool { return v.Confidence == Weak && v.Reachability == c.want })
			})
		})
	}
}
