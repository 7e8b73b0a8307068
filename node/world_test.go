package node

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/internal/maddr"
	"github.com/causeway-p2p/causeway/internal/virtual"
	"github.com/causeway-p2p/causeway/relay"
	"github.com/causeway-p2p/causeway/testnet"
)

// world is a simulated internet in virtual time.
type world struct {
	*testing.T
	net   *testnet.Net
	boot  []peer.AddrInfo
	first *Node // the bootstrap node
	boxes map[peer.ID]*testnet.Host
}

func simulate(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	simulateAt(t, 20*time.Millisecond, f)
}

// simulateAt takes the delay of a packet between any two machines.
func simulateAt(t *testing.T, latency time.Duration, f func(t *testing.T, w *world)) {
	t.Helper()
	simulateOn(t, testnet.Config{Latency: latency}, f)
}

func simulateOn(t *testing.T, cfg testnet.Config, f func(t *testing.T, w *world)) {
	t.Helper()
	t.Parallel()
	virtual.Test(t, func(t *testing.T) {
		w := &world{T: t, net: testnet.New(cfg), boxes: make(map[peer.ID]*testnet.Host)}
		t.Cleanup(testnet.Linger)
		t.Cleanup(w.net.Close)
		f(t, w)
	})
}

// on starts a node on a machine; Close comes in reverse order.
func (w *world) on(box *testnet.Host, cfg Config) *Node {
	w.Helper()
	cfg.Network, cfg.Bootstrap = cmp.Or(cfg.Network, "story"), w.boot
	cfg.Listen = []ma.Multiaddr{box.ListenAddr(4001)}
	cfg.Transports = []libp2p.Option{box.Transport()}
	cfg.Libp2p = append(cfg.Libp2p, libp2p.ResourceManager(&network.NullResourceManager{}))
	n, err := New(cfg)
	if err != nil {
		w.Fatal(err)
	}
	if err := n.Start(w.Context()); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		if err := n.Close(); err != nil {
			w.Errorf("close %s: %v", box.Name(), err)
		}
	})
	w.boxes[n.ID()] = box
	return n
}

// bootstrap starts the node that all later ones join through.
func (w *world) bootstrap() *Node {
	w.Helper()
	n := w.on(w.net.Host("bootstrap"), Config{Server: true, Relays: -1})
	w.first, w.boot = n, []peer.AddrInfo{*host.InfoFromHost(n.Host())}
	return n
}

// relays starts relays that serve once they are found public.
func (w *world) relays(count int) (list []*Node) {
	w.Helper()
	for i := range count {
		list = append(list, w.on(w.net.Host(fmt.Sprint("relay", i)), Config{Server: true, Relay: relay.Auto, Relays: -1}))
	}
	for _, n := range list {
		await(w.T, n, "a relay to serve", func(e RelayService) bool { return e.Serving })
		await(w.T, n, "a relay to be announced", func(Announced) bool { return true })
	}
	return list
}

func (w *world) behind(name string, nat testnet.NATConfig, cfg Config) *Node {
	w.Helper()
	return w.on(w.net.NAT("nat "+name, nat).Host(name), cfg)
}

const patience = 20 * time.Second

// await waits for an event, which may have come already.
func await[E Event](t *testing.T, n *Node, what string, ok func(E) bool) E {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return next(t, n.History(ctx), what, ok)
}

// next waits for an event on a channel, which its context ends.
func next[E Event](t *testing.T, events <-chan Event, what string, ok func(E) bool) E {
	t.Helper()
	var seen []string
	for ev := range events {
		if e, is := ev.(E); is && ok(e) {
			return e
		}
		seen = append(seen, ev.String())
	}
	t.Fatalf("waited in vain for %s; events:\n  %s", what, strings.Join(seen, "\n  "))
	panic("unreachable")
}

// echo makes a node offer the service "echo".
func (w *world) echo(n *Node) {
	w.Helper()
	serveEcho(w.T, n)
}

func serveEcho(t *testing.T, n *Node) {
	t.Helper()
	l, err := n.Listen("echo")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
}

// callEcho opens a peer's echo service by its ID alone, sends size bytes
// through it and returns the path they took.
func callEcho(t *testing.T, from *Node, to peer.ID, size int) Path {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	begun := time.Now()
	c, err := from.Dial(ctx, to, "echo")
	if err != nil {
		t.Fatalf("dial %s: %v", ShortID(to), err)
	}
	defer c.Close()
	took := time.Since(begun)
	if err := exchange(c, size); err != nil {
		t.Fatalf("echo of %d bytes %s: %v", size, PathOf(c.Conn()), err)
	}
	path := PathOf(c.Conn())
	t.Logf("%s after %v, %d bytes there and back after %v", path, took, size, time.Since(begun))
	return path
}

func exchange(c net.Conn, size int) error {
	c.SetDeadline(time.Now().Add(patience))
	data := make([]byte, size)
	rand.Read(data)
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		sent <- err
	}()
	sum := sha256.New()
	if _, err := io.CopyN(sum, c, int64(size)); err != nil {
		c.Close()
		<-sent
		return err
	}
	if err := <-sent; err != nil {
		return err
	}
	if want := sha256.Sum256(data); !bytes.Equal(sum.Sum(nil), want[:]) {
		return fmt.Errorf("SHA-256 of what came back: got %x, want %x", sum.Sum(nil), want)
	}
	return nil
}

// knowsCircuit waits until a node knows a circuit address of a peer.
func knowsCircuit(t *testing.T, n *Node, p peer.ID) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for a := range n.Host().Peerstore().AddrStream(ctx, p) {
		if maddr.IsCircuit(a) {
			return
		}
	}
	t.Fatalf("a circuit address of %s did not arrive in %v; known: %v", ShortID(p), patience, n.Host().Peerstore().Addrs(p))
}
