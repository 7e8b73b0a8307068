package main

import (
	"strings"
	"testing"

	"github.com/causeway-p2p/causeway/node"
)

func TestInvitation(t *testing.T) {
	const (
		lo      = "/ip4/127.0.0.1/udp/4001/quic-v1"
		lan     = "/ip4/10.0.0.7/udp/4001/quic-v1"
		tcp     = "/ip4/21.0.0.2/tcp/4001"
		quic    = "/ip4/21.0.0.2/udp/4001/quic-v1"
		allowed = "allow-private = true\n"
	)
	list := func(addrs ...string) string {
		return "network = \"demo\"\nbootstrap = [\n  \"" + strings.Join(addrs, "/p2p/12D3\",\n  \"") + "/p2p/12D3\",\n]\n"
	}
	const only = "# The relay knows of private addresses only. If others see another: relayd --announce\n"
	for name, c := range map[string]struct {
		network string
		addrs   []string
		private bool
		want    string // below the first line
	}{
		"public addresses":      {"demo", []string{lo, lan, tcp, quic}, false, list(quic, tcp)},
		"private ones too":      {"demo", []string{lo, lan, tcp, quic}, true, list(quic, tcp, lan) + allowed},
		"private ones only":     {"demo", []string{lo, lan}, false, only + list(lan) + allowed},
		"private ones, allowed": {"demo", []string{lo, lan}, true, list(lan) + allowed},
		"nothing but loopback":  {"demo", []string{lo}, false, only + list(lo) + allowed},
		"no addresses":          {"demo", nil, true, ""},
		"the public network":    {node.PublicNetwork, []string{tcp}, false, "network = \"public\"\n"},
	} {
		got, err := invitation(node.Status{ID: "12D3", Network: c.network, Addrs: c.addrs}, c.private)
		if (err != nil) != (c.want == "") {
			t.Errorf("%s: got error %v", name, err)
			continue
		}
		comment, rest, _ := strings.Cut(got, "\n")
		if rest != c.want || c.want != "" && !strings.HasPrefix(comment, "# ") {
			t.Errorf("%s: got\n%swant below the first line\n%s", name, got, c.want)
		}
	}
}
