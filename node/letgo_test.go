package node

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"

	"github.com/causeway-p2p/causeway/fastconn"
	"github.com/causeway-p2p/causeway/relay"
	"github.com/causeway-p2p/causeway/testnet"
)

// behindCone starts a peer whose hole punches succeed, with the muxer that a
// machine's transports have.
func (w *world) behindCone(name string, cfg Config) *Node {
	w.Helper()
	cfg.Libp2p = []libp2p.Option{libp2p.Muxer(yamux.ID, fastconn.Muxer)}
	return w.behind(name, testnet.PortRestricted(), cfg)
}

// relayedTo counts the relayed connections that a node has to a peer.
func relayedTo(n *Node, p peer.ID) (count int) {
	for _, c := range n.Host().Network().ConnsToPeer(p) {
		if PathOf(c).Relayed() {
			count++
		}
	}
	return count
}

// TestLetGoKeepsTheTail: a stream over the relay, which limits its rate, is
// closed long before its bytes are through, and a direct path is there.
func TestLetGoKeepsTheTail(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.bootstrap()
		limits := relay.Limits{Rate: 8_000, Burst: 8_000}
		slow := w.on(w.net.Host("slow relay"), Config{Server: true, Relay: relay.On, Relays: -1, RelayLimits: limits})
		a, c := w.behindCone("A", Config{}), w.behindCone("C", Config{})
		await(t, a, "A to advertise", func(e AddrsChanged) bool { return e.Circuits >= 1 })
		const size, sink = 200_000, protocol.ID("/test/sink")
		sunk := make(chan int64, 1)
		a.Host().SetStreamHandler(sink, func(s network.Stream) {
			defer s.Close()
			got, err := io.Copy(io.Discard, s)
			if err != nil {
				t.Errorf("after %d bytes of %d: %v", got, size, err)
			}
			sunk <- got
		})
		c.Host().Peerstore().AddAddr(a.ID(), circuitAt(slow.Host()), time.Hour)
		if path := w.connectRelayed(c, a.ID()); path.Relay != slow.ID() {
			t.Fatalf("the path is %s, want it over the slow relay", path)
		}
		s, err := pinned{c.Host(), bestConn(c.Host().Network(), a.ID())}.NewStream(allowLimited(t.Context()), a.ID(), sink)
		if err != nil {
			t.Fatal(err)
		}
		if path := PathOf(s.Conn()); !path.Relayed() {
			t.Fatalf("the stream is %s, want it over the relay", path)
		}
		// What is on its way holds up the hole punch, so that comes first.
		await(t, c, "the upgrade", func(e PathChanged) bool { return e.Peer == a.ID() && e.To.Direct() })
		begun := time.Now()
		if _, err := s.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if got := <-sunk; got != size {
			t.Errorf("%d bytes came, want %d and the end", got, size)
		}
		t.Logf("all came after %v", time.Since(begun))
		if took := time.Since(begun); took < 20*time.Second {
			t.Errorf("all came after %v: too soon to show anything", took)
		}
		time.Sleep(30 * time.Second)
		if got := relayedTo(c, a.ID()); got != 0 {
			t.Errorf("%d relayed connections 30 s after the end, want none", got)
		}
	})
}

// full is a connection on which no stream may be opened: we have too many.
type full struct{ network.Conn }

func (full) RemotePeer() peer.ID { return "peer" }

func (full) NewStream(context.Context) (network.Stream, error) {
	return nil, fmt.Errorf("open a stream: %w", network.ErrResourceLimitExceeded)
}

// TestArrivedUnasked: if it cannot be asked whether all has arrived, it is not said
// to have.
func TestArrivedUnasked(t *testing.T) {
	if (&Node{}).arrived(t.Context(), full{}) {
		t.Error("all is said to have arrived, and nobody was asked")
	}
}

// TestLetGoOfIdleStreams: a stream over the relay on which something moves now
// and then stays, and one that is forgotten ends.
func TestLetGoOfIdleStreams(t *testing.T) {
	for _, moves := range []bool{true, false} {
		t.Run(map[bool]string{true: "moves", false: "forgotten"}[moves], func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				w.bootstrap()
				w.relays(1)
				a, c := w.behindCone("A", Config{}), w.behindCone("C", Config{})
				await(t, a, "A to advertise", func(e AddrsChanged) bool { return e.Circuits >= 1 })
				w.echo(a)
				knowsCircuit(t, w.first, a.ID())
				s, err := c.Dial(timeout(t), a.ID(), "echo")
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				if path := PathOf(s.Conn()); !path.Relayed() {
					t.Fatalf("the stream is %s, want it relayed", path)
				}
				await(t, c, "the upgrade", func(e PathChanged) bool { return e.Peer == a.ID() && e.To.Direct() })
				for range 4 {
					time.Sleep(12 * time.Minute)
					if !moves {
						continue
					}
					if err := exchange(s, 10); err != nil {
						t.Fatalf("a stream that moves: %v", err)
					}
				}
				want := map[bool]int{true: 1, false: 0}[moves]
				for _, n := range []*Node{a, c} {
					other := a.ID()
					if n == a {
						other = c.ID()
					}
					if got := relayedTo(n, other); got != want {
						t.Errorf("relayed connections after 48 min: got %d, want %d", got, want)
					}
				}
			})
		})
	}
}
