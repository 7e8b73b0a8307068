package main

import (
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/admin"
	"github.com/causeway-p2p/causeway/node"
)

func TestPingLines(t *testing.T) {
	relay, err := peer.Decode("12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X")
	if err != nil {
		t.Fatal(err)
	}
	direct := node.Path{Transport: "quic"}
	lines := []admin.PingLine{
		{Seq: 1, Ping: node.Ping{RTT: 48 * time.Millisecond, Path: node.Path{Relay: relay}}},
		{Upgrade: &admin.Upgrade{To: direct, After: 312 * time.Millisecond}},
		{Seq: 2, Ping: node.Ping{RTT: 9500 * time.Microsecond, Path: direct}},
		{Seq: 3, Error: &admin.Error{Kind: admin.Unreachable, Message: "gone"}},
	}
	for _, tt := range []struct {
		json bool
		want string
	}{
		{false, "  1  via relay 12D3…9HyQ6X            48 ms\n" +
			"     path upgraded to direct quic after 312 ms\n" +
			"  2  direct quic                      9.5 ms\n" +
			"  3  no answer: gone\n"},
		{true, `{"seq":1,"rtt_ns":48000000,"path":{"relay":"12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"}}` + "\n" +
			`{"upgrade":{"time":"0001-01-01T00:00:00Z","from":{},"to":{"transport":"quic"},"after_ns":312000000}}` + "\n" +
			`{"seq":2,"rtt_ns":9500000,"path":{"transport":"quic"}}` + "\n" +
			`{"seq":3,"rtt_ns":0,"path":{},"error":{"kind":"peer unreachable","error":"gone"}}` + "\n"},
	} {
		var out strings.Builder
		p := pinger{out: &out, json: tt.json}
		for _, l := range lines {
			if !p.line(l) {
				t.Fatal("ended early")
			}
		}
		if out.String() != tt.want {
			t.Errorf("got\n%s\nwant\n%s", out.String(), tt.want)
		}
		if p.answered != 2 {
			t.Errorf("got %d answers, want 2: an upgrade is none", p.answered)
		}
	}
}
