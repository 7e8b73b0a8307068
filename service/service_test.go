package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"

	"github.com/causeway-p2p/causeway/internal/virtual"
	"github.com/causeway-p2p/causeway/service/pb"
	"github.com/causeway-p2p/causeway/testnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long anything may take in these tests.
const patience = 30 * time.Second

func simulate(t *testing.T, f func(t *testing.T, n *testnet.Net)) {
	t.Helper()
	virtual.Test(t, func(t *testing.T) {
		n := testnet.New(testnet.Config{})
		t.Cleanup(n.Close)
		f(t, n)
	})
}

func start(t *testing.T, m *testnet.Host, opts ...libp2p.Option) host.Host {
	t.Helper()
	h, err := libp2p.New(append([]libp2p.Option{
		m.Transport(), libp2p.ListenAddrs(m.ListenAddr(4001)), libp2p.DisableMetrics(),
		libp2p.ResourceManager(&network.NullResourceManager{}), libp2p.ForceReachabilityPublic(),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func timeout(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func connect(t *testing.T, from, to host.Host) {
	t.Helper()
	if err := from.Connect(timeout(t, patience), peer.AddrInfo{ID: to.ID(), Addrs: to.Network().ListenAddresses()}); err != nil {
		t.Fatal(err)
	}
}

// pair is a client connected to a host with a registry.
func pair(t *testing.T, n *testnet.Net) (client, server host.Host, r *Registry) {
	t.Helper()
	server, client = start(t, n.Host("server")), start(t, n.Host("client"))
	r = New(server)
	t.Cleanup(r.Close)
	connect(t, client, server)
	return client, server, r
}

func listen(t *testing.T, r *Registry, name string) *Listener {
	t.Helper()
	l, err := r.Listen(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func open(t *testing.T, from, to host.Host, name string) *Conn {
	t.Helper()
	c, err := Open(timeout(t, patience), from, to.ID(), name)
	if err != nil {
		t.Fatalf("open %q: %v", name, err)
	}
	t.Cleanup(func() { c.Reset() })
	return c
}

func accept(t *testing.T, l *Listener) *Conn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.(*Conn).Reset() })
	return c.(*Conn)
}

// refusedWith tells the reason of a *RefusedError.
func refusedWith(err error) Reason {
	var r *RefusedError
	if errors.As(err, &r) {
		return r.Reason
	}
	return Reason(fmt.Sprintf("not a refusal but %v", err))
}

func TestEcho(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		from, to, r := pair(t, n)
		l := listen(t, r, "echo")
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					io.Copy(c, c)
					c.Close()
				}()
			}
		}()
		var all sync.WaitGroup
		for i := range 10 {
			c := open(t, from, to, "echo")
			all.Go(func() {
				want := bytes.Repeat([]byte{byte(i)}, 300_000)
				go func() {
					c.Write(want)
					c.CloseWrite() // the other direction stays open
				}()
				got, err := io.ReadAll(c)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("stream %d: got %d bytes back, %v, want the %d sent", i, len(got), err, len(want))
				}
			})
		}
		all.Wait()
		if want := (Addr{Peer: to.ID(), Service: "echo"}); l.Addr() != net.Addr(want) {
			t.Errorf("listener at %v, want %v", l.Addr(), want)
		}
	})
}

func TestConnTellsItsEnds(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		from, to, r := pair(t, n)
		l := listen(t, r, "a.b-c_1")
		near, far := open(t, from, to, "a.b-c_1"), accept(t, l)
		client, server := from.ID().String()+"/a.b-c_1", to.ID().String()+"/a.b-c_1"
		for what, got := range map[string][2]string{
			"opening side":   {near.LocalAddr().String() + " to " + near.RemoteAddr().String(), client + " to " + server},
			"accepting side": {far.LocalAddr().String() + " to " + far.RemoteAddr().String(), server + " to " + client},
			"service":        {near.Service() + " " + far.Service(), "a.b-c_1 a.b-c_1"},
			"network":        {near.LocalAddr().Network(), "libp2p"},
		} {
			if got[0] != got[1] {
				t.Errorf("%s: got %s, want %s", what, got[0], got[1])
			}
		}
	})
}

// TestFirstBytes: what either side says right after the handshake arrives
// whole, although it may share a packet with the handshake.
func TestFirstBytes(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		from, to, r := pair(t, n)
		l := listen(t, r, "greeter")
		const hello = "220 greetings, more than eight bytes of them"
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte(hello))
			io.Copy(c, c)
			c.Close()
		}()
		c := open(t, from, to, "greeter")
		if _, err := c.Write([]byte("client")); err != nil {
			t.Fatal(err)
		}
		c.CloseWrite()
		if got, err := io.ReadAll(c); string(got) != hello+"client" || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, hello+"client")
		}

		// A client that does not wait for the answer.
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			got, err := io.ReadAll(c)
			fmt.Fprintf(c, "%s %v", got, err)
			c.Close()
		}()
		s, err := from.NewStream(timeout(t, patience), to.ID(), Protocol)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		b.Write(encoded("greeter"))
		b.WriteString("\x00early")
		s.Write(b.Bytes())
		s.CloseWrite()
		var ans pb.Answer
		if err := readMessage(s, &ans); err != nil || ans.GetStatus() != pb.Answer_ACCEPTED {
			t.Fatalf("answer %v, %v, want ACCEPTED", ans.GetStatus(), err)
		}
		if got, err := io.ReadAll(s); string(got) != "\x00early <nil>" || err != nil {
			t.Errorf("the server read %q, %v, want \"\\x00early\"", got, err)
		}
	})
}

func TestReset(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		from, to, r := pair(t, n)
		l := listen(t, r, "s")
		near, far := open(t, from, to, "s"), accept(t, l)
		near.Reset()
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, network.ErrReset) {
			t.Errorf("read after the peer's reset: got %v, want a reset", err)
		}
		near, far = open(t, from, to, "s"), accept(t, l)
		if err := near.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read past the deadline: got %v", err)
		}
		far.Close()
		near.SetReadDeadline(time.Time{})
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("read after the peer closed: got %v, want EOF", err)
		}
	})
}

// TestNoDeadlineStays: the handshake's deadline is not the conversation's.
func TestNoDeadlineStays(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		from, to, r := pair(t, n)
		l := listen(t, r, "s")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		near, err := Open(ctx, from, to.ID(), "s")
		if err != nil {
			t.Fatal(err)
		}
		far := accept(t, l)
		cancel() // nor does the context of Open end it
		time.Sleep(time.Hour)
		for _, way := range []struct{ from, to *Conn }{{near, far}, {far, near}} {
			if _, err := way.from.Write([]byte("x")); err != nil {
				t.Errorf("write after an hour: %v", err)
			}
			if _, err := io.ReadFull(way.to, make([]byte, 1)); err != nil {
				t.Errorf("read after an hour: %v", err)
			}
		}
		near.Reset()
	})
}

func TestRefusals(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		from, to, r := pair(t, n)
		_, err := Open(timeout(t, patience), from, to.ID(), "missing")
		if got := refusedWith(err); got != NoSuchService {
			t.Errorf("no such service: got %q", got)
		}
		for _, want := range []string{to.ID().String(), `"missing"`, "nobody listens"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("got %q, want %s in it", err, want)
			}
		}

		l := listen(t, r, "s")
		for range backlog {
			open(t, from, to, "s")
		}
		if _, err := Open(timeout(t, patience), from, to.ID(), "s"); refusedWith(err) != Busy {
			t.Errorf("with %d waiting: got %q, want busy", backlog, refusedWith(err))
		}
		accept(t, l)
		open(t, from, to, "s") // room again
		l.Close()
		if _, err := Open(timeout(t, patience), from, to.ID(), "s"); refusedWith(err) != NoSuchService {
			t.Errorf("after Close: got %q", refusedWith(err))
		}

		// Two ways to find out: identify told us, or it did not.
		plain := start(t, n.Host("plain"))
		connect(t, from, plain)
		if _, err := Open(timeout(t, patience), from, plain.ID(), "s"); refusedWith(err) != NotSpoken {
			t.Errorf("a peer without the protocol: got %q", refusedWith(err))
		}
		if err := from.Peerstore().AddProtocols(plain.ID(), Protocol); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(timeout(t, patience), from, plain.ID(), "s"); refusedWith(err) != NotSpoken {
			t.Errorf("a peer that gave the protocol up: got %q", refusedWith(err))
		}

		if _, err := Open(timeout(t, time.Second), from, "nobody", "s"); err == nil || strings.Contains(string(refusedWith(err)), "peer") {
			t.Errorf("a peer that cannot be reached: got %v, want no refusal", err)
		}
	})
}

func TestCheckName(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "http": true, "a.b-c_9": true, strings.Repeat("x", 64): true,
		"": false, strings.Repeat("x", 65): false, "A": false, "a b": false, "a/b": false, "ä": false, "a\n": false, "\x00": false,
	} {
		if err := CheckName(name); (err == nil) != want {
			t.Errorf("%q: got %v, want valid %v", name, err, want)
		}
	}
	simulate(t, func(t *testing.T, n *testnet.Net) {
		from, to, r := pair(t, n)
		if _, err := r.Listen("a b"); err == nil {
			t.Error("listens on a bad name")
		}
		if _, err := Open(timeout(t, patience), from, to.ID(), "a b"); err == nil || strings.Contains(err.Error(), "refused") {
			t.Errorf("open of a bad name: got %v, want an error without asking the peer", err)
		}
	})
}

func TestListenTwiceAndClose(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		from, to, r := pair(t, n)
		l := listen(t, r, "s")
		if _, err := r.Listen("s"); err == nil || !strings.Contains(err.Error(), `"s" is already`) {
			t.Errorf("listen twice: got %v", err)
		}
		queued := open(t, from, to, "s")
		waiting := make(chan error)
		other := listen(t, r, "other")
		go func() {
			_, err := other.Accept()
			waiting <- err
		}()
		for range 2 {
			if err := l.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
		if _, err := queued.Read(make([]byte, 1)); !errors.Is(err, network.ErrReset) {
			t.Errorf("a queued stream after Close: got %v, want a reset", err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept after Close: got %v, want net.ErrClosed", err)
		}
		l2 := listen(t, r, "s") // the name is free
		l.Close()               // and closing the old one again does not take it
		open(t, from, to, "s")
		accept(t, l2)

		queued = open(t, from, to, "s")
		r.Close()
		r.Close()
		if err := <-waiting; !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept when the registry closed: got %v, want net.ErrClosed", err)
		}
		if _, err := queued.Read(make([]byte, 1)); !errors.Is(err, network.ErrReset) {
			t.Errorf("a queued stream when the registry closed: got %v, want a reset", err)
		}
		if _, err := r.Listen("late"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("listen after the registry closed: got %v, want net.ErrClosed", err)
		}
		if _, err := Open(timeout(t, patience), from, to.ID(), "s"); refusedWith(err) != NotSpoken {
			t.Errorf("open after the registry closed: got %q, want not spoken", refusedWith(err))
		}
	})
}

// stall makes to accept the stream and say nothing, or send something first.
func stall(to host.Host, first string) {
	to.SetStreamHandler(Protocol, func(s network.Stream) {
		io.WriteString(s, first)
		io.Copy(io.Discard, s)
		s.Reset()
	})
}

func TestPeerThatNeverAnswers(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		from, to := start(t, n.Host("from")), start(t, n.Host("to"))
		for _, first := range []string{"", "\x02", "\x80"} {
			stall(to, first)
			connect(t, from, to)
			begun := time.Now()
			_, err := Open(t.Context(), from, to.ID(), "s")
			if took := time.Since(begun); err == nil || took < handshakeTimeout || took > handshakeTimeout+time.Second {
				t.Errorf("a peer that says %q and no more: got %v after %v, want an error after %v", first, err, took, handshakeTimeout)
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got %v, want a time-out", err)
			}

			// The context ends it at once, and says so.
			ctx, cancel := context.WithCancel(t.Context())
			begun = time.Now()
			time.AfterFunc(time.Second, cancel)
			if _, err := Open(ctx, from, to.ID(), "s"); !errors.Is(err, context.Canceled) || time.Since(begun) != time.Second {
				t.Errorf("cancelled after 1 s: got %v after %v", err, time.Since(begun))
			}
			begun = time.Now()
			if _, err := Open(timeout(t, 2*time.Second), from, to.ID(), "s"); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != 2*time.Second {
				t.Errorf("a context of 2 s: got %v after %v", err, time.Since(begun))
			}
			cancel()
			if _, err := Open(ctx, from, to.ID(), "s"); !errors.Is(err, context.Canceled) {
				t.Errorf("a context that ended before: got %v", err)
			}
		}
	})
}

func TestPeerThatAnswersNonsense(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		from, to := start(t, n.Host("from")), start(t, n.Host("to"))
		connect(t, from, to)
		for first, want := range map[string]Reason{
			"\x00":                      BadRequest, // UNKNOWN is not a yes
			"\x02\x08\x63":              BadRequest, // 99 is none of ours
			"\x02\x08\x02":              NoSuchService,
			"\x02\x08\x03":              Busy,
			"\x02\x08\x04":              BadRequest,
			"\x02\x08\x80":              "", // not protobuf
			"\xff\xff\xff\xff\x0f":      "", // 4 GB
			"\x81\x02" + "\x08\x01":     "", // 257 bytes
			"\x0bHTTP/1.1 200 OK\r\n\r": "",
		} {
			stall(to, first)
			begun := time.Now()
			_, err := Open(t.Context(), from, to.ID(), "s")
			if want == "" {
				if err == nil || errors.As(err, new(*RefusedError)) {
					t.Errorf("%q: got %v, want an error that is no refusal", first, err)
				}
			} else if refusedWith(err) != want {
				t.Errorf("%q: got %q, want %q", first, refusedWith(err), want)
			}
			if took := time.Since(begun); took > time.Second {
				t.Errorf("%q: took %v", first, took)
			}
		}
		to.SetStreamHandler(Protocol, func(s network.Stream) { s.Reset() })
		if _, err := Open(t.Context(), from, to.ID(), "s"); err == nil || errors.As(err, new(*RefusedError)) {
			t.Errorf("a reset: got %v, want an error that is no refusal", err)
		}
	})
}

// TestClientThatSaysNothing: a stream without a request is let go in time, and
// holds up nobody.
func TestClientThatSaysNothing(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		from, to, r := pair(t, n)
		l := listen(t, r, "s")
		for _, first := range []string{"", "\x03", "\x03\x0a\x01"} {
			s, err := from.NewStream(t.Context(), to.ID(), Protocol)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Write([]byte(first)); err != nil {
				t.Fatal(err)
			}
			open(t, from, to, "s")
			accept(t, l)
			begun := time.Now()
			_, err = s.Read(make([]byte, 1))
			if took := time.Since(begun); err == nil || took > handshakeTimeout+time.Second {
				t.Errorf("after %q: got %v after %v, want the stream gone after %v", first, err, took, handshakeTimeout)
			}
			s.Reset()
		}
		// A client that is gone before it has its answer takes no place.
		for range 2 * backlog {
			s, err := from.NewStream(t.Context(), to.ID(), Protocol)
			if err != nil {
				t.Fatal(err)
			}
			s.Write(encoded("missing"))
			s.Reset()
		}
		synctest.Wait()
		open(t, from, to, "s")
		accept(t, l)
	})
}

// TestOverRelay holds that a limited connection will do.
func TestOverRelay(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		hop := start(t, n.Host("relay"))
		rl, err := relay.New(hop)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { rl.Close() })
		to := start(t, n.NAT("box a", testnet.Symmetric()).Host("to"))
		from := start(t, n.NAT("box b", testnet.Symmetric()).Host("from"))
		l := listen(t, New(to), "echo")
		connect(t, to, hop)
		connect(t, from, hop)
		if _, err := client.Reserve(timeout(t, patience), to, peer.AddrInfo{ID: hop.ID()}); err != nil {
			t.Fatal(err)
		}
		circuit := ma.StringCast(fmt.Sprintf("%s/p2p/%s/p2p-circuit", hop.Addrs()[0], hop.ID()))
		if err := from.Connect(timeout(t, patience), peer.AddrInfo{ID: to.ID(), Addrs: []ma.Multiaddr{circuit}}); err != nil {
			t.Fatal(err)
		}
		if got := from.Network().Connectedness(to.ID()); got != network.Limited {
			t.Fatalf("connectedness %v, want limited", got)
		}
		c := open(t, from, to, "echo")
		far := accept(t, l)
		go io.Copy(far, far)
		c.Write([]byte("over the relay"))
		got := make([]byte, 14)
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "over the relay" {
			t.Errorf("got %q, %v", got, err)
		}
		if _, err := Open(timeout(t, patience), from, to.ID(), "missing"); refusedWith(err) != NoSuchService {
			t.Errorf("got %q, want no such service", refusedWith(err))
		}
	})
}
