package node

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/relay"
	"github.com/causeway-p2p/causeway/testnet"
)

func TestNotRunning(t *testing.T) {
	n, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		if _, err := n.Dial(t.Context(), decode(t, idA), "x"); !errors.Is(err, ErrNotRunning) {
			t.Errorf("Dial %s: got %v, want %v", when, err, ErrNotRunning)
		}
		if err := n.Connect(t.Context(), decode(t, idA)); !errors.Is(err, ErrNotRunning) {
			t.Errorf("Connect %s: got %v, want %v", when, err, ErrNotRunning)
		}
		if _, err := n.Ping(t.Context(), decode(t, idA)); !errors.Is(err, ErrNotRunning) {
			t.Errorf("Ping %s: got %v, want %v", when, err, ErrNotRunning)
		}
		if _, err := n.Listen("x"); !errors.Is(err, ErrNotRunning) {
			t.Errorf("Listen %s: got %v, want %v", when, err, ErrNotRunning)
		}
		if err := n.WaitReachable(t.Context()); !errors.Is(err, ErrNotRunning) {
			t.Errorf("WaitReachable %s: got %v, want %v", when, err, ErrNotRunning)
		}
		n.Drain(0)
	}
	events := n.Events(t.Context())
	check("before Start")
	for range 3 {
		if err := n.Close(); err != nil {
			t.Errorf("Close without Start: got %v", err)
		}
	}
	if _, open := <-events; open {
		t.Error("the channel of events is open after Close")
	}
	check("after Close")
	if err := n.Start(t.Context()); err == nil {
		t.Error("Start after Close: got no error")
		n.Close()
	}
}

func TestStartAndCloseTwice(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.bootstrap()
		n := w.behind("A", testnet.PortRestricted(), Config{})
		if err := n.Start(t.Context()); err == nil {
			t.Error("the second Start: got no error")
		}
		var closers sync.WaitGroup
		for range 4 {
			closers.Go(func() {
				if err := n.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
				if s := n.Status(); len(s.Listen) > 0 || s.Reachable {
					t.Errorf("status after Close: got %+v, want it empty", s)
				}
			})
		}
		closers.Wait()
		if _, err := n.Listen("x"); err == nil {
			t.Error("Listen after Close: got no error")
		}
	})
}

// TestCloseAtAnyTime: while everything reports to everything.
func TestCloseAtAnyTime(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.bootstrap()
		w.relays(2)
		for i := range 12 {
			n := w.behind("A", testnet.PortRestricted(), Config{Relay: relay.Auto})
			time.Sleep(time.Duration(i*i) * 13 * time.Millisecond)
			begun := time.Now()
			if err := n.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			if took := time.Since(begun); took > time.Second {
				t.Errorf("Close of a node that ran for %v took %v, want at most 1 s", time.Duration(i*i)*13*time.Millisecond, took)
			}
		}
	})
}

func TestCloseEndsDial(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.bootstrap()
		n := w.behind("A", testnet.PortRestricted(), Config{})
		// One dial is at the lookup, the other at addresses that do not answer.
		nowhere := decode(t, idB)
		n.Host().Peerstore().AddAddr(nowhere, w.net.Host("nobody").ListenAddr(1), time.Hour)
		done := make(chan error, 2)
		for _, p := range []peer.ID{decode(t, idA), nowhere} {
			go func() {
				_, err := n.Dial(t.Context(), p, "x")
				done <- err
			}()
		}
		time.Sleep(2 * time.Second)
		closed := time.Now()
		n.Close()
		for range 2 {
			if err := <-done; !errors.Is(err, ErrNotRunning) {
				t.Errorf("Dial when the node is closed: got %v, want %v", err, ErrNotRunning)
			}
		}
		if took := time.Since(closed); took > time.Second {
			t.Errorf("the dials ended %v after Close, want at most 1 s", took)
		}
	})
}

// The tests below use real sockets on loopback.

func loopback(t *testing.T, cfg Config) *Node {
	t.Helper()
	if cfg.Network == "" {
		cfg.Network = "loopback"
	}
	if cfg.Listen == nil {
		cfg.Listen = []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0"), ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1")}
	}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return n
}

func TestPortInUse(t *testing.T) {
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	tcpAddr := ma.StringCast("/ip4/127.0.0.1/tcp/" + port(tcp.Addr()))
	udpAddr := ma.StringCast("/ip4/127.0.0.1/udp/" + port(udp.LocalAddr()) + "/quic-v1")
	free := ma.StringCast("/ip4/127.0.0.1/tcp/0")
	for _, c := range []struct {
		listen []ma.Multiaddr
		blame  ma.Multiaddr
	}{
		{[]ma.Multiaddr{tcpAddr}, tcpAddr},
		{[]ma.Multiaddr{udpAddr}, udpAddr},
		{[]ma.Multiaddr{free, udpAddr}, udpAddr},
		{[]ma.Multiaddr{free, tcpAddr}, tcpAddr},
	} {
		n, err := New(Config{Network: "loopback", Listen: c.listen})
		if err != nil {
			t.Fatal(err)
		}
		err = n.Start(t.Context())
		var le *ListenError
		if !errors.As(err, &le) || !le.Addr.Equal(c.blame) || !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), c.blame.String()) {
			t.Errorf("listen on %v: got %v, want a ListenError for %s, address in use", c.listen, err, c.blame)
		}
		if err := n.Close(); err != nil {
			t.Errorf("Close after a failed Start: %v", err)
		}
	}
}

func port(a net.Addr) string {
	_, p, err := net.SplitHostPort(a.String())
	if err != nil {
		panic(err)
	}
	return p
}

// TestPrivateRelay: on a network of private addresses, relays on them count.
func TestPrivateRelay(t *testing.T) {
	const vip = "/ip4/10.77.0.1/udp/4001/quic-v1"
	for _, c := range []struct {
		name        string
		relay, peer Config
		want        string // in a circuit address
	}{
		{"everybody allows private addresses", Config{AllowPrivate: true}, Config{AllowPrivate: true}, "/ip4/127.0.0.1/"},
		{"the relay announces a private address", Config{Announce: []ma.Multiaddr{ma.StringCast(vip)}}, Config{}, vip},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.relay.Relay, c.relay.Relays, c.relay.Server = relay.On, -1, true
			r := loopback(t, c.relay)
			at := peer.AddrInfo{ID: r.ID(), Addrs: r.Host().Network().ListenAddresses()}
			c.peer.StaticRelays, c.peer.Bootstrap = []peer.AddrInfo{at}, []peer.AddrInfo{at}
			a := loopback(t, c.peer)
			e := await(t, a, "a circuit address", func(e AddrsChanged) bool { return e.Circuits > 0 })
			want := c.want
			if got := strings.Join(e.Addrs, " "); !strings.Contains(got, want) || !strings.Contains(got, r.ID().String()+"/p2p-circuit") {
				t.Errorf("advertised: got %s, want a circuit through %s", got, want)
			}
			if err := a.WaitReachable(timeout(t)); err != nil {
				t.Errorf("WaitReachable: %v", err)
			}
			if c.want == vip {
				return // nobody can dial that one here
			}
			serveEcho(t, a)
			b := loopback(t, Config{AllowPrivate: true, Bootstrap: []peer.AddrInfo{at}, Relays: -1})
			callEcho(t, b, a.ID(), 1<<20)
		})
	}
}

// TestCloseWithConnections: streams that are open end, and with an error.
func TestCloseWithConnections(t *testing.T) {
	a := loopback(t, Config{Server: true})
	serveEcho(t, a)
	b := loopback(t, Config{Bootstrap: []peer.AddrInfo{*host.InfoFromHost(a.Host())}})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := b.Dial(ctx, a.ID(), "echo")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("read from a node that was closed: got no error")
	}
}
