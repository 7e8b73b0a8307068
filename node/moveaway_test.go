package node

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"

	"github.com/causeway-p2p/causeway/notice"
	"github.com/causeway-p2p/causeway/relay"
	"github.com/causeway-p2p/causeway/testnet"
)

// relayTrip is a round trip between two peers with a relay in between.
const relayTrip = 4 * oneWay

// between starts two relays and two peers behind symmetric NATs, A with
// reservations on both and C with as many as it seeks, and returns with a
// circuit from C to A and the relay that it is over.
func (w *world) between(seek int) (a, c *Node, drains *Node) {
	w.Helper()
	w.bootstrap()
	relays := w.relays(2)
	a = w.behind("A", testnet.Symmetric(), Config{NoHolePunching: true})
	await(w.T, a, "A to advertise two relays", func(e AddrsChanged) bool { return e.Circuits >= 2 })
	w.echo(a)
	c = w.behind("C", testnet.Symmetric(), Config{NoHolePunching: true, Relays: seek})
	if seek >= 0 {
		await(w.T, c, "C to advertise two relays", func(e AddrsChanged) bool { return e.Circuits >= 2 })
	}
	time.Sleep(20 * time.Second)
	over := callEcho(w.T, c, a.ID(), 1000).Relay
	for _, r := range relays {
		if r.ID() == over {
			return a, c, r
		}
	}
	w.Fatalf("the circuit is over %s, none of the relays", ShortID(over))
	return nil, nil, nil
}

// pinger pings every 20 ms, whether the one before has come back or not.
type pinger struct {
	stop context.CancelFunc
	done sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	worst  time.Duration
	count  int
	relays map[peer.ID]int
}

func (w *world) ping(from *Node, to peer.ID) *pinger {
	ctx, stop := context.WithCancel(w.Context())
	p := &pinger{stop: stop, relays: make(map[peer.ID]int)}
	w.Cleanup(stop)
	p.done.Go(func() {
		for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
			p.done.Go(func() {
				begun := time.Now()
				pong, err := from.Ping(timeout(w.T), to)
				if err != nil {
					w.Errorf("ping: %v", err)
				}
				p.mu.Lock()
				defer p.mu.Unlock()
				p.count++
				p.worst = max(p.worst, time.Since(begun))
				p.relays[pong.Path.Relay]++
			})
		}
	})
	return p
}

// reset forgets the pings so far.
func (p *pinger) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.worst, p.count = 0, 0
	clear(p.relays)
}

// end fails the test if anybody could have noticed something.
func (p *pinger) end(t *testing.T, who string, old peer.ID) {
	t.Helper()
	p.stop()
	p.done.Wait()
	t.Logf("%s: %d pings, the longest took %v; by relay: %v", who, p.count, p.worst, p.relays)
	if p.worst > 3*relayTrip/2 {
		t.Errorf("%s: the longest ping took %v, want about the %v of a round trip", who, p.worst, relayTrip)
	}
	if p.relays[old] == p.count || p.relays[old] == 0 {
		t.Errorf("%s: pings by relay: got %v, want some over each", who, p.relays)
	}
}

// drained waits until a relay that drains has no circuits any more.
func drained(t *testing.T, r *Node, within time.Duration) (took time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	begun := time.Now()
	r.Drain(within)
	if err := r.Relay().Drain(ctx, within, nil); err != nil {
		t.Errorf("the relay has circuits still: %v", r.Relay().Status().Circuits)
	}
	return time.Since(begun)
}

// neverLost fails the test if a node was without a path to p at any time, as it
// would say.
func neverLost(t *testing.T, n *Node, who string, p peer.ID) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for ev := range n.History(ctx) {
		switch e := ev.(type) {
		case PathChanged:
			if e.Peer == p && e.To == (Path{}) {
				t.Errorf("%s: %s", who, e)
			}
		case CircuitEnded:
			if e.Peer == p && !e.Upgraded {
				t.Errorf("%s: %s", who, e)
			}
		}
	}
}

// TestMoveAway: a relay drains, and nobody notices: not those who ping over it
// from either end, nor the relay, which has not to wait.
func TestMoveAway(t *testing.T) {
	for _, seek := range []int{0, -1} { // with and without a reservation of the caller's
		t.Run(fmt.Sprint("caller seeks ", seek), func(t *testing.T) {
			simulateAt(t, oneWay, func(t *testing.T, w *world) {
				a, c, r := w.between(seek)
				there, back := w.ping(c, a.ID()), w.ping(a, c.ID())
				time.Sleep(time.Second)
				took := drained(t, r, time.Minute)
				t.Logf("drained after %v", took)
				if took > 3*time.Second {
					t.Errorf("the relay has drained after %v, want it soon", took)
				}
				if err := r.Close(); err != nil {
					t.Error(err)
				}
				time.Sleep(5 * time.Second)
				there.end(t, "from C", r.ID())
				back.end(t, "from A", r.ID())
				for who, x := range map[string][2]*Node{"A": {a, c}, "C": {c, a}} {
					neverLost(t, x[0], who, x[1].ID())
					e := await(t, x[0], "a change of path", func(e PathChanged) bool { return e.From.Relay == r.ID() })
					if !e.To.Relayed() || e.To.Relay == r.ID() {
						t.Errorf("%s: %s, want it over the other relay", who, e)
					}
					if conns := x[0].Host().Network().ConnsToPeer(x[1].ID()); len(conns) != 1 {
						t.Errorf("%s: %d connections, want one: %v", who, len(conns), conns)
					}
				}
			})
		})
	}
}

// TestMoveAwayKeepsStreams: what runs ends where it began, and only then has the
// relay drained.
func TestMoveAwayKeepsStreams(t *testing.T) {
	simulateAt(t, oneWay, func(t *testing.T, w *world) {
		a, c, r := w.between(0)
		s, err := c.Dial(timeout(t), a.ID(), "echo")
		if err != nil {
			t.Fatal(err)
		}
		gone := make(chan time.Duration, 1)
		go func() { gone <- drained(t, r, time.Minute) }()
		for begun := time.Now(); time.Since(begun) < 20*time.Second; time.Sleep(700 * time.Millisecond) {
			if err := exchange(s, 1000); err != nil {
				t.Fatalf("after %v: %v", time.Since(begun), err)
			}
		}
		if path := callEcho(t, c, a.ID(), 1000); !path.Relayed() || path.Relay == r.ID() {
			t.Errorf("a new stream went %s, want it over the other relay", path)
		}
		if err := s.CloseWrite(); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(s, make([]byte, 1)); err != io.EOF {
			t.Errorf("the end of the stream: got %v, want EOF", err)
		}
		s.Close()
		if took := <-gone; took < 20*time.Second || took > 23*time.Second {
			t.Errorf("drained after %v, want it soon after the stream's end", took)
		}
		neverLost(t, c, "C", a.ID())
	})
}

// TestMoveAwayKeepsTheTail: a stream is closed long before its bytes are through
// the relay, which limits their rate.
func TestMoveAwayKeepsTheTail(t *testing.T) {
	simulateAt(t, oneWay, func(t *testing.T, w *world) {
		w.bootstrap()
		limits := relay.Limits{Rate: 20_000, Burst: 20_000}
		slow := w.on(w.net.Host("slow relay"), Config{Server: true, Relay: relay.On, Relays: -1, RelayLimits: limits})
		a := w.behind("A", testnet.Symmetric(), Config{NoHolePunching: true})
		await(t, a, "A to advertise", func(e AddrsChanged) bool { return e.Circuits >= 1 })
		c := w.behind("C", testnet.Symmetric(), Config{NoHolePunching: true})
		w.relays(1)
		await(t, a, "A to advertise two relays", func(e AddrsChanged) bool { return e.Circuits >= 2 })
		l, err := a.Listen("sink")
		if err != nil {
			t.Fatal(err)
		}
		type result struct {
			got int64
			err error
		}
		sunk := make(chan result, 1)
		go func() {
			s, err := l.Accept()
			if err != nil {
				sunk <- result{0, err}
				return
			}
			defer s.Close()
			got, err := io.Copy(io.Discard, s)
			sunk <- result{got, err}
		}()
		c.Host().Peerstore().AddAddr(a.ID(), circuitAt(slow.Host()), time.Hour)
		s, err := c.Dial(timeout(t), a.ID(), "sink")
		if err != nil {
			t.Fatal(err)
		}
		if path := PathOf(s.Conn()); path.Relay != slow.ID() {
			t.Fatalf("the stream is %s, want it over the slow relay", path)
		}
		const size = 200_000
		if _, err := s.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		took := drained(t, slow, time.Minute)
		if got := <-sunk; got.err != nil || got.got != size {
			t.Errorf("%d bytes came and %v, want %d and the end", got.got, got.err, size)
		}
		t.Logf("drained after %v", took)
		if took < 5*time.Second || took > 20*time.Second {
			t.Errorf("drained after %v, want it soon after the bytes came", took)
		}
	})
}

// TestMoveAwayByTheOtherEnd: the caller is not told, as a stock one is not.
func TestMoveAwayByTheOtherEnd(t *testing.T) {
	simulateAt(t, oneWay, func(t *testing.T, w *world) {
		a, c, r := w.between(0)
		c.stopNotices()
		there := w.ping(c, a.ID())
		begun := time.Now()
		if took := drained(t, r, time.Minute); took > otherSide+3*time.Second {
			t.Errorf("drained after %v, want it soon after %v", took, otherSide)
		}
		e := await(t, a, "A to have another path", func(e PathChanged) bool { return e.From.Relay == r.ID() })
		if after := e.Time.Sub(begun); after < otherSide || after > otherSide+time.Second {
			t.Errorf("A had another path after %v, want it after %v", after, otherSide)
		}
		there.end(t, "from C", r.ID())
	})
}

// TestMoveAwayFromTwo: all relays that the peer advertises leave at once.
func TestMoveAwayFromTwo(t *testing.T) {
	simulateAt(t, oneWay, func(t *testing.T, w *world) {
		w.bootstrap()
		relays := w.relays(3)
		a := w.behind("A", testnet.Symmetric(), Config{NoHolePunching: true, Standby: -1})
		await(t, a, "A to advertise two relays", func(e AddrsChanged) bool { return e.Circuits >= 2 })
		c := w.behind("C", testnet.Symmetric(), Config{NoHolePunching: true, Relays: -1})
		there := w.ping(c, a.ID())
		time.Sleep(20 * time.Second)
		there.reset()
		var first, last *Node
		for _, r := range relays {
			switch {
			case !a.relaysForUs(r.ID()):
				last = r
			case r.Relay().Status().Circuits > 0:
				first = r
			}
		}
		if first == nil || last == nil {
			t.Fatal("want two relays that A advertises, one of them with the circuit")
		}
		begun := time.Now()
		for _, r := range relays {
			if r != last {
				r.Drain(time.Minute)
			}
		}
		time.Sleep(10 * time.Second)
		for _, r := range relays {
			if got := r.Relay().Status().Circuits; r != last && got != 0 {
				t.Errorf("circuits over a relay that drains: got %d, want none", got)
			}
		}
		there.end(t, "from C", first.ID())
		e := await(t, c, "another path", func(e PathChanged) bool { return e.To.Relay == last.ID() })
		t.Logf("moved after %v", e.Time.Sub(begun))
		neverLost(t, c, "C", a.ID())
	})
}

// TestMoveAwayToNowhere: the only relay there is leaves. The circuit stays to
// its end, and another path is taken when there is one.
func TestMoveAwayToNowhere(t *testing.T) {
	simulateAt(t, oneWay, func(t *testing.T, w *world) {
		w.bootstrap()
		r := w.relays(1)[0]
		a := w.behind("A", testnet.Symmetric(), Config{NoHolePunching: true})
		await(t, a, "A to advertise", func(e AddrsChanged) bool { return e.Circuits >= 1 })
		w.echo(a)
		c := w.behind("C", testnet.Symmetric(), Config{NoHolePunching: true})
		callEcho(t, c, a.ID(), 1000)
		there := w.ping(c, a.ID())
		r.Drain(5 * time.Minute)
		time.Sleep(30 * time.Second)
		if got := r.Relay().Status().Circuits; got == 0 {
			t.Error("the circuit was given up though there is no other path")
		}
		second := w.on(w.net.Host("second relay"), Config{Server: true, Relay: relay.Auto, Relays: -1})
		await(t, second, "it to serve", func(e RelayService) bool { return e.Serving })
		begun := time.Now()
		for r.Relay().Status().Circuits > 0 && time.Since(begun) < 4*time.Minute {
			time.Sleep(100 * time.Millisecond)
		}
		t.Logf("away %v after there was another relay", time.Since(begun))
		if got := r.Relay().Status().Circuits; got != 0 {
			t.Errorf("circuits over the relay that drains: got %d, want none since there is another", got)
		}
		there.end(t, "from C", r.ID())
		neverLost(t, c, "C", a.ID())
	})
}

// TestMoveAwayIsBounded: a few peers at a time are dialled, and all in the end.
func TestMoveAwayIsBounded(t *testing.T) {
	simulateAt(t, oneWay, func(t *testing.T, w *world) {
		const peers = 2*maxMoves + 1
		r, a, c := w.behindOneRelay()
		var asked, now, most atomic.Int32
		key, _ := newKey(t)
		second, _ := w.fakeRelay(key, func(s network.Stream) {
			asked.Add(1)
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			time.Sleep(time.Second)
			now.Add(-1)
			refusing(pbv2.Status_RESOURCE_LIMIT_EXCEEDED)(s)
		})
		all := []*Node{a}
		for i := range peers - 1 {
			all = append(all, w.onRelay(r, fmt.Sprint("peer ", i)))
		}
		for _, p := range all {
			c.Host().Peerstore().AddAddrs(p.ID(), p.Host().Addrs(), time.Hour)
			callEcho(t, c, p.ID(), 10)
			c.Host().Peerstore().AddAddr(p.ID(), circuitAt(second), time.Hour)
		}
		c.relayNotice(r.ID(), notice.Notice{Draining: &notice.Draining{Within: time.Minute}})
		time.Sleep(30 * time.Second)
		t.Logf("%d dials, %d at once", asked.Load(), most.Load())
		if got := most.Load(); got > maxMoves {
			t.Errorf("%d dials at once, want at most %d", got, maxMoves)
		}
		if got := asked.Load(); got < peers {
			t.Errorf("%d dials for %d peers, want one for each at least", got, peers)
		}
	})
}

// TestMoveAwayFromLiars: relays that only say they leave make us dial once a
// minute, and others who say so nothing at all.
func TestMoveAwayFromLiars(t *testing.T) {
	simulateAt(t, oneWay, func(t *testing.T, w *world) {
		r, a, c := w.behindOneRelay()
		asked := make(chan time.Time, 1000)
		key, _ := newKey(t)
		second, _ := w.fakeRelay(key, func(s network.Stream) {
			asked <- time.Now()
			refusing(pbv2.Status_RESOURCE_LIMIT_EXCEEDED)(s)
		})
		c.Host().Peerstore().AddAddrs(a.ID(), a.Host().Addrs(), time.Hour)
		callEcho(t, c, a.ID(), 1000)
		c.Host().Peerstore().AddAddr(a.ID(), circuitAt(second), time.Hour)
		lie := notice.Notice{Draining: &notice.Draining{Within: time.Second}}
		for range 100 {
			c.relayNotice(second.ID(), lie) // nothing of ours goes over it
			c.relayNotice(a.ID(), lie)
		}
		time.Sleep(20 * time.Second)
		if got := len(asked); got != 0 {
			t.Errorf("tales of strangers: %d dials, want none", got)
		}
		for begun := time.Now(); time.Since(begun) < 10*time.Minute; time.Sleep(100 * time.Millisecond) {
			c.relayNotice(r.ID(), lie)
		}
		if got := len(asked); got < 10 || got > 10*maxMoveTries {
			t.Errorf("a liar in 10 minutes: %d dials, want %d at most", got, 10*maxMoveTries)
		} else {
			t.Logf("%d dials", got)
		}
		if path := callEcho(t, c, a.ID(), 1000); path.Relay != r.ID() {
			t.Errorf("the path is %s, want it to have stayed", path)
		}
		synctest.Wait()
		if got := len(c.Host().Network().ConnsToPeer(a.ID())); got != 1 {
			t.Errorf("%d connections, want 1", got)
		}
	})
}
