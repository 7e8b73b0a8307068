package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/relay"
	"github.com/causeway-p2p/causeway/testnet"
)

// oneWay makes a round trip of 50 ms between two machines, and of 100 ms
// between two peers with a relay in between.
const oneWay = 25 * time.Millisecond

// fakeRelay is a relay that does with a hop stream whatever hop does.
func (w *world) fakeRelay(key crypto.PrivKey, hop network.StreamHandler) (host.Host, *testnet.Host) {
	w.Helper()
	box := w.net.Host(fmt.Sprint("fake relay ", len(w.boxes)))
	h, err := libp2p.New(libp2p.Identity(key), box.Transport(), libp2p.ListenAddrs(box.ListenAddr(4001)),
		libp2p.DisableRelay(), libp2p.DisableMetrics(), libp2p.ResourceManager(&network.NullResourceManager{}))
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { h.Close() })
	w.boxes[h.ID()] = box
	if hop != nil {
		h.SetStreamHandler(proto.ProtoIDv2Hop, hop)
	}
	return h, box
}

// refusing answers CONNECT with a status.
func refusing(status pbv2.Status) network.StreamHandler {
	return func(s network.Stream) {
		defer s.Close()
		var req pbv2.HopMessage
		if util.NewDelimitedReader(s, 4096).ReadMsg(&req) == nil {
			util.NewDelimitedWriter(s).WriteMsg(&pbv2.HopMessage{Type: pbv2.HopMessage_STATUS.Enum(), Status: &status})
		}
	}
}

// mute reads and never answers.
func mute(s network.Stream) { io.Copy(io.Discard, s) }

// behindOneRelay starts a relay, a node A that is reachable there, and a node
// C that knows nobody. The relay's DHT is another one, so that nobody but those
// who want its circuits cares for it.
func (w *world) behindOneRelay() (r, a, c *Node) {
	w.Helper()
	r = w.on(w.net.Host("relay"), Config{Network: "elsewhere", Relay: relay.On, Relays: -1})
	a = w.onRelay(r, "A")
	time.Sleep(time.Second)
	return r, a, w.behind("C", testnet.Symmetric(), Config{NoHolePunching: true, Relays: -1})
}

// onRelay starts a node that is reachable through a relay, and echoes.
func (w *world) onRelay(r *Node, name string) *Node {
	w.Helper()
	n := w.behind(name, testnet.PortRestricted(), Config{
		NoHolePunching: true, StaticRelays: []peer.AddrInfo{*host.InfoFromHost(r.Host())},
	})
	await(w.T, n, "a circuit address", func(e AddrsChanged) bool { return e.Circuits > 0 })
	w.echo(n)
	return n
}

func circuitAt(h host.Host) ma.Multiaddr {
	return h.Addrs()[0].Encapsulate(ma.StringCast("/p2p/" + h.ID().String() + "/p2p-circuit"))
}

// key makes an identity that sorts before or after another: of relays that
// nothing is known about, the one with the lower ID is tried first.
func key(t *testing.T, before bool, other peer.ID) crypto.PrivKey {
	t.Helper()
	for {
		k, err := NewIdentity()
		if err != nil {
			t.Fatal(err)
		}
		if id, _ := peer.IDFromPrivateKey(k); (id < other) == before {
			return k
		}
	}
}

// TestHedgedDial: one relay works, and the others keep it from nothing.
func TestHedgedDial(t *testing.T) {
	const half, one = 500 * time.Millisecond, time.Second
	for _, c := range []struct {
		name     string
		hop      network.StreamHandler
		bad      int
		dead     bool // the power is off
		standing bool // C is connected to it, and was before the power went
		within   time.Duration
		known    bool // its address stays
	}{
		{name: "dead", bad: 1, dead: true, within: half},
		{name: "three dead", bad: 3, dead: true, within: one},
		{name: "dead with a connection that stands", bad: 1, dead: true, standing: true, within: half},
		{name: "three dead with connections that stand", bad: 3, dead: true, standing: true, within: one},
		{name: "mute", bad: 1, hop: mute, within: half},
		{name: "mute with a connection that stands", bad: 1, hop: mute, standing: true, within: half},
		{name: "no reservation", bad: 1, hop: refusing(pbv2.Status_NO_RESERVATION), within: half},
		{name: "permission denied", bad: 1, hop: refusing(pbv2.Status_PERMISSION_DENIED), within: half, known: true},
		{name: "resource limit", bad: 1, hop: refusing(pbv2.Status_RESOURCE_LIMIT_EXCEEDED), within: half, known: true},
		{name: "not a relay", bad: 1, within: half},
		{name: "three that refuse", bad: 3, hop: refusing(pbv2.Status_NO_RESERVATION), within: one},
	} {
		for _, first := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, first=%v", c.name, first), func(t *testing.T) {
				simulateAt(t, oneWay, func(t *testing.T, w *world) {
					live, a, n := w.behindOneRelay()
					book := n.Host().Peerstore()
					for range c.bad {
						bad, box := w.fakeRelay(key(t, first, live.ID()), c.hop)
						book.AddAddr(a.ID(), circuitAt(bad), time.Hour)
						if c.standing {
							if err := n.Host().Connect(t.Context(), *host.InfoFromHost(bad)); err != nil {
								t.Fatal(err)
							}
							if _, _, err := pingOver(t.Context(), n.Host(), bad.ID()); err != nil {
								t.Fatal(err)
							}
						}
						if c.dead {
							box.Kill()
						}
					}
					book.AddAddr(a.ID(), circuitAt(live.Host()), time.Hour)
					begun := time.Now()
					if err := n.Connect(timeout(t), a.ID()); err != nil {
						t.Fatal(err)
					}
					took := time.Since(begun)
					t.Logf("connected after %v", took)
					if took > c.within {
						t.Errorf("connected after %v, want at most %v", took, c.within)
					}
					if path := pathTo(n.Host().Network(), a.ID()); path.Relay != live.ID() {
						t.Errorf("path: got %s, want the relay that works, %s", path, ShortID(live.ID()))
					}
					if got := len(n.Host().Network().ConnsToPeer(a.ID())); got != 1 {
						t.Errorf("connections to the peer: got %d, want 1", got)
					}
					callEcho(t, n, a.ID(), 1000)
				})
			})
		}
	}
}

// TestDeadRelaysAreForgotten, when the dial as a whole fails.
func TestDeadRelaysAreForgotten(t *testing.T) {
	simulateAt(t, oneWay, func(t *testing.T, w *world) {
		n := w.behind("C", testnet.Symmetric(), Config{NoHolePunching: true, Relays: -1})
		book, p := n.Host().Peerstore(), decode(t, idA)
		want := make(map[string]bool)
		for i, hop := range []network.StreamHandler{nil, mute, refusing(pbv2.Status_NO_RESERVATION), refusing(pbv2.Status_PERMISSION_DENIED)} {
			k, _ := NewIdentity()
			h, box := w.fakeRelay(k, hop)
			book.AddAddr(p, circuitAt(h), peerstore.PermanentAddrTTL)
			if i == 0 {
				box.Kill()
			}
			if i == 3 {
				want[circuitAt(h).String()] = true
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := n.Host().Network().DialPeer(ctx, p); err == nil {
			t.Fatal("dial through relays that do not work: got no error")
		}
		time.Sleep(circuitTimeout)
		left := book.Addrs(p)
		if len(left) != 1 || !want[left[0].String()] {
			t.Errorf("addresses after the dial: got %v, want %v, whose relay answered", left, want)
		}
	})
}

// TestOneCircuitOnly: the peer sees no second circuit when both relays work.
func TestOneCircuitOnly(t *testing.T) {
	simulateAt(t, oneWay, func(t *testing.T, w *world) {
		w.bootstrap()
		w.relays(2)
		a := w.behind("A", testnet.PortRestricted(), Config{NoHolePunching: true})
		await(t, a, "two circuit addresses", func(e AddrsChanged) bool { return e.Circuits == 2 })
		c := w.behind("C", testnet.Symmetric(), Config{NoHolePunching: true, Relays: -1})
		time.Sleep(20 * time.Second)
		circuits := 0
		a.Host().Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, conn network.Conn) {
			if conn.RemotePeer() == c.ID() {
				circuits++
			}
		}})
		w.echo(a)
		callEcho(t, c, a.ID(), 1000)
		time.Sleep(time.Second)
		if circuits != 1 {
			t.Errorf("circuits that the peer saw: got %d, want 1", circuits)
		}
	})
}

func TestForcedDirectDialTakesNoCircuit(t *testing.T) {
	simulateAt(t, oneWay, func(t *testing.T, w *world) {
		_, a, c := w.behindOneRelay()
		c.Host().Peerstore().AddAddrs(a.ID(), a.Host().Addrs(), time.Hour)
		begun := time.Now()
		ctx := network.WithForceDirectDial(t.Context(), "somebody")
		if conn, err := c.Host().Network().DialPeer(ctx, a.ID()); err == nil && !PathOf(conn).Direct() {
			t.Errorf("got a connection %s", PathOf(conn))
		}
		t.Logf("no direct path after %v", time.Since(begun))
		if got := c.Host().Network().Connectedness(a.ID()); got != network.NotConnected {
			t.Errorf("after a forced direct dial: got %v", got)
		}
		if err := c.Connect(timeout(t), a.ID()); err != nil { // nothing is left behind
			t.Error(err)
		}
	})
}

func TestAnswered(t *testing.T) {
	for text, want := range map[string]bool{
		"error opening relay circuit: PERMISSION_DENIED (202)": true,
		"error opening relay circuit: CONNECTION_FAILED (203)": true,
		"error opening relay circuit: NO_RESERVATION (204)":    false,
		"error opening hop stream to relay: no":                false,
	} {
		if got := answered(errors.New(text)); got != want {
			t.Errorf("answered(%q): got %v, want %v", text, got, want)
		}
	}
}

// TestRace holds the times at which relays get their turns.
func TestRace(t *testing.T) {
	simulate(t, func(t *testing.T, _ *world) {
		r := &race{began: time.Now(), stagger: stagger, free: 2, lanes: make(map[peer.ID]bool), changed: make(chan struct{})}
		var mu sync.Mutex
		var log bytes.Buffer
		begun := time.Now()
		say := func(what string, rank int) {
			mu.Lock()
			defer mu.Unlock()
			fmt.Fprintf(&log, "%s %d at %v\n", what, rank, time.Since(begun))
		}
		done := make(chan struct{})
		for rank := range 4 {
			go func() {
				r.begin(t.Context(), rank)
				time.Sleep(time.Duration(rank) * time.Millisecond) // to tell them apart
				say("begins", rank)
				if rank == 0 {
					time.Sleep(5 * time.Millisecond)
					r.turn(t.Context(), minHold)
					time.Sleep(80 * time.Millisecond)
					r.alive()
				}
				done <- struct{}{}
			}()
		}
		for range 4 {
			<-done
		}
		r.turn(t.Context(), minHold)
		say("turn", 1)
		r.landed()
		want := "begins 0 at 0s\nbegins 1 at 1ms\nbegins 2 at 252ms\nbegins 3 at 503ms\nturn 1 at 503ms\n" // what flies was silent by then
		if got := log.String(); got != want {
			t.Errorf("got\n%swant\n%s", got, strings.TrimSpace(want))
		}
	})
}
