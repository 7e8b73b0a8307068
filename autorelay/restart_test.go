package autorelay

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
)

// TestRelayRestarts: the only relay is used again within a second of its
// return, or a quarter of the time that it was away if that was longer than
// restarts take; and nobody knocks in a busy loop.
func TestRelayRestarts(t *testing.T) {
	for _, down := range []time.Duration{0, time.Second, 5 * time.Second, 20 * time.Second, 50 * time.Second} {
		for i := range 3 {
			t.Run(fmt.Sprintf("%v, %d", down, i), func(t *testing.T) {
				simulate(t, func(t *testing.T, w *world) {
					r := w.relay()
					n := w.node(only())
					n.add(r)
					n.settled(r)
					time.Sleep(10 * time.Minute)
					r.Close()
					n.within(time.Second, "lost", func() bool { return !n.advertised() })
					lost := time.Now()
					time.Sleep(down + time.Duration(i)*313*time.Millisecond)
					r.start(w)
					limit := time.Second
					if away := time.Since(lost); away > restartUsual {
						limit += away / 4
					}
					n.within(limit, "the same relay again", func() bool { return n.through(r.ID()) })
					// A dial takes a second to fail.
					if got, most := len(n.seen(Failed, r.ID())), int(down/time.Second)+3; got > most {
						t.Errorf("failed calls while it was away for %v: got %d, want at most %d", down, got, most)
					}
				})
			})
		}
	}
}

// TestOffline: a machine that has lost its network asks after its relays now
// and then, be it one or several, and finds them again.
func TestOffline(t *testing.T) {
	for _, c := range []struct {
		relays, most int
	}{{1, 45}, {3, 75}} {
		t.Run(fmt.Sprint(c.relays, " relays"), func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				relays := w.relays(c.relays)
				n := w.node(Config{Relays: c.relays, Standby: -1})
				n.add(relays...)
				n.settled(relays...)
				time.Sleep(10 * time.Minute)
				for _, r := range relays {
					r.box.Kill()
				}
				n.within(10*time.Second, "lost", func() bool { return !n.advertised() })
				time.Sleep(time.Minute)
				failed := n.seen(Failed, "")
				if got := len(failed); got == 0 || got > c.most {
					t.Errorf("failed calls in a minute: got %d, want 1 to %d;%s", got, c.most, n.story())
				}
				for _, e := range failed {
					if len(e.Detail) > 60 || strings.Contains(e.Detail, "fail") || strings.Contains(e.Detail, "12D3") {
						t.Errorf("detail of a failed call: got %q, want a short reason", e.Detail)
					}
				}
				for _, r := range relays {
					r.box.Revive()
				}
				n.within(retryMax+reserveTimeout, "relays again", n.advertised)
			})
		})
	}
}

// TestRelayRestartsBesideAnother: there is no hurry.
func TestRelayRestartsBesideAnother(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		relays := w.relays(2)
		n := w.node(Config{Relays: 2, Standby: -1})
		n.add(relays...)
		n.settled(relays...)
		time.Sleep(10 * time.Minute)
		relays[0].Close()
		time.Sleep(50 * time.Second)
		if got := len(n.seen(Failed, relays[0].ID())); got > 8 {
			t.Errorf("failed calls in 50 s: got %d, want few", got)
		}
		relays[0].start(w)
		n.within(retryMax+reserveTimeout, "back", func() bool { return n.through(relays[0].ID()) })
		n.neverWithout(1)
	})
}

// refuse answers RESERVE with a status.
func (h *hop) refuse(s network.Stream, status pbv2.Status) {
	h.asked.Add(1)
	defer s.Close()
	var msg pbv2.HopMessage
	if err := util.NewDelimitedReader(s, 4096).ReadMsg(&msg); err != nil {
		s.Reset()
		return
	}
	util.NewDelimitedWriter(s).WriteMsg(&pbv2.HopMessage{Type: pbv2.HopMessage_STATUS.Enum(), Status: status.Enum()})
	io.Copy(io.Discard, s)
}

// TestRefusals: who is full is asked again more often than who does not want
// us, and less often than who is broken.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		status      pbv2.Status
		reason      Reason
		least, most int64 // in 90 minutes
	}{
		{pbv2.Status_RESERVATION_REFUSED, Full, 9, 35},
		{pbv2.Status_RESOURCE_LIMIT_EXCEEDED, Full, 9, 35},
		{pbv2.Status_PERMISSION_DENIED, Forbidden, 1, 8},
		{pbv2.Status_MALFORMED_MESSAGE, Misbehaved, 90, 360},
		{pbv2.Status_CONNECTION_FAILED, Unreachable, 90, 360},
		{pbv2.Status(4711), Unreachable, 90, 360},
	} {
		t.Run(c.status.String(), func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				good := w.relay()
				bad := &hop{Host: w.host(w.net.Host("bad"), nil)}
				bad.SetStreamHandler(proto.ProtoIDv2Hop, func(s network.Stream) { bad.refuse(s, c.status) })
				cfg := full()
				cfg.ProbeInterval = time.Minute
				n := w.node(cfg)
				n.add(good)
				n.Add(Candidate{AddrInfo: *host.InfoFromHost(bad), Source: "test"})
				n.settled(good)
				n.throughout(90*time.Minute, "the good one", func() bool { return n.through(good.ID()) })
				if got := bad.asked.Load(); got < c.least || got > c.most {
					t.Errorf("RESERVE messages in 90 minutes: got %d, want %d to %d", got, c.least, c.most)
				}
				if s := n.state(bad.ID()); s.State != Reserving && (s.State != BackingOff || s.Reason != c.reason || s.Detail == "") {
					t.Errorf("the bad one: got %+v, want %q and a detail", s, c.reason)
				}
			})
		})
	}
}

// TestRefusedRefresh: who throws us out is not asked again at once.
func TestRefusedRefresh(t *testing.T) {
	for status, pause := range map[pbv2.Status]time.Duration{
		pbv2.Status_RESERVATION_REFUSED: retryFull / 4,
		pbv2.Status_PERMISSION_DENIED:   retryForbidden / 4,
	} {
		t.Run(status.String(), func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				r := &hop{Host: w.host(w.net.Host("relay"), nil)}
				r.SetStreamHandler(proto.ProtoIDv2Hop, func(s network.Stream) {
					if r.asked.Load() > 0 {
						r.refuse(s, status)
						return
					}
					r.answer(s, in(time.Minute))
				})
				n := w.node(only())
				n.Add(Candidate{AddrInfo: *host.InfoFromHost(r), Source: "test"})
				n.within(time.Second, "reserved", n.advertised)
				n.within(time.Minute, "thrown out", func() bool { return len(n.seen(Lost, r.ID())) == 1 })
				asked := r.asked.Load()
				time.Sleep(pause - time.Second)
				if got := r.asked.Load() - asked; got != 0 {
					t.Errorf("RESERVE messages in %v after it refused: got %d, want none", pause, got)
				}
			})
		})
	}
}
