package node

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/reachability"
	"github.com/causeway-p2p/causeway/stranger"
	"github.com/causeway-p2p/causeway/testnet"
)

// TestDialer: over TCP and QUIC, every time as somebody else from somewhere else.
func TestDialer(t *testing.T) {
	for _, listen := range []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"} {
		h, err := libp2p.New(libp2p.ListenAddrStrings(listen), libp2p.DisableMetrics())
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		seen := make(map[peer.ID]ma.Multiaddr)
		for range 2 {
			d, err := Config{UserAgent: "test"}.newDialer()
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if err := d.Connect(ctx, peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()}); err != nil {
				t.Fatalf("%s: %v", listen, err)
			}
			from := d.Network().ConnsToPeer(h.ID())[0].LocalMultiaddr()
			for _, other := range seen {
				if other.Equal(from) {
					t.Errorf("%s: both from %s", listen, from)
				}
			}
			if seen[d.ID()] = from; len(d.Addrs()) > 0 {
				t.Errorf("it listens on %v", d.Addrs())
			}
		}
		if len(seen) != 2 {
			t.Errorf("%s: dialled as %d peers, want 2", listen, len(seen))
		}
	}
}

// TestStrangers: nodes that can be dialled find somebody for a peer that knows
// one of them, and are that somebody.
func TestStrangers(t *testing.T) {
	for name, c := range map[string]struct {
		nat  testnet.NATConfig
		want error
	}{
		"full cone":          {testnet.FullCone(), nil},
		"address-restricted": {testnet.AddressRestricted(), stranger.ErrDialFailed},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				server := w.bootstrap()
				w.relays(2)
				m := w.net.NAT("box", c.nat).Host("client")
				h, err := libp2p.New(m.Transport(), libp2p.ListenAddrs(m.ListenAddr(4001)), libp2p.DisableMetrics(),
					libp2p.ResourceManager(&network.NullResourceManager{}), libp2p.ForceReachabilityPublic())
				if err != nil {
					t.Fatal(err)
				}
				defer h.Close()
				var from ma.Multiaddr
				h.SetStreamHandler(autonatv2.DialBackProtocol, func(s network.Stream) {
					from = s.Conn().RemoteMultiaddr()
					s.Close()
				})
				asker, err := stranger.New(h, stranger.Config{NewDialer: server.cfg.newDialer})
				if err != nil {
					t.Fatal(err)
				}
				if err := h.Connect(t.Context(), w.boot[0]); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second) // until both know what the other speaks
				seen := server.Host().Network().ConnsToPeer(h.ID())[0].RemoteMultiaddr()
				err = asker.Ask(t.Context(), server.ID(), seen, 1)
				synctest.Wait()
				if !errors.Is(err, c.want) || (from != nil) != (c.want == nil) {
					t.Errorf("got %v and a dial-back from %v, want %v", err, from, c.want)
				}
			})
		})
	}
}

// knows keeps a node from meeting everybody, as it would not in a large network.
type knows struct {
	connmgr.ConnectionGater
	peers map[peer.ID]bool
}

func (k knows) InterceptPeerDial(p peer.ID) bool                 { return k.peers[p] }
func (k knows) InterceptAddrDial(p peer.ID, _ ma.Multiaddr) bool { return k.peers[p] }
func (k knows) InterceptAccept(network.ConnMultiaddrs) bool      { return true }
func (k knows) InterceptSecured(network.Direction, peer.ID, network.ConnMultiaddrs) bool {
	return true
}

func (k knows) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

// TestVerdictByStrangers: servers that a node talks to find it public behind
// either box, and strangers tell them apart.
func TestVerdictByStrangers(t *testing.T) {
	for name, c := range map[string]struct {
		nat  testnet.NATConfig
		want reachability.Reachability
	}{
		"full cone":          {testnet.FullCone(), reachability.Public},
		"address-restricted": {testnet.AddressRestricted(), reachability.Private},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				peers := map[peer.ID]bool{w.bootstrap().ID(): true}
				for i, r := range w.relays(4) {
					peers[r.ID()] = i < 2
				}
				n := w.behind("client", c.nat, Config{Libp2p: []libp2p.Option{libp2p.ConnectionGater(knows{peers: peers})}})
				began := time.Now()
				told := func() bool {
					v := n.reachability.Verdict()
					return v.Proven || v.Reachability == reachability.Private
				}
				for !told() && time.Since(began) < time.Minute {
					time.Sleep(100 * time.Millisecond)
				}
				v := n.reachability.Verdict()
				t.Logf("%s after %v: %s", v.Reachability, time.Since(began), v.Because)
				if v.Reachability != c.want || !told() {
					t.Errorf("%s, want %s: %s", v.Reachability, c.want, v.Because)
				}
			})
		})
	}
}
