package reachability

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/testnet"
)

func TestCarrier(t *testing.T) {
	for addr, want := range map[string]string{
		"/ip4/11.0.0.2/tcp/443/wss":                    "/ip4/11.0.0.2/tcp/443",
		"/ip4/11.0.0.2/tcp/443/tls/ws":                 "/ip4/11.0.0.2/tcp/443",
		"/ip4/11.0.0.2/tcp/443/tls/sni/x.example/ws":   "/ip4/11.0.0.2/tcp/443",
		"/ip6zone/eth0/ip6/fe80::1/tcp/443/wss":        "/ip6zone/eth0/ip6/fe80::1/tcp/443",
		"/ip4/11.0.0.2/tcp/4001/ws":                    "/ip4/11.0.0.2/tcp/4001/ws",
		"/ip4/11.0.0.2/tcp/4001":                       "/ip4/11.0.0.2/tcp/4001",
		"/ip4/11.0.0.2/udp/4001/quic-v1":               "/ip4/11.0.0.2/udp/4001/quic-v1",
		"/ip4/11.0.0.2/tcp/443/wss/p2p-circuit":        "/ip4/11.0.0.2/tcp/443/wss/p2p-circuit",
		"/ip4/11.0.0.2/tcp/4001/p2p-circuit/tcp/1/wss": "/ip4/11.0.0.2/tcp/4001/p2p-circuit/tcp/1/wss",
	} {
		if got := carrier(ma.StringCast(addr)); got.String() != want {
			t.Errorf("%s: got %s, want %s", addr, got, want)
		}
	}
	if got := carrier(nil); got != nil {
		t.Errorf("nothing: got %s", got)
	}
}

// listens is a host that says it has other sockets.
type listens struct {
	host.Host
	on []ma.Multiaddr
}

func (h listens) Network() network.Network { return listensNetwork{h.Host.Network(), h.on} }

type listensNetwork struct {
	network.Network
	on []ma.Multiaddr
}

func (n listensNetwork) ListenAddresses() []ma.Multiaddr { return n.on }

// TestInboundOverTLS: what comes in over TLS tells of the port what plain TCP does,
// although connections say /wss.
func TestInboundOverTLS(t *testing.T) {
	const seen = "/ip4/12.0.0.1/tcp/443"
	plain, secure := ma.StringCast("/ip4/10.0.0.2/tcp/443"), ma.StringCast("/ip4/10.0.0.2/tcp/443/tls/ws")
	for _, c := range []struct {
		name   string
		listen []ma.Multiaddr
		local  string
		want   bool
	}{
		{"over TLS", []ma.Multiaddr{plain, secure}, "/ip4/10.0.0.2/tcp/443/wss", true},
		{"over TLS alone, which servers cannot dial", []ma.Multiaddr{secure}, "/ip4/10.0.0.2/tcp/443/wss", false},
		{"a port of nobody's", []ma.Multiaddr{plain, secure}, "/ip4/10.0.0.2/tcp/5443/wss", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, func(t *testing.T, n *testnet.Net) {
				tr, err := New(Config{Host: listens{start(t, n.Host("subject"), false), c.listen}})
				if err != nil {
					t.Fatal(err)
				}
				runAtTheEnd(t, tr)
				come := func(who peer.ID, from string) {
					now := time.Now()
					tr.handle(event.EvtPeerIdentificationCompleted{
						Peer: who, ObservedAddr: ma.StringCast(seen + "/wss"),
						Conn: seenConn{
							fakeConn: fakeConn{local: ma.StringCast(c.local), remote: ma.StringCast(from)},
							stats:    network.ConnStats{Stats: network.Stats{Direction: network.DirInbound, Opened: now}}, by: who,
						},
					}, now)
				}
				come("one", "/ip4/22.0.0.1/tcp/5001/wss")
				come("two", "/ip4/22.0.0.2/tcp/5001/wss")
				got := tr.addrs[string(ma.StringCast(seen).Bytes())]
				if (got != nil && got.trusted()) != c.want || len(tr.sights) > 0 != c.want {
					t.Fatalf("two peers see it at %s: got candidate %+v, %d sights; want them %v", seen, got, len(tr.sights), c.want)
				}
				if !c.want {
					return
				}
				for _, server := range []peer.ID{"s", "t"} {
					got.record(result{server: server, outcome: dialled}, true, time.Now())
				}
				if come("three", "/ip4/22.0.0.3/tcp/5001/wss"); !got.proven() {
					t.Errorf("a stranger came in, and still %s is not proven: %+v", seen, got)
				}
			})
		})
	}
}
