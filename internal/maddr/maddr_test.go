package maddr

import (
	"testing"

	ma "github.com/multiformats/go-multiaddr"
)

func TestRead(t *testing.T) {
	const relay = "/p2p/12D3KooWGsM8nhmnXtpzGxxgLiDbgiNkdEdFrZQwohop14GSpYiU"
	for _, c := range []struct {
		text, transport, ip string
		circuit             bool
	}{
		{"/ip4/11.0.0.2/tcp/4001", "tcp", "11.0.0.2", false},
		{"/ip4/11.0.0.2/udp/4001/quic-v1", "quic", "11.0.0.2", false},
		{"/ip6/::ffff:11.0.0.2/tcp/4001/ws", "ws", "11.0.0.2", false},
		{"/ip6/2a00:1450::1/udp/4001/quic-v1/webtransport", "webtransport", "2a00:1450::1", false},
		{"/ip4/11.0.0.2/udp/4001/webrtc-direct", "webrtc", "11.0.0.2", false},
		{"/dns4/example.com/tcp/443/wss", "ws", "invalid IP", false},
		{"/ip4/11.0.0.2/udp/4001/quic-v1" + relay + "/p2p-circuit", "quic", "11.0.0.2", true},
		{"/ip4/11.0.0.2/tcp/4001" + relay + "/p2p-circuit/webrtc", "tcp", "11.0.0.2", true},
		{"/p2p-circuit", "", "invalid IP", true},
		{"/ip4/11.0.0.2/udp/53", "", "11.0.0.2", false},
		{"", "", "invalid IP", false},
	} {
		var a ma.Multiaddr
		if c.text != "" {
			a = ma.StringCast(c.text)
		}
		if Transport(a) != c.transport || IP(a).String() != c.ip || IsCircuit(a) != c.circuit {
			t.Errorf("%q: got %q at %s, circuit %t; want %q at %s, circuit %t",
				c.text, Transport(a), IP(a), IsCircuit(a), c.transport, c.ip, c.circuit)
		}
	}
}

func TestIsSecureWS(t *testing.T) {
	for text, want := range map[string]bool{
		"/dns4/example.com/tcp/443/wss":                true,
		"/dns4/example.com/tcp/443/tls/ws":             true,
		"/ip4/11.0.0.2/tcp/443/tls/sni/example.com/ws": true,
		"/dns4/example.com/tcp/443/tls/ws/p2p-circuit": true,
		"/ip4/11.0.0.2/tcp/4001/ws":                    false,
		"/ip4/11.0.0.2/tcp/4001":                       false,
		"/ip4/11.0.0.2/tcp/4001/p2p-circuit/tls/ws":    false,
		"/ip4/11.0.0.2/tcp/443/tls":                    false,
	} {
		if got := IsSecureWS(ma.StringCast(text)); got != want {
			t.Errorf("%s: got %t, want %t", text, got, want)
		}
	}
}
