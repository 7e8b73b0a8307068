package node

import (
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/relay"
)

func TestConfigReportsAllFaults(t *testing.T) {
	_, err := New(Config{
		Network:      "Not A Name",
		Relay:        "sometimes",
		RelayLimits:  relay.Limits{Reservations: -5, CircuitBytes: 1},
		Announce:     []ma.Multiaddr{ma.StringCast("/p2p-circuit")},
		Bootstrap:    []peer.AddrInfo{{ID: "bootstrap without"}},
		StaticRelays: []peer.AddrInfo{{ID: "relay without"}},
	})
	if err == nil {
		t.Fatal("New with seven faults: got no error")
	}
	for _, part := range []string{`network name "Not A Name"`, `relay mode "sometimes"`, "reservations is -5", "circuit_bytes is 1", "announced address /p2p-circuit"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("New with seven faults: got %v, want %q in it", err, part)
		}
	}
	if got := strings.Count(err.Error(), "has no address"); got != 2 {
		t.Errorf("peers without address: got %d complaints in %v, want 2", got, err)
	}
}

func TestNetworkNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"": true, "public": true, "demo-1": true, strings.Repeat("x", 32): true,
		strings.Repeat("x", 33): false, "a/b": false, "ä": false, "A": false, "a b": false, "a\n": false,
	} {
		if _, err := New(Config{Network: name}); (err == nil) != ok {
			t.Errorf("New with network %q: got %v, want ok %v", name, err, ok)
		}
	}
}

func TestZeroConfig(t *testing.T) {
	n, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if n.ID() == "" || n.Host() != nil {
		t.Errorf("a new node: got ID %q and host %v, want an ID and no host", n.ID(), n.Host())
	}
	if s := n.Status(); s.ID != n.ID().String() || s.Network != PublicNetwork || s.Reachable || s.Listen == nil || s.Addrs == nil || s.AutoRelay != nil {
		t.Errorf("status before Start: got %+v", s)
	}
	if n.cfg.Relay != relay.Off || len(n.cfg.Listen) != 4 || !strings.HasPrefix(n.cfg.UserAgent, "causeway/") {
		t.Errorf("defaults: got %+v", n.cfg)
	}
	if got := len(bootstrapPeers(n.cfg)); got == 0 {
		t.Error("bootstrap peers of the public network: got none")
	}
	if got := bootstrapPeers(Config{Network: "demo"}); len(got) != 0 {
		t.Errorf("bootstrap peers of a private network: got %v, want none", got)
	}
	again, err := New(Config{})
	if err != nil || again.ID() == n.ID() {
		t.Errorf("a second node: got ID %v (%v), want another than %v", again.ID(), err, n.ID())
	}
}
