package relay

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"

	"github.com/causeway-p2p/causeway/notice"
	"github.com/causeway-p2p/causeway/testnet"
)

// couple is a circuit whose ends take notices.
type couple struct {
	*running
	net          *testnet.Net
	src, dst     host.Host
	atSrc, atDst ears
	stream       network.Stream // of the application, over the circuit
}

// couple opens a circuit, and a stream on it that the other side reads and does
// not answer.
func (s *running) couple(t *testing.T, n *testnet.Net) *couple {
	t.Helper()
	c := &couple{running: s, net: n}
	c.dst, c.src = s.peers(t, n, "")
	c.atDst.on(t, c.dst)
	c.atSrc.on(t, c.src)
	c.dst.SetStreamHandler("/sink", func(st network.Stream) { io.Copy(io.Discard, st) })
	time.Sleep(time.Second) // identify push
	if err := s.dial(t, c.src, c.dst); err != nil {
		t.Fatal(err)
	}
	var err error
	if c.stream, err = c.src.NewStream(network.WithAllowLimitedConn(timeout(t), "test"), c.dst.ID(), "/sink"); err != nil {
		t.Fatal(err)
	}
	return c
}

// told returns what both ends heard of the circuit's end, which must agree.
func (c *couple) told(t *testing.T, why Reason) notice.Circuit {
	t.Helper()
	time.Sleep(10 * time.Second)
	src, dst := c.atSrc.of(c.src), c.atDst.of(c.dst)
	var ends []notice.Circuit
	for _, h := range append(src, dst...) {
		if h.Ended != nil {
			ends = append(ends, h.Ended.Circuits...)
		}
	}
	if len(ends) != 2 {
		t.Fatalf("heard of %d ends, want one at each end: %+v", len(ends), ends)
	}
	a, b := ends[0], ends[1]
	if a.Peer != c.dst.ID() || b.Peer != c.src.ID() || a.Reason != string(why) || b.Reason != string(why) {
		t.Errorf("heard %+v and %+v, want both to be told %s", a, b, why)
	}
	if a.Sent != b.Received || a.Received != b.Sent || a.Sent == 0 || a.Received == 0 {
		t.Errorf("bytes do not agree: %+v and %+v", a, b)
	}
	return a
}

// TestTellsWhy: both ends learn why a circuit has ended, and what it carried.
func TestTellsWhy(t *testing.T) {
	for _, c := range []struct {
		why    Reason
		limits Limits
		end    func(t *testing.T, c *couple)
	}{
		{Bytes, Limits{CircuitBytes: 128 << 10}, func(t *testing.T, c *couple) {
			c.stream.SetWriteDeadline(time.Now().Add(patience))
			c.stream.Write(make([]byte, 1<<20))
		}},
		{Time, Limits{CircuitTime: time.Minute}, func(*testing.T, *couple) { time.Sleep(time.Minute) }},
		{Quota, Limits{MonthlyBytes: 200_000}, func(t *testing.T, c *couple) {
			c.stream.SetWriteDeadline(time.Now().Add(patience))
			c.stream.Write(make([]byte, 1<<20))
		}},
		{Kicked, Limits{}, func(_ *testing.T, c *couple) { c.Kick(c.src.ID()) }},
		{Denied, Limits{}, func(_ *testing.T, c *couple) { c.Ban(c.dst.ID(), time.Hour) }},
		{Draining, Limits{}, func(t *testing.T, c *couple) {
			if err := c.Drain(t.Context(), 20*time.Second, nil); err != nil {
				t.Error(err)
			}
		}},
	} {
		t.Run(string(c.why), func(t *testing.T) {
			simulate(t, func(t *testing.T, n *testnet.Net) {
				p := run(t, start(t, n.Host("relay")), Config{Mode: On, Limits: c.limits}).couple(t, n)
				c.end(t, p)
				got := p.told(t, c.why)
				switch c.why {
				case Bytes:
					if got.Sent != 128<<10 {
						t.Errorf("told that %d bytes were sent, want the limit, %d", got.Sent, 128<<10)
					}
				case Time:
					if got.Lasted < time.Minute || got.Lasted > 61*time.Second {
						t.Errorf("told that it lasted %v", got.Lasted)
					}
				}
				if s := p.Status(); s.Circuits != 0 {
					t.Errorf("%d circuits afterwards", s.Circuits)
				}
			})
		})
	}
}

// TestPeerGone: the one who stays is told about the one who has gone.
func TestPeerGone(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		c := run(t, start(t, n.Host("relay")), Config{Mode: On}).couple(t, n)
		c.dst.Network().ClosePeer(c.host.ID())
		time.Sleep(5 * time.Second)
		got := c.atSrc.of(c.src)
		if len(got) != 1 || got[0].Ended == nil || got[0].Ended.Circuits[0].Reason != string(PeerGone) {
			t.Errorf("heard %+v, want that the peer is gone", got)
		}
	})
}

// TestClosedIsNotTold: both know.
func TestClosedIsNotTold(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		c := run(t, start(t, n.Host("relay")), Config{Mode: On}).couple(t, n)
		c.stream.Close()
		c.src.Network().ClosePeer(c.dst.ID())
		time.Sleep(10 * time.Second)
		for _, h := range append(c.atSrc.list(), c.atDst.list()...) {
			if h.Ended != nil && h.Ended.Circuits[0].Reason == string(Closed) {
				t.Errorf("heard %+v", h.Ended)
			}
		}
		if s := c.Status(); s.Circuits != 0 {
			t.Errorf("%d circuits, want 0", s.Circuits)
		}
	})
}

// TestDrainWaits: it returns when the last circuit has ended, at the deadline at
// the latest.
func TestDrainWaits(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		c := run(t, start(t, n.Host("relay")), Config{Mode: On}).couple(t, n)
		short, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		if err := c.Drain(short, time.Minute, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the context's end", err)
		}
		go func() {
			time.Sleep(5 * time.Second)
			c.src.Network().ClosePeer(c.dst.ID())
		}()
		if err := c.Drain(t.Context(), time.Hour, nil); err != nil || time.Since(began) < 10*time.Second || time.Since(began) > 20*time.Second {
			t.Errorf("got %v after %v, want the circuit's end after 10 s", err, time.Since(began))
		}
	})
	simulate(t, func(t *testing.T, n *testnet.Net) {
		c := run(t, start(t, n.Host("relay")), Config{Mode: On}).couple(t, n)
		began := time.Now()
		if err := c.Drain(t.Context(), 30*time.Second, nil); err != nil || time.Since(began).Round(time.Second) != 30*time.Second {
			t.Errorf("got %v after %v, want the deadline", err, time.Since(began))
		}
		synctest.Wait()
		if s := c.Status(); s.Circuits != 0 || s.Reservations != 1 {
			t.Errorf("%d circuits and %d reservations, want 0 and 1", s.Circuits, s.Reservations)
		}
	})
}
