package reachability

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/testnet"
)

// neighbour is another program on a machine.
func neighbour(t *testing.T, m *testnet.Host, server bool) host.Host {
	t.Helper()
	return startAt(t, m, port+1, server)
}

// TestServerHere: a relay and a peer on one machine, whose firewall lets in
// nobody, reach each other all the same.
func TestServerHere(t *testing.T) {
	for name, c := range map[string]struct {
		firewall bool
		want     Reachability
	}{
		"firewall": {true, Private}, "no firewall": {false, Public},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, n *testnet.Net) {
				m, dialer := n.Host("subject"), n.Host("dialer")
				if c.firewall {
					n.Cut(dialer, m)
				}
				s := track(t, start(t, m, true))
				connect(t, s, neighbour(t, m, true))
				time.Sleep(time.Hour)
				v := s.tracker.Verdict()
				if s.ever(Public) || s.ever(Private) || !strings.Contains(v.Because, "on this machine") {
					t.Errorf("by a server on the same machine: %s because %q, want unknown", v.Reachability, v.Because)
				}
				d := start(t, dialer, false)
				for i := range 2 {
					connect(t, s, script(t, n.Host(fmt.Sprint("server", i)), honest(d)))
				}
				v, _ = s.await(t, string(c.want), 5*time.Second, is(c.want))
				time.Sleep(time.Hour)
				if w := s.tracker.Verdict(); w.Reachability != c.want {
					t.Errorf("an hour later: %s because %q, want %s", w.Reachability, w.Because, v.Reachability)
				}
			})
		})
	}
}

// TestDialBackFromHere: a server elsewhere that has somebody on our machine dial
// proves nothing.
func TestDialBackFromHere(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		m := n.Host("subject")
		s := track(t, start(t, m, true))
		connect(t, s, script(t, n.Host("server"), honest(neighbour(t, m, false))))
		time.Sleep(time.Hour)
		if s.ever(Public) {
			t.Errorf("public by a dial-back from this machine: %+v", s.verdicts)
		}
	})
}

// TestVisitorFromHere: who comes in from the same machine is no stranger.
func TestVisitorFromHere(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		m := n.Host("subject")
		s := track(t, start(t, m, true))
		h := neighbour(t, m, false)
		if err := h.Connect(t.Context(), peer.AddrInfo{ID: s.ID(), Addrs: []ma.Multiaddr{m.ListenAddr(port)}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if v := s.tracker.Verdict(); v.Reachability != Unknown || v.Proven {
			t.Errorf("got %s because %q, want unknown", v.Reachability, v.Because)
		}
	})
}
