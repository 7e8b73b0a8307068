package relay

import (
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-p2p/causeway/internal/virtual"
)

// crowd is a relay on a wire, with more strangers than a simulated network
// carries in the time of a test.
type crowd struct {
	*running
	wire *wire
}

// gather starts one in virtual time. Destinations that are called honest echo;
// all others agree, and then do as rest says.
func gather(t *testing.T, l Limits, rest func(*side), f func(t *testing.T, c *crowd)) {
	t.Helper()
	virtual.Test(t, func(t *testing.T) {
		w := newWire(t, 4<<10, func(dst peer.ID, s *side) {
			if dst == named("honest") {
				agrees(dst, s)
				return
			}
			if protodelim.UnmarshalFrom(bytewise{s}, new(pbv2.StopMessage)) == nil {
				protodelim.MarshalTo(s, consent)
			}
			rest(s)
		})
		l.RequestsPerPeer, l.RequestsPerIP = Unlimited, Unlimited
		l.CircuitsPerIP = 1 << 20
		l.Reservations, l.ReservationsPerIP, l.ReservationsPerSubnet = 1<<20, 1<<20, 1<<20
		c := &crowd{wire: w, running: run(t, w, Config{Mode: On, Limits: l})}
		c.reserve(t, named("honest"))
		f(t, c)
		c.stop()
		w.runs.Wait()
	})
}

// named is a peer ID that is an identity multihash.
func named(name string) peer.ID { return peer.ID("\x00" + string(rune(len(name))) + name) }

func (c *crowd) send(t *testing.T, from peer.ID, msg proto.Message) (*side, pbv2.Status) {
	t.Helper()
	s := c.wire.ask(from, "")
	if _, err := protodelim.MarshalTo(s, msg); err != nil {
		t.Fatal(err)
	}
	var answer pbv2.HopMessage
	if err := protodelim.UnmarshalFrom(bytewise{s}, &answer); err != nil {
		t.Fatal(err)
	}
	return s, answer.GetStatus()
}

func (c *crowd) reserve(t *testing.T, p peer.ID) {
	t.Helper()
	if _, status := c.send(t, p, askReservation); status != pbv2.Status_OK {
		t.Fatalf("reserve: %v", status)
	}
}

func (c *crowd) open(t *testing.T, from, to peer.ID) *side {
	t.Helper()
	s, status := c.send(t, from, connectTo(to))
	if status != pbv2.Status_OK {
		t.Fatalf("circuit from %s to %s: %v", from, to, status)
	}
	return s
}

// circuits opens n of them, each between two strangers.
func (c *crowd) circuits(t *testing.T, n int) []*side {
	t.Helper()
	list := make([]*side, n)
	for i := range list {
		to := named(fmt.Sprint("dst ", i))
		c.reserve(t, to)
		list[i] = c.open(t, named(fmt.Sprint("src ", i)), to)
	}
	return list
}

// p99 is that of 100 round trips of 100 bytes in a circuit to an honest peer.
func (c *crowd) p99(t *testing.T, s *side) time.Duration {
	t.Helper()
	took := make([]time.Duration, 100)
	b := make([]byte, 100)
	for i := range took {
		began := time.Now()
		s.Write(b)
		if _, err := io.ReadFull(s, b); err != nil {
			t.Fatalf("honest circuit: %v", err)
		}
		took[i] = time.Since(began)
		time.Sleep(20 * time.Millisecond)
	}
	slices.Sort(took)
	return took[98]
}

// flood writes for as long as it can.
func flood(s *side) {
	for b := make([]byte, 16<<10); ; {
		if _, err := s.Write(b); err != nil {
			return
		}
	}
}

func swallow(s *side) {
	io.Copy(io.Discard, s)
	s.Close()
}

// heap is what is in use, without what only the pools hold.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestThousandsOfSlowReaders: what they hold is bounded, and they do not hold it
// for long.
func TestThousandsOfSlowReaders(t *testing.T) {
	n := scaled(maxLarge + 500)
	gather(t, Limits{CircuitsPerPeer: 40}, func(*side) {}, func(t *testing.T, c *crowd) {
		honest := c.open(t, named("caller"), named("honest"))
		before := heap()
		for _, s := range c.circuits(t, n) {
			c.wire.runs.Go(func() { flood(s) })
		}
		time.Sleep(time.Second)
		if got, want := c.larges.lent.Load(), int64(min(n, maxLarge)); got != want {
			t.Errorf("%d large buffers for %d readers who do not read, want %d", got, n, want)
		}
		if p99 := c.p99(t, honest); p99 > time.Millisecond {
			t.Errorf("p99 of the honest circuit: %v, want no wait", p99)
		}
		held := heap() - before
		t.Logf("%d circuits hold %d kB each, with both sides of the test", n, held/int64(n)>>10)
		if most := int64(maxLarge*largeBuffer + n*(40<<10)); held > most {
			t.Errorf("%d MB for %d circuits, want at most %d", held>>20, n, most>>20)
		}
		time.Sleep(2 * stallTime)
		c.p99(t, honest) // silence is not stalling
		if got := c.Status().Circuits; got != 1 {
			t.Errorf("%d circuits after %v, want the honest one", got, 2*stallTime)
		}
		if got := c.larges.lent.Load(); got != 0 {
			t.Errorf("%d large buffers are still lent", got)
		}
		honest.Close()
	})
}

// TestThousandsOfSlowWriters cost two small buffers each, for as long as they
// like.
func TestThousandsOfSlowWriters(t *testing.T) {
	n := scaled(2000)
	gather(t, Limits{CircuitsPerPeer: 40}, swallow, func(t *testing.T, c *crowd) {
		honest := c.open(t, named("caller"), named("honest"))
		list := c.circuits(t, n)
		for range 10 {
			for _, s := range list {
				s.Write([]byte{1})
			}
			if p99 := c.p99(t, honest); p99 > time.Millisecond {
				t.Errorf("p99 of the honest circuit: %v, want no wait", p99)
			}
		}
		if got := c.larges.lent.Load(); got != 0 {
			t.Errorf("%d large buffers for those who write a byte at a time", got)
		}
		if got := c.Status().Circuits; got != int64(1+n) {
			t.Errorf("%d circuits, want %d", got, 1+n)
		}
		for i, s := range list { // half of them leave rudely
			if i%2 == 0 {
				s.Reset()
			} else {
				s.Close()
			}
		}
		honest.Close()
		time.Sleep(time.Second)
		if got := c.Status().Circuits; got != 0 {
			t.Errorf("%d circuits after all were closed", got)
		}
	})
}

// TestGreedyCircuits: those who take all of the bandwidth that they get are not
// felt by those who say little.
func TestGreedyCircuits(t *testing.T) {
	const capacity = 12_500_000 // 100 Mbit/s
	gather(t, Limits{CircuitsPerPeer: 10, Bandwidth: capacity, CircuitBytes: Unlimited}, swallow, func(t *testing.T, c *crowd) {
		honest := c.open(t, named("caller"), named("honest"))
		list := c.circuits(t, 200)
		for _, s := range list {
			c.wire.runs.Go(func() { flood(s) })
		}
		time.Sleep(time.Second)
		before, began := c.Status().Bytes, time.Now()
		// A round trip waits for a piece that is on its way, twice.
		piece := time.Second * largeBuffer / capacity
		if p99 := c.p99(t, honest); p99 > 2*piece {
			t.Errorf("p99 of the honest circuit: %v, want at most %v", p99, 2*piece)
		} else {
			t.Logf("p99 of the honest circuit: %v", p99)
		}
		if got := float64(c.Status().Bytes-before) / time.Since(began).Seconds(); got > capacity*1.02 || got < capacity*0.9 {
			t.Errorf("%.0f bytes a second, want %d", got, capacity)
		}
		for _, s := range list {
			s.Reset()
		}
		honest.Close()
	})
}

// TestStopIsNotHeldUp by those who ought to be told why their circuits end, and
// do not listen.
func TestStopIsNotHeldUp(t *testing.T) {
	gather(t, Limits{CircuitsPerPeer: 40}, swallow, func(t *testing.T, c *crowd) {
		c.circuits(t, 500)
		c.wire.deaf = true
		began := time.Now()
		if err := c.stop(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > drainNotices+tellEach {
			t.Errorf("stopping took %v, want at most %v", took, drainNotices+tellEach)
		}
	})
}

// TestManyNames: whoever makes up names does not make the relay remember them
// all.
func TestManyNames(t *testing.T) {
	pol, now, r := newPolicy(Limits{}), time.Now(), newRequests()
	for i := range maxKeys * 3 / 2 {
		ip := netip.AddrFrom4([4]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)})
		r.take(named(fmt.Sprint(i)), origin{ip: ip}, pol, now)
		now = now.Add(time.Microsecond)
	}
	if p, a := len(r.peers.until), len(r.ips.until); p > maxKeys || a > maxKeys {
		t.Errorf("%d peers and %d addresses are remembered, want at most %d", p, a, maxKeys)
	}
}
