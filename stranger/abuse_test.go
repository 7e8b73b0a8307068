package stranger

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/internal/oneshot"
	"github.com/causeway-p2p/causeway/stranger/pb"
	"github.com/causeway-p2p/causeway/testnet"
)

func askFor(addr ma.Multiaddr) *pb.Message {
	return &pb.Message{Kind: &pb.Message_Ask{Ask: &pb.Ask{Addr: addr.Bytes(), Nonce: 1}}}
}

func dialFor(p peer.ID, addr ma.Multiaddr) *pb.Message {
	return &pb.Message{Kind: &pb.Message_Dial{Dial: &pb.Dial{PeerId: []byte(p), Addr: addr.Bytes(), Nonce: 1}}}
}

// say asks as any message, pays so many bytes if it has to, and returns what it
// came to.
func say(ctx context.Context, from host.Host, to peer.ID, m *pb.Message, pay int) error {
	s, err := from.NewStream(network.WithAllowLimitedConn(ctx, "test"), to, Protocol)
	if err != nil {
		return err
	}
	defer s.Reset()
	if err := oneshot.Write(s, m); err != nil {
		return err
	}
	for {
		wanted, outcome, err := reply(s)
		if err != nil || wanted == 0 {
			return errors.Join(err, outcome)
		}
		if _, err := s.Write(make([]byte, min(pay, int(wanted)))); err != nil {
			return err
		}
	}
}

func reasonOf(err error) Reason {
	var refusal *RefusedError
	if errors.As(err, &refusal) {
		return refusal.Reason
	}
	return ""
}

func TestRefusals(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		lots := Limits{PerAsker: 100, PerServer: 100, PerTarget: 100, Total: 100}
		server, third := join(t, n.Host("server"), true, lots), join(t, n.Host("third"), true, lots)
		client, victim := join(t, n.Host("client"), false, lots), join(t, n.Host("victim"), false, lots)
		meet(t, server, third)
		meet(t, client, server)
		ask := func(addr string) *pb.Message { return askFor(ma.StringCast(addr)) }
		at := func(p *party) ma.Multiaddr { return p.machine.ListenAddr(4001) }
		for _, c := range []struct {
			name     string
			from, to *party
			m        *pb.Message
			want     Reason
		}{
			{"somebody else's address", client, server, askFor(at(victim)), NotYours},
			{"the server's address", client, server, askFor(at(server)), NotYours},
			{"a private address", client, server, ask("/ip4/192.168.0.1/udp/1/quic-v1"), NotPublic},
			{"loopback", client, server, ask("/ip4/127.0.0.1/udp/4001/quic-v1"), NotPublic},
			{"a name", client, server, ask("/dns4/example.com/tcp/443"), Malformed},
			{"no address", client, server, &pb.Message{Kind: &pb.Message_Ask{}}, Malformed},
			{"nobody", server, third, &pb.Message{Kind: &pb.Message_Dial{Dial: &pb.Dial{Addr: at(client).Bytes()}}}, Malformed},
			{"a private address, to the third", server, third, dialFor(client.ID(), ma.StringCast("/ip4/10.0.0.1/tcp/1")), NotPublic},
			{"the third's own address", server, third, dialFor(client.ID(), at(third)), OwnAddress},
			{"the third itself", server, third, dialFor(third.ID(), at(client)), OwnAddress},
			{"who asks the third", server, third, dialFor(client.ID(), at(server)), OwnAddress},
			{"a transport that it has not", server, third, dialFor(client.ID(), ma.StringCast("/ip4/21.0.0.9/tcp/1")), CannotDial},
		} {
			began := time.Now()
			err := say(t.Context(), c.from, c.to.ID(), c.m, dialData)
			if got := reasonOf(err); got != c.want || time.Since(began) > time.Second {
				t.Errorf("%s: got %v after %v, want %s at once", c.name, err, time.Since(began), c.want)
			}
		}
		if third.dialled.Load()+server.dialled.Load() != 0 {
			t.Error("somebody dialled")
		}
		// A client on the server's machine.
		twin, err := libp2p.New(append(options(server.machine), libp2p.ListenAddrs(server.machine.ListenAddr(4002)))...)
		if err != nil {
			t.Fatal(err)
		}
		defer twin.Close()
		meet(t, twin, server)
		if err := say(t.Context(), twin, server.ID(), askFor(server.machine.ListenAddr(22)), dialData); reasonOf(err) != OwnAddress {
			t.Errorf("the server's own address, from its machine: got %v, want %s", err, OwnAddress)
		}
	})
}

// TestRelayed: an address behind a relay is the relay's.
func TestRelayed(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		m := n.Host("relay")
		hop, err := libp2p.New(append(options(m), libp2p.ListenAddrs(m.ListenAddr(4001)), libp2p.ForceReachabilityPublic(), libp2p.EnableRelayService(relay.WithInfiniteLimits()))...)
		if err != nil {
			t.Fatal(err)
		}
		defer hop.Close()
		server, c := join(t, n.Host("server"), true, Limits{}), join(t, n.Host("client"), false, Limits{})
		meet(t, server, hop)
		meet(t, c, hop)
		if _, err := client.Reserve(t.Context(), server, peer.AddrInfo{ID: hop.ID(), Addrs: hop.Addrs()}); err != nil {
			t.Fatal(err)
		}
		via := ma.StringCast("/p2p/" + hop.ID().String() + "/p2p-circuit")
		if err := c.Connect(t.Context(), peer.AddrInfo{ID: server.ID(), Addrs: []ma.Multiaddr{m.ListenAddr(4001).Encapsulate(via)}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for name, to := range map[string]ma.Multiaddr{"the relay's": m.ListenAddr(4001), "its own": c.machine.ListenAddr(4001)} {
			if err := say(t.Context(), c, server.ID(), askFor(to), 0); reasonOf(err) != Relayed {
				t.Errorf("an address of %s: got %v, want %s", name, err, Relayed)
			}
		}
		if err := say(t.Context(), c, server.ID(), dialFor(newID(t), ma.StringCast("/ip4/8.8.8.8/udp/1/quic-v1")), 0); reasonOf(err) != Relayed {
			t.Errorf("a dial: got %v, want %s", err, Relayed)
		}
	})
}

// TestNobodyDialsUnpaid, and who does not pay is gone soon.
func TestNobodyDialsUnpaid(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		server, third := join(t, n.Host("server"), true, Limits{}), join(t, n.Host("third"), true, Limits{})
		c := join(t, n.Host("client"), false, Limits{})
		meet(t, server, third)
		meet(t, c, server)
		addr := external(t, server, c.ID())
		for name, f := range map[string]func() error{
			"the client": func() error { return say(t.Context(), c, server.ID(), askFor(addr), dialData-1) },
			"the server": func() error { return say(t.Context(), server, third.ID(), dialFor(c.ID(), addr), dialData-1) },
		} {
			began := time.Now()
			err := f()
			if took := time.Since(began); !errors.Is(err, network.ErrReset) || took < dataWait || took > dataWait+time.Second {
				t.Errorf("%s pays a byte too little: got %v after %v, want a reset after %v", name, err, took, dataWait)
			}
		}
		if got := third.dialled.Load() + server.dialled.Load(); got != 0 {
			t.Errorf("dialled %d times", got)
		}
	})
}

// TestFlood: one that asks without end keeps nobody else from being served, and
// has nobody dial for nothing.
func TestFlood(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		server, third := join(t, n.Host("server"), true, Limits{}), join(t, n.Host("third"), true, Limits{})
		honest, hostile := join(t, n.Host("honest"), false, Limits{}), join(t, n.Host("hostile"), false, Limits{})
		for _, p := range []*party{third, honest, hostile} {
			meet(t, p, server)
		}
		addr := external(t, server, hostile.ID())
		var all sync.WaitGroup
		for range 500 {
			all.Go(func() { say(t.Context(), hostile, server.ID(), askFor(addr), 1) })
		}
		time.Sleep(time.Second)
		if err := honest.Ask(t.Context(), server.ID(), external(t, server, honest.ID()), 1); err != nil {
			t.Errorf("an honest one meanwhile: %v", err)
		}
		if _, arrived := honest.nonces.of(1); !arrived {
			t.Error("its nonce did not arrive")
		}
		all.Wait()
		// With payment: no more than its rate. 20 streams are read at once.
		third.dialled.Store(0)
		began := time.Now()
		for time.Since(began) < 5*time.Minute {
			for range 20 {
				all.Go(func() { say(t.Context(), hostile, server.ID(), askFor(addr), dialData) })
			}
			time.Sleep(5 * time.Second)
		}
		all.Wait()
		if got := third.dialled.Load(); got < 30 || got > 36 {
			t.Errorf("dialled %d times in 5 minutes, want 6 a minute and 6", got)
		}
	})
}

// TestThirdNodes that do not do as the page says.
func TestThirdNodes(t *testing.T) {
	answer := func(o pb.Outcome) *pb.Message {
		return &pb.Message{Kind: &pb.Message_Answer{Answer: &pb.Answer{Outcome: o}}}
	}
	want := func(n uint32) *pb.Message {
		return &pb.Message{Kind: &pb.Message_DataWanted{DataWanted: &pb.DataWanted{Bytes: n}}}
	}
	for _, c := range []struct {
		name   string
		third  network.StreamHandler
		want   error
		within time.Duration
	}{
		{"hangs", func(network.Stream) {}, ErrNobody, tryTimeout},
		{"resets", func(s network.Stream) { s.Reset() }, ErrNobody, time.Second},
		{"closes", func(s network.Stream) { s.Close() }, ErrNobody, time.Second},
		{"answers nonsense", func(s network.Stream) { s.Write([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}) }, ErrNobody, time.Second},
		{"wants too much", func(s network.Stream) { oneshot.Write(s, want(dialData+1)) }, ErrNobody, time.Second},
		{"wants it twice", func(s network.Stream) {
			oneshot.Read(s, maxMessage, &pb.Message{})
			oneshot.Write(s, want(100))
			io.CopyN(io.Discard, s, 100)
			oneshot.Write(s, want(100))
		}, ErrNobody, 2 * time.Second},
		{"is gone once it is paid for", func(s network.Stream) {
			oneshot.Write(s, want(dialData))
			time.Sleep(50 * time.Millisecond)
			s.Reset()
		}, ErrNobody, 2 * time.Second},
		{"asks back", func(s network.Stream) { oneshot.Write(s, askFor(ma.StringCast("/ip4/8.8.8.8/tcp/1"))) }, ErrNobody, time.Second},
		{"says that it dialled", func(s network.Stream) { oneshot.Write(s, answer(pb.Outcome_DIALLED)); s.Close() }, nil, time.Second},
		{"says that it failed", func(s network.Stream) { oneshot.Write(s, answer(pb.Outcome_FAILED)); s.Close() }, ErrDialFailed, time.Second},
		{"says what nobody knows", func(s network.Stream) { oneshot.Write(s, answer(77)); s.Close() }, ErrNobody, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, func(t *testing.T, n *testnet.Net) {
				server, third := join(t, n.Host("server"), true, Limits{}), join(t, n.Host("third"), false, Limits{})
				client := join(t, n.Host("client"), false, Limits{})
				third.SetStreamHandler(Protocol, c.third)
				meet(t, third, server)
				meet(t, client, server)
				began := time.Now()
				err := client.Ask(t.Context(), server.ID(), external(t, server, client.ID()), 1)
				if !errors.Is(err, c.want) || time.Since(began) > c.within+time.Second {
					t.Errorf("got %v after %v, want %v within %v", err, time.Since(began), c.want, c.within)
				}
				if _, arrived := client.nonces.of(1); arrived {
					t.Error("a nonce arrived")
				}
				if len(server.asks.perHost) != 0 {
					t.Error("the request still has its place")
				}
			})
		})
	}
}

// TestServers that do not do as the page says cost a client little.
func TestServers(t *testing.T) {
	want := func(n uint32) *pb.Message {
		return &pb.Message{Kind: &pb.Message_DataWanted{DataWanted: &pb.DataWanted{Bytes: n}}}
	}
	simulate(t, func(t *testing.T, n *testnet.Net) {
		server, c := join(t, n.Host("server"), false, Limits{}), join(t, n.Host("client"), false, Limits{})
		behave := make(chan network.StreamHandler, 1)
		server.SetStreamHandler(Protocol, func(s network.Stream) { (<-behave)(s) })
		meet(t, c, server)
		addr := external(t, server, c.ID())
		var taken atomic.Int64
		for _, h := range []struct {
			name    string
			handler network.StreamHandler
			within  time.Duration
			paid    int64 // at most
		}{
			{"hangs", func(network.Stream) {}, askTimeout, 0},
			{"resets", func(s network.Stream) { s.Reset() }, time.Second, 0},
			{"wants 4 GB", func(s network.Stream) { oneshot.Write(s, want(1<<32-1)) }, time.Second, 0},
			{"wants nothing", func(s network.Stream) { oneshot.Write(s, want(0)) }, time.Second, 0},
			{"wants more and more", func(s network.Stream) {
				for oneshot.Write(s, want(maxData)) == nil {
					got, err := io.CopyN(io.Discard, s, maxData)
					taken.Add(got)
					if err != nil {
						return
					}
				}
			}, 2 * time.Second, maxData},
			{"says too much", func(s network.Stream) { s.Write(slices.Concat([]byte{0xff, 0xff, 0x03}, make([]byte, 1<<16))) }, time.Second, 0},
			{"asks", func(s network.Stream) { oneshot.Write(s, askFor(addr)) }, time.Second, 0},
		} {
			taken.Store(0)
			began := time.Now()
			behave <- h.handler
			err := c.Ask(t.Context(), server.ID(), addr, 1)
			if err == nil || errors.Is(err, ErrDialFailed) || time.Since(began) > h.within+time.Second || taken.Load() > h.paid+200 {
				t.Errorf("%s: got %v after %v for %d bytes, want an error within %v for at most %d", h.name, err, time.Since(began), taken.Load(), h.within, h.paid)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		began := time.Now()
		behave <- func(network.Stream) {}
		if err := c.Ask(ctx, server.ID(), addr, 1); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 300*time.Millisecond {
			t.Errorf("got %v after %v, want the context's end after 300ms", err, time.Since(began))
		}
		if err := c.Ask(t.Context(), server.ID(), ma.StringCast("/ip4/192.168.1.1/tcp/1"), 1); reasonOf(err) != NotPublic {
			t.Errorf("a private address: got %v", err)
		}
	})
}
