package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/causeway-p2p/causeway/node"
)

func TestPeerCommand(t *testing.T) {
	const (
		lo, docker = "/ip4/127.0.0.1/tcp/4001", "/ip4/172.17.0.2/udp/4001/quic-v1"
		tcp, quic  = "/ip4/21.0.0.2/tcp/4001", "/ip4/21.0.0.2/udp/4001/quic-v1"
		name       = "/dns4/relay.example/tcp/4001"
	)
	for _, c := range []struct {
		name, network string
		addrs         []string
		opts          func(*options)
		want          string
	}{
		{"public", "demo", []string{lo, tcp, quic}, nil, "peer up --network demo --bootstrap " + quic + "/p2p/12D3"},
		{"a container's only", "demo", []string{lo, docker}, nil, ""},
		{"a container's and the observed one", "demo", []string{docker, tcp}, nil, "peer up --network demo --bootstrap " + tcp + "/p2p/12D3"},
		{"a name", "demo", []string{name}, nil, "peer up --network demo --bootstrap " + name + "/p2p/12D3"},
		{"loopback only", "demo", []string{lo}, nil, ""},
		{"nothing", "demo", nil, nil, ""},
		{"a LAN", "demo", []string{lo, docker}, func(o *options) { o.AllowPrivate = true }, "peer up --allow-private --network demo --bootstrap " + docker + "/p2p/12D3"},
		{"--dev", "dev", []string{lo}, func(o *options) { o.dev, o.defaultDir, o.AllowPrivate = true, true, true }, "peer up --dev"},
		{"--dev elsewhere", "dev", []string{lo}, func(o *options) { o.dev, o.AllowPrivate = true, true }, "peer up --allow-private --network dev --bootstrap " + lo + "/p2p/12D3"},
		{"the public network, whatever is known", node.PublicNetwork, []string{docker}, nil, "peer up"},
	} {
		var o options
		if c.opts != nil {
			c.opts(&o)
		}
		s := node.Status{ID: "12D3", Network: c.network, Addrs: c.addrs}
		if got := o.peerCommand(s); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
		if got := o.forPeer(s); c.want == "" && !strings.HasPrefix(got, "no public address is known yet") {
			t.Errorf("%s: the panel says %q, want that there is no address", c.name, got)
		}
	}
}

// TestTellPeerCommand: it comes once, when there is an address.
func TestTellPeerCommand(t *testing.T) {
	var out bytes.Buffer
	r := &running{opts: &options{}, out: &out}
	for _, addrs := range [][]string{{"/ip4/172.17.0.2/tcp/4001"}, {"/ip4/21.0.0.2/tcp/4001"}, {"/ip4/21.0.0.2/tcp/4002"}} {
		r.tellPeerCommand(node.Status{ID: "12D3", Network: "demo", Addrs: addrs}, time.Time{})
	}
	if want := "00:00:00.000  for a peer: peer up --network demo --bootstrap /ip4/21.0.0.2/tcp/4001/p2p/12D3\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
