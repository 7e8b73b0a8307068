package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/internal/maddr"
	"github.com/causeway-p2p/causeway/relay"
	"github.com/causeway-p2p/causeway/testnet"
)

// TestPushesAreVerified: many nodes behind one NAT lose their relay in the same
// moment, so that the DHT server drops most of their pushes.
func TestPushesAreVerified(t *testing.T) {
	const crowd = 16
	simulate(t, func(t *testing.T, w *world) {
		server := w.bootstrap()
		var relays []*Node
		var static []peer.AddrInfo
		for i := range 2 {
			r := w.on(w.net.Host(fmt.Sprint("relay", i)), Config{Network: "elsewhere", Relay: relay.On, Relays: -1})
			relays = append(relays, r)
			static = append(static, *host.InfoFromHost(r.Host()))
		}
		box := w.net.NAT("campus", testnet.PortRestricted())
		var nodes []*Node
		for i := range crowd {
			nodes = append(nodes, w.on(box.Host(fmt.Sprint("n", i)), Config{StaticRelays: static, NoHolePunching: true}))
		}
		for _, n := range nodes {
			await(t, n, "two circuit addresses", func(e AddrsChanged) bool { return e.Circuits == 2 })
		}
		stale := func() (count int) {
			for _, n := range nodes {
				want := ma.FilterAddrs(n.Host().Addrs(), maddr.IsCircuit)
				if got := ma.FilterAddrs(server.Host().Peerstore().Addrs(n.ID()), maddr.IsCircuit); !sameAddrs(got, want) {
					count++
				}
			}
			return count
		}
		converge := func(what string) {
			t.Helper()
			begun := time.Now()
			for stale() > 0 {
				if time.Since(begun) > 5*time.Minute {
					t.Fatalf("%s: the server is wrong about %d of %d nodes after %v", what, stale(), crowd, time.Since(begun))
				}
				time.Sleep(time.Second)
			}
			t.Logf("%s: the server is right about %d nodes after %v", what, crowd, time.Since(begun))
		}
		converge("at start")
		w.boxes[relays[0].ID()].Kill()
		time.Sleep(5 * time.Second) // everybody has noticed
		if got := stale(); got == 0 {
			t.Error("the server took all pushes: this shows nothing")
		} else {
			t.Logf("5 s after the relay died: the server is wrong about %d of %d nodes", got, crowd)
		}
		converge("after a relay died")
		var sum PushStatus
		for _, n := range nodes {
			s := n.Status().Pushes
			sum.Asked += s.Asked
			sum.Stale += s.Stale
			sum.Repeated += s.Repeated
			sum.Refused += s.Refused
		}
		t.Logf("all together: %+v", sum)
		if sum.Repeated == 0 || sum.Refused == 0 || sum.Repeated > 4*maxPushes*crowd {
			t.Errorf("pushes: got %+v, want some repeated and some refused, and no flood", sum)
		}
	})
}

// TestPushIsIdentify: what we push is what identify would have said.
func TestPushIsIdentify(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		server := w.bootstrap()
		n := w.behind("A", testnet.PortRestricted(), Config{})
		await(t, n, "the network", func(Joined) bool { return true })
		time.Sleep(time.Second)
		book := server.Host().Peerstore()
		protocols, err := book.GetProtocols(n.ID())
		if err != nil || len(protocols) < 5 {
			t.Fatalf("protocols from identify: got %v, %v", protocols, err)
		}
		addrs := book.Addrs(n.ID())
		agent, err := book.Get(n.ID(), "AgentVersion")
		if err != nil {
			t.Fatal(err)
		}
		book.ClearAddrs(n.ID())
		book.RemoveProtocols(n.ID(), protocols...)
		conn := bestConn(n.Host().Network(), server.ID())
		if err := n.verifier.push(timeout(t), conn); err != nil {
			t.Fatal(err)
		}
		if got := book.Addrs(n.ID()); !sameAddrs(got, addrs) {
			t.Errorf("addresses after a push: got %v, want %v", got, addrs)
		}
		if got, _ := book.GetProtocols(n.ID()); len(got) != len(protocols) {
			t.Errorf("protocols after a push: got %v, want %v", got, protocols)
		}
		if got, _ := book.Get(n.ID(), "AgentVersion"); got != agent {
			t.Errorf("agent after a push: got %v, want %v", got, agent)
		}
		// The limit is told from success.
		var refused error
		for range 20 {
			if refused = n.verifier.push(timeout(t), conn); refused != nil {
				break
			}
		}
		if refused == nil {
			t.Error("20 pushes at once: got no error")
		}
		server.Host().SetStreamHandler(identify.IDPush, func(s network.Stream) { mute(s) })
		if err := n.verifier.push(timeout(t), conn); err == nil {
			t.Error("a push to a server that never closes the stream: got no error")
		}
	})
}
