package node

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/reachability"
	"github.com/causeway-p2p/causeway/testnet"
)

// TestDirectPathsWithStock: DCUtR with go-libp2p's own, in both roles, through
// every pair of NATs that two stock peers pass.
func TestDirectPathsWithStock(t *testing.T) {
	for i, row := range natKinds {
		for j, column := range natKinds {
			const strict, symmetric = 2, 4
			if i == symmetric && j >= strict || j == symmetric && i >= strict || testing.Short() && (i+j)%2 == 1 {
				continue
			}
			t.Run("stock "+row.name+" from our "+column.name, func(t *testing.T) {
				simulate(t, func(t *testing.T, w *world) {
					w.bootstrap()
					relay := w.relays(1)[0]
					s := w.stock(row.behind(w, "stock"), relay)
					a := w.withSockets(column.behind(w, "a"))
					await(t, a, "a verdict", func(e ReachabilityChanged) bool { return e.Verdict.Reachability != reachability.Unknown })
					time.Sleep(5 * time.Second)
					a.Host().Peerstore().AddAddrs(s.ID(), []ma.Multiaddr{circuitThrough(relay, s.ID())}, time.Hour)
					begun := time.Now()
					w.connectRelayed(a, s.ID())
					limit := soon
					if i == symmetric {
						limit = 11 * time.Second // go-libp2p changes roles in its third attempt
					}
					w.directSoon(a, s.ID(), begun, limit)
				})
			})
			t.Run("our "+row.name+" from stock "+column.name, func(t *testing.T) {
				simulate(t, func(t *testing.T, w *world) {
					w.bootstrap()
					relay := w.relays(1)[0]
					b := w.withSockets(row.behind(w, "b"))
					await(t, b, "a verdict", func(e ReachabilityChanged) bool { return e.Verdict.Reachability != reachability.Unknown })
					await(t, b, "a circuit address", func(e AddrsChanged) bool { return e.Circuits > 0 })
					s := w.stock(column.behind(w, "stock"), relay)
					time.Sleep(5 * time.Second)
					begun := time.Now()
					ctx := network.WithAllowLimitedConn(timeout(t), "test")
					if err := s.Connect(ctx, peer.AddrInfo{ID: b.ID(), Addrs: []ma.Multiaddr{circuitThrough(relay, b.ID())}}); err != nil {
						t.Fatal(err)
					}
					w.directSoon(b, s.ID(), begun, soon)
				})
			})
		}
	}
}

func circuitThrough(relay *Node, p peer.ID) ma.Multiaddr {
	return ma.StringCast(fmt.Sprintf("%s/p2p/%s/p2p-circuit", relay.Host().Addrs()[0], relay.ID()))
}

// stock starts a go-libp2p host with a reservation, which knows its address and
// punches holes.
func (w *world) stock(box *testnet.Host, relay *Node) host.Host {
	w.Helper()
	h := w.plainHost(box, relay, libp2p.EnableHolePunching())
	for range 100 {
		if slices.Contains(h.Mux().Protocols(), holepunch.Protocol) {
			return h
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.Fatal("the stock host never knew its address")
	return nil
}

// plainHost starts a go-libp2p host with a reservation.
func (w *world) plainHost(box *testnet.Host, relay *Node, opts ...libp2p.Option) host.Host {
	w.Helper()
	h, err := libp2p.New(append(opts,
		box.Transport(), libp2p.ListenAddrs(box.ListenAddr(4001)),
		libp2p.ResourceManager(&network.NullResourceManager{}), libp2p.DisableMetrics(),
		libp2p.UDPBlackHoleSuccessCounter(nil), libp2p.IPv6BlackHoleSuccessCounter(nil),
		libp2p.ForceReachabilityPrivate(),
	)...)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { h.Close() })
	for _, n := range []*Node{w.first, relay} {
		if err := h.Connect(w.Context(), *host.InfoFromHost(n.Host())); err != nil {
			w.Fatal(err)
		}
	}
	if _, err := client.Reserve(w.Context(), h, *host.InfoFromHost(relay.Host())); err != nil {
		w.Fatal(err)
	}
	return h
}

// soon is enough for four round trips over the relay, and the punch.
const soon = 1500 * time.Millisecond

// directSoon waits until a node has a direct connection to a peer.
func (w *world) directSoon(n *Node, p peer.ID, begun time.Time, limit time.Duration) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 20*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if pathTo(n.Host().Network(), p).Direct() {
			took := time.Since(begun)
			w.Logf("direct after %v", took)
			if took > limit {
				w.Errorf("direct after %v, want at most %v", took, limit)
			}
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	w.Errorf("no direct path; attempts: %+v", n.Status().Paths)
}
