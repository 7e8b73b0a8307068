package reachability

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2/pb"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/testnet"
)

// TestSixSocketsStock: six sockets that nobody can dial, and two servers of
// go-libp2p's own (v0.51, p2p/protocol/autonatv2/server.go). Each takes two
// requests of one peer at a time, and a dial into the void ends after 5 s, when
// quic-go or the TCP transport gives up. So two of six have to wait for 5 s, and
// nobody can know of them sooner. Where a server does not see us at the address,
// it waits up to 3 s before it dials, each time: then it is 5 to 8 s until there
// is room, and up to 3 more until that dial.
func TestSixSocketsStock(t *testing.T) {
	for _, c := range []struct {
		name   string
		over6  [2]bool // how the servers are connected
		within time.Duration
	}{
		{"where the servers see us", [2]bool{true, true}, 6 * time.Second},
		{"where one of them does", [2]bool{false, true}, 6 * time.Second},
		{"elsewhere", [2]bool{false, false}, 12500 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, func(t *testing.T, n *testnet.Net) {
				m := n.NAT("box", testnet.PortRestricted()).Host("subject")
				m.Firewall6(true)
				var sockets []ma.Multiaddr
				for i := range 6 {
					sockets = append(sockets, m.ListenAddr6(port+i))
				}
				s := track(t, start(t, m, true, libp2p.ListenAddrs(sockets...)))
				for i := range 2 {
					sm := n.Host(fmt.Sprint("server", i))
					at := sm.ListenAddr(port)
					if c.over6[i] {
						at = sm.ListenAddr6(port)
					}
					meet(t, s, start(t, sm, true, both(sm)), at)
				}
				_, took := s.await(t, "all", time.Minute, func(v Verdict) bool {
					private := 0
					for _, a := range v.Addrs {
						if a.Interface() && a.Reachability == Private {
							private++
						}
					}
					return private == len(sockets)
				})
				if t.Logf("all after %v", took); took > c.within {
					t.Errorf("took %v, want at most %v", took, c.within)
				}
			})
		})
	}
}

// TestPatience: what waited for a server is judged sooner, if it never was.
func TestPatience(t *testing.T) {
	const addr = "/ip4/11.0.0.2/udp/4001/quic-v1"
	for _, c := range []struct {
		name     string
		outcomes string
		queued   time.Duration
		want     time.Duration
	}{
		{"at once", "", 0, dialBackWait},
		{"after a moment", "", time.Second, dialBackWait},
		{"after a dial into the void", "", 5 * time.Second, dialBackSoon},
		{"again", "dd", 5 * time.Second, dialBackWait},
	} {
		cand, now := cand(addr, fromInterface, c.outcomes), epoch.Add(time.Hour)
		if c.queued > 0 {
			cand.queued = now.Add(-c.queued)
		}
		if got := cand.patience(now); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// TestQueuedAndSlow: what is judged too soon is put right by the dial-back.
func TestQueuedAndSlow(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		m := n.Host("subject")
		var sockets []ma.Multiaddr
		for i := range 3 {
			sockets = append(sockets, m.ListenAddr6(port+i))
		}
		h := start(t, m, false, libp2p.ListenAddrs(sockets...))
		dialer := n.Host("dialer")
		d := startAt(t, dialer, port, false, both(dialer))
		s := track(t, h)
		var turns atomic.Int32
		connect(t, s, script(t, n.Host("server"), func(srv *scripted, r request) {
			if turns.Add(1) <= maxPerServer {
				time.Sleep(5 * time.Second)
				r.respond(pb.DialResponse_OK, pb.DialStatus_E_DIAL_ERROR, 0)
				return
			}
			time.Sleep(2 * dialBackSoon)
			honest(d)(srv, r)
		}))
		v, took := s.await(t, "public", 9*time.Second, is(Public))
		t.Logf("after %v: %s", took, v.Because)
	})
}

// TestPickCheapServer: a server that sees us at an address asks for no dial
// data.
func TestPickCheapServer(t *testing.T) {
	c := cand("/ip6/3fff:9::9/udp/4001/quic-v1", fromInterface, "")
	tr := &Tracker{servers: make(map[peer.ID]*server), sights: make(map[sightKey]sight)}
	for _, id := range []peer.ID{"a", "b", "c"} {
		tr.servers[id] = &server{doors: make(map[string]struct{})}
	}
	at := func(ip string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(ip), 1) }
	tr.sights[sightKey{network: "udp", from: at("11.0.0.1")}] = sight{by: "a", at: at("11.0.0.9")}
	tr.sights[sightKey{network: "udp", from: at("11.0.0.2")}] = sight{by: "b", at: at("3fff:9::9")}
	for range 50 { // servers come in map order
		if id, ok := tr.pickServer(c, epoch, false); !ok || id != "b" {
			t.Fatalf("got %q, %v, want the one that sees us there", id, ok)
		}
	}
	tr.servers["b"].inFlight = maxPerServer
	if id, ok := tr.pickServer(c, epoch, false); !ok || id == "b" {
		t.Errorf("got %q, %v, want another while it is busy", id, ok)
	}
}
