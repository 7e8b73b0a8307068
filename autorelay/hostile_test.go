package autorelay

import (
	"crypto/rand"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"
)

// hop is a relay of our own making.
type hop struct {
	host.Host
	asked atomic.Int64
}

// answer reads the RESERVE message and grants it until a time.
func (h *hop) answer(s network.Stream, until uint64, addrs ...[]byte) {
	h.asked.Add(1)
	defer s.Close()
	var msg pbv2.HopMessage
	if err := util.NewDelimitedReader(s, 4096).ReadMsg(&msg); err != nil {
		s.Reset()
		return
	}
	util.NewDelimitedWriter(s).WriteMsg(&pbv2.HopMessage{
		Type:        pbv2.HopMessage_STATUS.Enum(),
		Status:      pbv2.Status_OK.Enum(),
		Reservation: &pbv2.Reservation{Expire: &until, Addrs: addrs},
	})
}

func in(d time.Duration) uint64 { return uint64(time.Now().Add(d).Unix()) }

// stall reads until the other side gives up.
func (h *hop) stall(s network.Stream) {
	h.asked.Add(1)
	io.Copy(io.Discard, s)
	s.Reset()
}

// TestHostileRelays puts one bad relay beside one good one, where both are
// wanted: the good one stays, the bad one is not hammered, and we do not make
// our peers suffer for it.
func TestHostileRelays(t *testing.T) {
	for _, c := range badRelays {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) { besideGoodOnes(t, w, c, -1) })
		})
		t.Run(c.name+", with a standby", func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) { besideGoodOnes(t, w, c, 1) })
		})
	}
}

type badRelay struct {
	name  string
	reply func(*hop, network.Stream)
	also  func(*testing.T, *hop)
	used  bool // it does give reservations that are fit for use
}

var badRelays = []badRelay{
	{name: "never answers", reply: (*hop).stall},
	{name: "closes the stream", reply: func(h *hop, s network.Stream) { h.asked.Add(1); s.Close() }},
	{name: "resets the stream", reply: func(h *hop, s network.Stream) { h.asked.Add(1); s.Reset() }},
	{name: "answers garbage", reply: func(h *hop, s network.Stream) {
		h.asked.Add(1)
		var junk [3000]byte
		rand.Read(junk[:])
		s.Write(junk[:])
		h.stall(s)
		h.asked.Add(-1)
	}},
	{name: "answers another type", reply: func(h *hop, s network.Stream) {
		h.asked.Add(1)
		util.NewDelimitedWriter(s).WriteMsg(&pbv2.HopMessage{Type: pbv2.HopMessage_CONNECT.Enum()})
		s.Close()
	}},
	{name: "OK and no reservation", reply: func(h *hop, s network.Stream) {
		h.asked.Add(1)
		util.NewDelimitedWriter(s).WriteMsg(&pbv2.HopMessage{Type: pbv2.HopMessage_STATUS.Enum(), Status: pbv2.Status_OK.Enum()})
		s.Close()
	}},
	{name: "closes the connection", reply: func(h *hop, s network.Stream) { h.asked.Add(1); s.Conn().Close() }},
	{name: "TTL 0", reply: func(h *hop, s network.Stream) { h.answer(s, in(0)) }},
	{name: "TTL 2 s", reply: func(h *hop, s network.Stream) { h.answer(s, in(2*time.Second)) }},
	{name: "TTL in the past", reply: func(h *hop, s network.Stream) { h.answer(s, in(-time.Hour)) }},
	{name: "expires at the end of uint64", reply: func(h *hop, s network.Stream) { h.answer(s, math.MaxUint64) }},
	{name: "expires at the end of int64", reply: func(h *hop, s network.Stream) { h.answer(s, math.MaxInt64) }},
	{name: "TTL 100 years", used: true, reply: func(h *hop, s network.Stream) { h.answer(s, in(100*365*24*time.Hour)) }},
	{name: "shortest TTL", used: true, reply: func(h *hop, s network.Stream) { h.answer(s, in(minTTL+2*time.Second)) }},
	{name: "junk for addresses", used: true, reply: func(h *hop, s network.Stream) {
		h.answer(s, in(time.Hour), nil, []byte("junk"), ma.StringCast("/p2p-circuit").Bytes(), ma.StringCast("/ip4/11.9.9.9/tcp/1/p2p/"+randomText).Bytes())
	}},
	{name: "drops the connection right after reserving", used: true, reply: func(h *hop, s network.Stream) {
		h.answer(s, in(time.Hour))
		time.AfterFunc(oneWay, func() { h.Network().ClosePeer(s.Conn().RemotePeer()) })
	}},
	{name: "drops the connection soon after reserving", used: true, reply: func(h *hop, s network.Stream) {
		h.answer(s, in(time.Hour))
		time.AfterFunc(time.Second, func() { h.Network().ClosePeer(s.Conn().RemotePeer()) })
	}},
	{
		name: "does not answer pings", used: true,
		reply: func(h *hop, s network.Stream) { h.answer(s, in(time.Hour)) },
		also: func(t *testing.T, h *hop) {
			h.SetStreamHandler(ping.ID, func(s network.Stream) { h.stall(s); h.asked.Add(-1) })
		},
	},
	{
		name: "answers pings wrongly", used: true,
		reply: func(h *hop, s network.Stream) { h.answer(s, in(time.Hour)) },
		also: func(t *testing.T, h *hop) {
			h.SetStreamHandler(ping.ID, func(s network.Stream) { io.Copy(s, rand.Reader) })
		},
	},
	{
		name: "withdraws and offers hop every second", used: true,
		reply: func(h *hop, s network.Stream) { h.answer(s, in(time.Hour)) },
		also: func(t *testing.T, h *hop) {
			var flap sync.WaitGroup
			flap.Go(func() {
				for t.Context().Err() == nil {
					time.Sleep(time.Second)
					h.RemoveStreamHandler(proto.ProtoIDv2Hop)
					time.Sleep(time.Second)
					h.SetStreamHandler(proto.ProtoIDv2Hop, func(s network.Stream) { h.answer(s, in(time.Hour)) })
				}
			})
			t.Cleanup(flap.Wait)
		},
	},
}

// besideGoodOnes has a node want the bad relay and all the good ones.
func besideGoodOnes(t *testing.T, w *world, c badRelay, standby int) {
	wanted := 2 + max(standby, 0)
	good := w.relays(wanted - 1)
	bad := &hop{Host: w.host(w.net.Host("bad"), nil)}
	bad.SetStreamHandler(proto.ProtoIDv2Hop, func(s network.Stream) { c.reply(bad, s) })
	cfg := Config{Standby: standby}
	if c.also == nil {
		cfg.ProbeInterval = 10 * time.Second // it is not about probes
	}
	n := w.node(cfg)
	if c.also != nil {
		c.also(t, bad)
	}
	n.add(good...)
	n.Add(Candidate{AddrInfo: *host.InfoFromHost(bad), Source: "test"})
	allGood := func() bool {
		return !slices.ContainsFunc(good, func(r *stock) bool { return n.state(r.ID()).State != Reserved })
	}
	n.within(time.Second, "the good ones", func() bool { return allGood() && n.advertised() })
	const watch = 3 * time.Minute
	n.throughout(watch, "the good ones, and no more than we want", func() bool {
		through := slices.ContainsFunc(good, func(r *stock) bool { return n.through(r.ID()) })
		return through && allGood() && n.held() <= wanted && len(n.current()) <= 2*maxPerRelay
	})
	n.neverWithout(1)
	for _, r := range good {
		if lost := n.seen(Lost, r.ID()); len(lost) > 0 {
			t.Errorf("a good relay was lost: %+v", lost)
		}
	}
	if got := len(n.seen(ReservedOn, bad.ID())) > 0; got != c.used {
		t.Errorf("reserved on the bad one: got %v, want %v; events:%s", got, c.used, n.story())
	}
	n.mu.Lock()
	calls := len(n.addrs)
	n.mu.Unlock()
	if calls > 36 { // sixteen losses, if every pause is as short as it may be
		t.Errorf("changes of our addresses in %v: got %d, want at most 36; events:%s", watch, calls, n.story())
	}
	if got := bad.asked.Load(); got == 0 || got > 30 {
		t.Errorf("RESERVE messages to the bad one in %v: got %d, want 1 to 30; events:%s", watch, got, n.story())
	}
	for _, a := range n.current() {
		if !n.through(bad.ID()) && !slices.ContainsFunc(good, func(r *stock) bool { return strings.Contains(a.String(), r.ID().String()) }) {
			t.Errorf("circuit address %s names none of the relays", a)
		}
	}
	n.Want(false)
	n.within(2*coalesce, "the loop still listens", func() bool { return !n.advertised() })
	n.stop() // within a second, and nothing is left running
}

// randomText is a peer ID that is nobody's.
var randomText = func() string {
	id, err := peer.Decode("12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN")
	if err != nil {
		panic(err)
	}
	return id.String()
}()

// TestStalledRelaysDoNotHoldUp: four that never answer, asked first, and a
// good one that comes later.
func TestStalledRelaysDoNotHoldUp(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		n := w.node(Config{})
		for i := range parallel {
			bad := &hop{Host: w.host(w.net.Host(fmt.Sprint("bad", i)), nil)}
			bad.SetStreamHandler(proto.ProtoIDv2Hop, bad.stall)
			n.Add(Candidate{AddrInfo: *host.InfoFromHost(bad), Source: "test"})
		}
		time.Sleep(100 * time.Millisecond)
		good := w.relay()
		n.add(good)
		n.within(reserveTimeout+time.Second, "the good one", func() bool { return n.through(good.ID()) })
		for _, r := range n.Status().Relays {
			if r.State == BackingOff && (r.Reason != Unreachable || r.Detail != "no answer in time") {
				t.Errorf("a relay that never answers: got %q (%s), want %q (no answer in time)", r.Reason, r.Detail, Unreachable)
			}
		}
	})
}

// TestRefreshFails: a failed refresh is no reason to give up a reservation that
// still holds; but it ends when it expires.
func TestRefreshFails(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		r := &hop{Host: w.host(w.net.Host("relay"), nil)}
		r.SetStreamHandler(proto.ProtoIDv2Hop, func(s network.Stream) {
			if r.asked.Load() > 0 {
				r.asked.Add(1)
				s.Reset()
				return
			}
			r.answer(s, in(2*time.Minute))
		})
		n := w.node(Config{})
		n.Add(Candidate{AddrInfo: *host.InfoFromHost(r), Source: "test"})
		n.within(time.Second, "reserved", n.advertised)
		n.throughout(118*time.Second, "the reservation still holds", n.advertised)
		if got := len(n.seen(RefreshFailed, r.ID())); got < 3 || got > 4 {
			t.Errorf("failed refreshes: got %d, want 3 or 4; events:%s", got, n.story())
		}
		n.within(3*time.Second, "expired", func() bool { return !n.advertised() })
		if lost := n.seen(Lost, r.ID()); len(lost) != 1 || lost[0].Reason != Expired {
			t.Errorf("lost events: got %+v, want one, %q", lost, Expired)
		}
	})
}

// TestRecordOfTenThousand: what a relay tells of itself is bounded, and may not
// speak for others.
func TestRecordOfTenThousand(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		r := w.relay()
		n := w.node(Config{})
		n.add(r)
		n.settled(r)
		live := n.current()[0]
		foreign := ma.StringCast("/ip4/11.7.7.7/tcp/1/p2p/" + randomText)
		rec := &peer.PeerRecord{PeerID: r.ID(), Seq: math.MaxUint64, Addrs: []ma.Multiaddr{foreign}}
		for i := range 10000 {
			rec.Addrs = append(rec.Addrs, ma.StringCast(fmt.Sprintf("/ip4/11.1.%d.%d/tcp/1", i/256, i%256)))
		}
		env, err := record.Seal(rec, r.key)
		if err != nil {
			t.Fatal(err)
		}
		em, err := n.host.EventBus().Emitter(new(event.EvtPeerIdentificationCompleted))
		if err != nil {
			t.Fatal(err)
		}
		defer em.Close()
		em.Emit(event.EvtPeerIdentificationCompleted{Peer: r.ID(), SignedPeerRecord: env})
		n.within(time.Second, "all that one relay may have", func() bool { return len(n.current()) == maxPerRelay })
		synctest.Wait()
		if !strings.Contains(fmt.Sprint(n.current()), live.String()) {
			t.Errorf("the live address is gone: got %v, want %s among them", n.current(), live)
		}
		if strings.Contains(fmt.Sprint(n.current()), "11.7.7.7") {
			t.Errorf("advertised an address of another peer: %v", n.current())
		}
		// Somebody else's record in the relay's name is none.
		rec.PeerID = n.host.ID()
		if env, err = record.Seal(rec, r.key); err != nil {
			t.Fatal(err)
		}
		em.Emit(event.EvtPeerIdentificationCompleted{Peer: r.ID(), SignedPeerRecord: env})
		n.within(time.Second, "back to what is known", func() bool { return len(n.current()) == 1 })
	})
}
