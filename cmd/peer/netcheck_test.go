package main

import (
	"testing"
	"time"

	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/reachability"
)

// TestHopeless: what no server will ever judge is not waited for.
func TestHopeless(t *testing.T) {
	const loopback, lan = "/ip4/127.0.0.1/tcp/4001", "/ip4/0.0.0.0/tcp/4001"
	now := time.Unix(1_700_000_000, 0)
	seen := reachability.Verdict{Reachability: reachability.Unknown, Addrs: []reachability.AddrVerdict{{Addr: "/ip4/11.0.0.1/tcp/4001"}}}
	for _, tt := range []struct {
		name      string
		listen    string
		up        time.Duration
		reachable bool
		verdict   reachability.Verdict
		want      bool
	}{
		{"just started", lan, 0, false, reachability.Verdict{Reachability: reachability.Unknown}, false},
		{"no relay yet", lan, time.Minute, false, reachability.Verdict{Reachability: reachability.Unknown}, false},
		{"a relay at once", lan, meetTime / 2, true, reachability.Verdict{Reachability: reachability.Unknown}, false},
		{"a relay, and no public address", lan, 2 * meetTime, true, reachability.Verdict{Reachability: reachability.Unknown}, true},
		{"a relay, and a public address", lan, time.Minute, true, seen, false},
		{"loopback, just started", loopback, meetTime, false, reachability.Verdict{Reachability: reachability.Unknown}, false},
		{"loopback", loopback, 2 * settleMore, false, reachability.Verdict{Reachability: reachability.Unknown}, true},
		{"a hint", lan, time.Minute, true, reachability.Verdict{Reachability: reachability.Private}, false},
	} {
		s := node.Status{Listen: []string{tt.listen}, Started: now.Add(-tt.up), Reachable: tt.reachable, Reachability: tt.verdict}
		if got := hopeless(s, now); got != tt.want {
			t.Errorf("%s: got %t, want %t", tt.name, got, tt.want)
		}
	}
}
