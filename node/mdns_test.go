package node

import (
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p"
	ma "github.com/multiformats/go-multiaddr"
)

func TestMDNSService(t *testing.T) {
	anywhere := []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0"), ma.StringCast("/ip4/0.0.0.0/tcp/0")}
	for _, tt := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"off", Config{Network: PublicNetwork, Listen: anywhere}, ""},
		{"public", Config{Network: PublicNetwork, Listen: anywhere, MDNS: true}, "_p2p._udp"},
		{"private", Config{Network: "demo", Listen: anywhere, MDNS: true}, "_p2p-91eea75741._udp"},
		{"loopback", Config{Network: "demo", Listen: anywhere[:1], MDNS: true}, ""},
		{"simulated", Config{Network: "demo", Listen: anywhere, MDNS: true, Transports: []libp2p.Option{nil}}, ""},
	} {
		got := tt.cfg.mdns()
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
		if label, _, _ := strings.Cut(got, "."); len(label) > 16 {
			t.Errorf("%s: the service name %s has %d characters, and may have 15", tt.name, label[1:], len(label)-1)
		}
	}
}
