package notice

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/goleak"

	"github.com/causeway-p2p/causeway/internal/virtual"
	"github.com/causeway-p2p/causeway/testnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func simulate(t *testing.T, f func(t *testing.T, n *testnet.Net)) {
	t.Helper()
	virtual.Test(t, func(t *testing.T) {
		n := testnet.New(testnet.Config{})
		t.Cleanup(n.Close)
		f(t, n)
	})
}

func start(t *testing.T, m *testnet.Host) host.Host {
	t.Helper()
	h, err := libp2p.New(
		m.Transport(), libp2p.ListenAddrs(m.ListenAddr(4001)), libp2p.DisableMetrics(),
		libp2p.ResourceManager(&network.NullResourceManager{}), libp2p.ForceReachabilityPublic(),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// connect returns when both know what the other speaks.
func connect(t *testing.T, from, to host.Host) {
	t.Helper()
	if err := from.Connect(t.Context(), peer.AddrInfo{ID: to.ID(), Addrs: to.Addrs()}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
}

// inbox keeps what a host receives.
type inbox struct {
	mu   sync.Mutex // guards the field below
	from map[peer.ID][]Notice
}

func receive(t *testing.T, h host.Host) *inbox {
	t.Helper()
	in := &inbox{from: make(map[peer.ID][]Notice)}
	t.Cleanup(Receive(h, func(from peer.ID, n Notice) {
		in.mu.Lock()
		defer in.mu.Unlock()
		in.from[from] = append(in.from[from], n)
	}))
	return in
}

func (in *inbox) of(p peer.ID) []Notice {
	synctest.Wait()
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.from[p]
}

func TestSend(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		relay, p := start(t, n.Host("relay")), start(t, n.NAT("box", testnet.Symmetric()).Host("peer"))
		in := receive(t, p)
		connect(t, p, relay)
		want := []Notice{
			{Draining: &Draining{Within: time.Minute, Siblings: []peer.AddrInfo{{ID: newID(t), Addrs: addrs("/ip4/8.8.8.8/tcp/1")}}}},
			{Load: &Load{Reservations: 1, MaxReservations: 1, Full: true}},
		}
		for _, n := range want {
			began := time.Now()
			if err := Send(t.Context(), relay, p.ID(), n); err != nil {
				t.Errorf("%+v: %v", n, err)
			}
			if took := time.Since(began); took > 50*time.Millisecond {
				t.Errorf("took %v, want about a round trip of 20ms", took)
			}
		}
		if got := in.of(relay.ID()); !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if err := Send(t.Context(), relay, p.ID(), Notice{}); !errors.Is(err, errKind) {
			t.Errorf("nothing to tell: got %v, want %v", err, errKind)
		}
		if len(in.of(relay.ID())) != 2 {
			t.Error("something was told")
		}
	})
}

// TestSendLeavesAlone those who do not speak the protocol, or are not here.
func TestSendLeavesAlone(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		relay, stock, gone := start(t, n.Host("relay")), start(t, n.Host("stock")), start(t, n.Host("gone"))
		in := receive(t, gone)
		connect(t, stock, relay)
		connect(t, gone, relay)
		relay.Network().ClosePeer(gone.ID())
		for name, h := range map[string]host.Host{"stock": stock, "gone": gone} {
			began := time.Now()
			if err := Send(t.Context(), relay, h.ID(), Notice{Load: &Load{}}); err == nil || time.Since(began) > 0 {
				t.Errorf("%s: got %v after %v, want an error at once", name, err, time.Since(began))
			}
		}
		if len(relay.Network().ConnsToPeer(stock.ID())) != 1 || len(relay.Network().ConnsToPeer(gone.ID())) != 0 || len(in.of(relay.ID())) != 0 {
			t.Error("the stock peer must stay connected, and nobody be dialled")
		}
	})
}

// TestSendToOneThatHangs, and to others that do not do as the page says.
func TestSendToOneThatHangs(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		relay, p := start(t, n.Host("relay")), start(t, n.Host("peer"))
		behave := make(chan network.StreamHandler, 1)
		p.SetStreamHandler(Protocol, func(s network.Stream) { (<-behave)(s) })
		connect(t, p, relay)
		for _, c := range []struct {
			name    string
			handler network.StreamHandler
			within  time.Duration
			want    error // if not nil
		}{
			{"hangs", func(network.Stream) {}, 5 * time.Second, context.DeadlineExceeded},
			{"resets", func(s network.Stream) { s.Reset() }, 50 * time.Millisecond, network.ErrReset},
			{"answers", func(s network.Stream) { s.Write([]byte("thanks")); s.Close() }, 50 * time.Millisecond, nil},
		} {
			began := time.Now()
			behave <- c.handler
			err := Send(t.Context(), relay, p.ID(), Notice{Load: &Load{}})
			if err == nil || c.want != nil && !errors.Is(err, c.want) || time.Since(began) > c.within {
				t.Errorf("%s: got %v after %v, want %v within %v", c.name, err, time.Since(began), c.want, c.within)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		began := time.Now()
		behave <- func(network.Stream) {}
		if err := Send(ctx, relay, p.ID(), Notice{Load: &Load{}}); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 300*time.Millisecond {
			t.Errorf("got %v after %v, want the context's end after 300ms", err, time.Since(began))
		}
		// Its identify is out of date.
		p.Network().ClosePeer(relay.ID())
		p.RemoveStreamHandler(Protocol)
		connect(t, p, relay)
		if err := Send(t.Context(), relay, p.ID(), Notice{Load: &Load{}}); err == nil {
			t.Error("sent to one that takes no notices any more")
		}
	})
}

// TestFlood: a hostile relay is heard 10 times a minute, and keeps nobody from
// being heard.
func TestFlood(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		p, hostile, honest := start(t, n.Host("peer")), start(t, n.Host("hostile")), start(t, n.Host("honest"))
		in := receive(t, p)
		connect(t, p, hostile)
		connect(t, p, honest)
		flood := func() {
			var all sync.WaitGroup
			for range 200 {
				all.Go(func() { Send(t.Context(), hostile, p.ID(), Notice{Load: &Load{Full: true}}) })
			}
			all.Wait()
		}
		flood()
		if got := len(in.of(hostile.ID())); got != burst {
			t.Errorf("heard %d of 200, want %d", got, burst)
		}
		if err := Send(t.Context(), honest, p.ID(), Notice{Draining: &Draining{}}); err != nil || len(in.of(honest.ID())) != 1 {
			t.Errorf("the honest relay: %v, %d heard, want 1", err, len(in.of(honest.ID())))
		}
		began := time.Now()
		for time.Since(began) < 5*time.Minute {
			flood()
			time.Sleep(10 * time.Second)
		}
		if got := len(in.of(hostile.ID())); got > 61 {
			t.Errorf("heard %d in 5 minutes, want 60", got)
		}
	})
}

// TestSilentSenders do not hold a place for long.
func TestSilentSenders(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		p, hostile := start(t, n.Host("peer")), start(t, n.Host("hostile"))
		in := receive(t, p)
		connect(t, p, hostile)
		for _, said := range [][]byte{{}, {0x80}, {0x04, 0x12}} {
			s, err := hostile.NewStream(t.Context(), p.ID(), Protocol)
			if err != nil {
				t.Fatal(err)
			}
			s.Write(said)
			began := time.Now()
			_, err = s.Read(make([]byte, 1))
			if took := time.Since(began); !errors.Is(err, network.ErrReset) || took > receiveTimeout+100*time.Millisecond {
				t.Errorf("said %x: got %v after %v, want a reset after %v", said, err, took, receiveTimeout)
			}
		}
		if len(in.of(hostile.ID())) != 0 {
			t.Error("something was heard")
		}
	})
}

func TestStop(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		relay, p := start(t, n.Host("relay")), start(t, n.Host("peer"))
		stop := Receive(p, func(peer.ID, Notice) { t.Error("called") })
		connect(t, p, relay)
		if !Speaks(relay, p.ID()) {
			t.Error("the peer receives, and the relay does not know")
		}
		stop()
		stop()
		time.Sleep(time.Second)
		if Speaks(relay, p.ID()) {
			t.Error("the peer has stopped, and the relay does not know")
		}
		if err := Send(t.Context(), relay, p.ID(), Notice{Load: &Load{}}); err == nil {
			t.Error("sent to one that has stopped")
		}
	})
}
