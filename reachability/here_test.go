package reachability

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2/pb"
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

// from is a connection that came in from an address.
type from struct {
	inbound
	remote ma.Multiaddr
}

func (c from) RemoteMultiaddr() ma.Multiaddr { return c.remote }

// TestDialBackFromNearby: a neighbour that dials the public address of an interface
// says nothing; at any other address, it may be somebody behind a proxy.
func TestDialBackFromNearby(t *testing.T) {
	const nonce, own = 7, "/ip4/11.0.0.1/udp/4001/quic-v1"
	anywhere := func(ma.Multiaddr) bool { return true }
	for _, c := range []struct {
		remote string
		src    source
		want   Reachability
	}{
		{"/ip4/11.0.0.9/udp/1/quic-v1", fromInterface, Public},
		{"/ip4/172.17.0.2/udp/1/quic-v1", fromInterface, Unknown},
		{"/ip6/fd00::2/udp/1/quic-v1", fromInterface, Unknown},
		{"/ip4/172.17.0.1/udp/1/quic-v1", fromAnnounced, Public},
		{"/ip4/172.17.0.1/udp/1/quic-v1", fromMapped, Public},
	} {
		client := &dialBackClient{contacts: newContacts(), here: new(here), pending: make(map[uint64]question)}
		asked := time.Now()
		arrived := make(chan arrival, 1)
		client.pending[nonce] = question{asked: asked, in: anywhere, arrived: arrived}
		client.handleDialBack(&fakeStream{in: bytes.NewReader(delimited(&pb.DialBack{Nonce: nonce})), conn: from{
			inbound{stats: network.ConnStats{Stats: network.Stats{Direction: network.DirInbound, Opened: asked}}}, ma.StringCast(c.remote),
		}})
		cand := newCandidate(ma.StringCast(own), c.src, epoch)
		answers := make(chan answer, 1)
		client.follow(t.Context(), arrived, answers, nil, time.Minute, func(r result) {
			cand.record(r, false, epoch)
			if !r.last {
				answers <- answer{outcome: dialled}
			}
		})
		if cand.reachable != c.want {
			t.Errorf("%s dialled by %s: got %s, want %s", cand.source, c.remote, cand.reachable, c.want)
		}
		if c.want == Unknown && (cand.declines != 1 || cand.next != epoch.Add(afterDecline)) {
			t.Errorf("%s dialled by %s: %d declines, asked again after %v; want 1 and %v", cand.source, c.remote, cand.declines, cand.next.Sub(epoch), afterDecline)
		}
	}
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
