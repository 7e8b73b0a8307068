package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/direct"
	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/portmap"
)

func TestPathText(t *testing.T) {
	relay, err := peer.Decode("12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	since := now.Add(-90 * time.Second)
	via := node.Path{Relay: relay, Transport: "quic"}
	for _, tt := range []struct {
		p    node.DirectPath
		want string
	}{
		{
			node.DirectPath{Path: via, PeerStatus: direct.PeerStatus{Since: since}},
			"via relay 12D3…t9HyQ6X for 1m30s: no direct path was tried yet",
		},
		{
			node.DirectPath{Path: via, PeerStatus: direct.PeerStatus{Since: since, Attempts: 1}},
			"via relay 12D3…t9HyQ6X for 1m30s: a direct path is being tried",
		},
		{
			node.DirectPath{Path: node.Path{Relay: relay, Transport: "wss"}, PeerStatus: direct.PeerStatus{Since: since, Attempts: 1}},
			"via relay 12D3…t9HyQ6X over TLS for 1m30s: a direct path is being tried",
		},
		{
			node.DirectPath{Path: via, PeerStatus: direct.PeerStatus{
				Since: since, Attempts: 3, Outcome: direct.TimedOut, Why: "nothing came back in time", Again: now.Add(4 * time.Minute),
			}},
			"via relay 12D3…t9HyQ6X for 1m30s: nothing came back in time (tried 3 times, again in 4m0s)",
		},
		{
			node.DirectPath{Path: via, PeerStatus: direct.PeerStatus{Since: since, Attempts: 1, Outcome: direct.MissedPorts}},
			"via relay 12D3…t9HyQ6X for 1m30s: missed ports (tried once, next when the peer begins)",
		},
		{
			node.DirectPath{Path: node.Path{Transport: "quic"}, PeerStatus: direct.PeerStatus{Direct: true, Since: since, Attempts: 1, Outcome: direct.Punched}},
			"direct quic",
		},
		{
			node.DirectPath{Path: node.Path{Transport: "quic"}, PeerStatus: direct.PeerStatus{Direct: true, Since: since, DirectSince: now, Outcome: direct.Punched}},
			"direct quic for 1s, upgraded from a relayed path",
		},
	} {
		tt.want = strings.ReplaceAll(tt.want, "12D3…t9HyQ6X", node.ShortID(relay))
		if got := pathText(tt.p, now); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

func TestStatusHasPathsAndPorts(t *testing.T) {
	s := node.Status{
		PortMapping: &portmap.Status{Text: "no router maps ports here: nobody answered"},
		Paths:       []node.DirectPath{{Path: node.Path{Transport: "tcp"}, PeerStatus: direct.PeerStatus{Direct: true}}},
	}
	var b strings.Builder
	if err := writeStatus(&b, s, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"port mapping  no router maps ports here: nobody answered\n", "direct tcp\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("got\n%s\nwant %q in it", b.String(), want)
		}
	}
}
