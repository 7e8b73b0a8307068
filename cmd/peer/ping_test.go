package main

import (
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/admin"
	"github.com/causeway-p2p/causeway/direct"
	"github.com/causeway-p2p/causeway/node"
)

func TestPingLines(t *testing.T) {
	relay, err := peer.Decode("12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X")
	if err != nil {
		t.Fatal(err)
	}
	quic := node.Path{Transport: "quic"}
	paths := func(p peer.ID, now time.Time) []node.DirectPath {
		return []node.DirectPath{{PeerStatus: direct.PeerStatus{
			Peer: p, Attempts: 1, Outcome: direct.TimedOut, Why: "nothing came back in time", Again: now.Add(38 * time.Second),
		}}}
	}
	lines := []admin.PingLine{
		{Seq: 1, Ping: node.Ping{RTT: 48 * time.Millisecond, Path: node.Path{Relay: relay}}},
		{Upgrade: &admin.PathChange{To: quic, After: 312 * time.Millisecond}},
		{Seq: 2, Ping: node.Ping{RTT: 9500 * time.Microsecond, Path: quic}},
		{Seq: 3, Error: &admin.Error{Kind: admin.Unreachable, Message: "gone"}},
		{Fallback: &admin.PathChange{From: quic, To: node.Path{Relay: relay}, After: 2 * time.Second}},
		{Seq: 4, Ping: node.Ping{RTT: 48 * time.Millisecond, Path: node.Path{Relay: relay}}},
	}
	for _, tt := range []struct {
		json bool
		want string
	}{
		{false, "  1  via relay 12D3…9HyQ6X            48 ms\n" +
			"     path upgraded to direct quic after 312 ms\n" +
			"  2  direct quic                      9.5 ms\n" +
			"  3  no answer: gone\n" +
			"     path via relay 12D3…9HyQ6X again after 2000 ms\n" +
			"  4  via relay 12D3…9HyQ6X            48 ms\n" +
			"     the path stayed relayed: nothing came back in time (tried once, again in 38s)\n"},
		{true, `{"seq":1,"rtt_ns":48000000,"path":{"relay":"12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"}}` + "\n" +
			`{"upgrade":{"time":"0001-01-01T00:00:00Z","from":{},"to":{"transport":"quic"},"after_ns":312000000}}` + "\n" +
			`{"seq":2,"rtt_ns":9500000,"path":{"transport":"quic"}}` + "\n" +
			`{"seq":3,"error":{"kind":"peer unreachable","error":"gone"}}` + "\n" +
			`{"fallback":{"time":"0001-01-01T00:00:00Z","from":{"transport":"quic"},"to":{"relay":"12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"},"after_ns":2000000000}}` + "\n" +
			`{"seq":4,"rtt_ns":48000000,"path":{"relay":"12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"}}` + "\n" +
			`{"relayed":{"peer":"12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X","direct":false,"since":"0001-01-01T00:00:00Z","attempts":1,"outcome":"timed_out","why":"nothing came back in time","again":"2026-01-01T00:00:38Z","path":{}}}` + "\n"},
	} {
		var out strings.Builder
		p := pinger{out: &out, json: tt.json}
		for _, l := range lines {
			if !p.line(l) {
				t.Fatal("ended early")
			}
		}
		if !p.relayed {
			t.Error("the last ping was relayed, and nobody would say why")
		}
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		p.why("somebody else", paths(relay, now), now)
		p.why(relay, paths(relay, now), now)
		if out.String() != tt.want {
			t.Errorf("got\n%s\nwant\n%s", out.String(), tt.want)
		}
		if p.answered != 3 {
			t.Errorf("got %d answers, want 3: a change of path is none", p.answered)
		}
	}
}
