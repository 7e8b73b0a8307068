package node

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// TestBootstrapPeerComesBack: a bootstrap peer that restarts knows nobody; the
// others find it although they are not alone meanwhile.
func TestBootstrapPeerComesBack(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		key, err := NewIdentity()
		if err != nil {
			t.Fatal(err)
		}
		box := w.net.Host("first")
		first := w.on(box, Config{Server: true, Relays: -1, Identity: key})
		w.boot = []peer.AddrInfo{*host.InfoFromHost(first.Host())}
		other := w.on(w.net.Host("other"), Config{Server: true, Relays: -1})
		third := w.on(w.net.Host("peer"), Config{Relays: -1})
		if err := third.Connect(t.Context(), other.ID()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		w.on(box, Config{Server: true, Relays: -1, Identity: key})
		time.Sleep(20 * time.Second)
		for name, n := range map[string]*Node{"other": other, "third": third} {
			if got := n.Host().Network().Connectedness(first.ID()); got != network.Connected {
				t.Errorf("%s to the bootstrap peer, 20 s after it came back: got %s, want connected", name, got)
			}
		}
	})
}
