package admin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"

	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/reachability"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startNode starts a node on loopback and its control socket.
func startNode(t *testing.T, bootstrap ...peer.AddrInfo) (*node.Node, *Client, string) {
	t.Helper()
	n, err := node.New(node.Config{
		Network: "admin-test", Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1")},
		AllowPrivate: true, Bootstrap: bootstrap, Server: true, Relays: -1, PortalURL: node.NoPortalURL,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	path := filepath.Join(t.TempDir(), "sock")
	s, err := Serve(n, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	c, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return n, c, path
}

// pair starts two nodes that know each other.
func pair(t *testing.T) (a, b *node.Node, ca, cb *Client) {
	t.Helper()
	a, ca, _ = startNode(t)
	b, cb, _ = startNode(t, peer.AddrInfo{ID: a.ID(), Addrs: a.Host().Addrs()})
	if err := b.Connect(t.Context(), a.ID()); err != nil {
		t.Fatal(err)
	}
	return a, b, ca, cb
}

func TestSocketIsForItsOwnerOnly(t *testing.T) {
	_, _, path := startNode(t)
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := st.Mode().Perm(); got != 0o600 {
		t.Errorf("socket mode: got %o, want 600", got)
	}
}

func TestSocketInUse(t *testing.T) {
	n, _, path := startNode(t)
	if _, err := Serve(n, path); !errors.Is(err, ErrInUse) {
		t.Errorf("second server on one socket: got %v, want ErrInUse", err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	n, err := node.New(node.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Serve(n, path)
	if err != nil {
		t.Fatalf("stale socket: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there after Close: %v", err)
	}
}

// TestAnswersOnceStarted: nobody is told of a node that is yet to come up.
func TestAnswersOnceStarted(t *testing.T) {
	n, err := node.New(node.Config{
		Network: "admin-test", Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1")}, Relays: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "sock")
	s, err := Serve(n, path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if got, err := c.Status(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("before Start: got %+v, %v, want no answer", got, err)
	}
	type answer struct {
		node.Status
		error
	}
	early := make(chan answer)
	go func() {
		got, err := c.Status(t.Context())
		early <- answer{got, err}
	}()
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if got := <-early; got.error != nil || len(got.Listen) != 1 {
		t.Errorf("asked before Start: got %+v, %v, want where it listens", got.Status, got.error)
	}
}

func TestOpenWithoutNode(t *testing.T) {
	if _, err := Open(t.Context(), filepath.Join(t.TempDir(), "sock")); !errors.Is(err, ErrNotRunning) {
		t.Errorf("got %v, want ErrNotRunning", err)
	}
}

func TestStatusAndEvents(t *testing.T) {
	a, b, _, cb := pair(t)
	s, err := cb.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.ID != b.ID().String() || s.Connections != 1 || len(s.Addrs) != 1 {
		t.Errorf("status: got %+v", s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	joined := false
	err = cb.Events(ctx, func(e node.EventRecord) bool {
		joined = e.Event == "joined" && bytes.Contains(e.Data, []byte(a.ID().String()))
		return !joined
	})
	if err != nil || !joined {
		t.Errorf("events: joined %v, error %v", joined, err)
	}
	joined = false
	err = cb.History(ctx, func(e node.EventRecord) bool {
		joined = joined || e.Event == "joined"
		return true
	})
	if err != nil || !joined {
		t.Errorf("history: joined %v, error %v", joined, err)
	}
}

func TestPing(t *testing.T) {
	a, b, _, cb := pair(t)
	var got []PingLine
	err := cb.Ping(t.Context(), a.ID(), 3, time.Millisecond, 5*time.Second, func(l PingLine) bool {
		got = append(got, l)
		return true
	})
	if err != nil || len(got) != 3 {
		t.Fatalf("got %d lines and %v, want 3 and no error", len(got), err)
	}
	for i, l := range got {
		if l.Seq != i+1 || l.Error != nil || !l.Path.Direct() || l.RTT <= 0 {
			t.Errorf("line %d: got %+v", i, l)
		}
	}
	got = nil
	if err := cb.Ping(t.Context(), b.ID(), 3, time.Millisecond, time.Second, func(l PingLine) bool {
		got = append(got, l)
		return true
	}); err != nil || len(got) != 1 || got[0].Error == nil || got[0].Error.Kind != Self {
		t.Errorf("ping to itself: got %+v, %v, want one line with a bad request", got, err)
	}
}

// TestStream carries a file there and an answer back.
func TestStream(t *testing.T) {
	a, b, ca, cb := pair(t)
	in := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // 1 MiB, many frames
	l, err := ca.Listen(t.Context(), "echo")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := cb.Connect(t.Context(), a.ID(), "echo", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	who, err := l.Peer(t.Context())
	if err != nil || who.Peer != b.ID() || !who.Path.Direct() {
		t.Fatalf("caller: got %+v, %v", who, err)
	}
	go func() {
		c.Write(in)
		c.CloseWrite()
	}()
	got, err := io.ReadAll(l)
	if err != nil || !bytes.Equal(got, in) {
		t.Fatalf("listening side: got %d bytes and %v, want %d", len(got), err, len(in))
	}
	if _, err := l.Write([]byte("thanks")); err != nil {
		t.Fatal(err)
	}
	if err := l.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	l.Close()
	back, err := io.ReadAll(c)
	if err != nil || string(back) != "thanks" {
		t.Errorf("answer: got %q and %v", back, err)
	}
}

// TestStreamBreaks lets one command go away in the middle: the other must not
// take that for the end.
func TestStreamBreaks(t *testing.T) {
	a, _, ca, cb := pair(t)
	l, err := ca.Listen(t.Context(), "cut")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := cb.Connect(t.Context(), a.ID(), "cut", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("half of it")); err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 4)
	if _, err := io.ReadFull(l, first); err != nil {
		t.Fatal(err)
	}
	c.Close()
	var re *resetError
	if _, err := io.ReadAll(l); !errors.As(err, &re) {
		t.Errorf("after the caller went away: got %v, want a reset", err)
	}
}

// TestCloseWriteTwice: the second call is no fault, although the node has closed
// the socket since the first.
func TestCloseWriteTwice(t *testing.T) {
	ours, theirs := net.Pipe()
	s := newStream(ours)
	defer s.Close()
	said := make(chan frame)
	go func() {
		kind, _, _ := readFrame(theirs, make([]byte, maxFrame))
		theirs.Close()
		said <- kind
	}()
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if kind := <-said; kind != frameEOF {
		t.Errorf("got frame %d, want %d", kind, frameEOF)
	}
	if err := s.CloseWrite(); err != nil {
		t.Errorf("once more: got %v", err)
	}
}

func TestListenGivesUp(t *testing.T) {
	a, _, ca, cb := pair(t)
	l, err := ca.Listen(t.Context(), "short")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	// The name becomes free, and nobody answers on it.
	for t.Context().Err() == nil {
		l, err = ca.Listen(t.Context(), "short")
		if err == nil {
			break
		}
	}
	l.Close()
	var e *Error
	for t.Context().Err() == nil {
		var st *Stream
		st, err = cb.Connect(t.Context(), a.ID(), "short", 5*time.Second)
		if err != nil {
			break
		}
		st.Close() // it was accepted before the listener had gone
	}
	if !errors.As(err, &e) || e.Kind != Refused {
		t.Errorf("got %v, want a refusal", err)
	}
}

func TestErrorsHaveKinds(t *testing.T) {
	a, _, ca, cb := pair(t)
	nobody, err := peer.Decode("12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		do   func() (*Stream, error)
		want Kind
	}{
		{"nobody listens", func() (*Stream, error) { return cb.Connect(t.Context(), a.ID(), "none", 10*time.Second) }, Refused},
		{"nobody there", func() (*Stream, error) { return cb.Connect(t.Context(), nobody, "none", time.Second) }, NotFound},
		{"itself", func() (*Stream, error) { return ca.Connect(t.Context(), a.ID(), "none", time.Second) }, Self},
		{"bad name", func() (*Stream, error) { return ca.Listen(t.Context(), "Not A Name") }, BadRequest},
	} {
		_, err := tt.do()
		var e *Error
		if !errors.As(err, &e) || e.Kind != tt.want {
			t.Errorf("%s: got %v, want kind %q", tt.name, err, tt.want)
		}
	}
}

// TestCloseEndsStreams: a node that stops leaves no command hanging.
func TestCloseEndsStreams(t *testing.T) {
	n, err := node.New(node.Config{
		Network: "admin-test", Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1")}, Relays: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	path := filepath.Join(t.TempDir(), "sock")
	s, err := Serve(n, path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l, err := c.Listen(t.Context(), "wait")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Peer(t.Context()); err == nil {
		t.Error("a listener outlived the server")
	}
}

// FuzzFrames: whatever comes over the socket, reading ends.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{byte(frameData), 0, 0, 0, 1, 'x', byte(frameEOF), 0, 0, 0, 0})
	f.Add([]byte{byte(frameData), 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{byte(frameConnected), 0, 0, 0, 2, '{', '}'})
	f.Add([]byte{99, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		s := newStream(struct {
			io.Reader
			io.Writer
			io.Closer
		}{bytes.NewReader(data), io.Discard, io.NopCloser(nil)})
		got, err := io.ReadAll(s)
		if len(got) > len(data) {
			t.Errorf("read %d bytes out of %d", len(got), len(data))
		}
		if err == nil && !bytes.Contains(data, []byte{byte(frameEOF)}) {
			t.Errorf("a clean end without an end in %x", data)
		}
		s.Close()
	})
}

func TestNetcheck(t *testing.T) {
	n, c, _ := startNode(t)
	got, err := c.Netcheck(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	want := n.Netcheck(t.Context())
	if got.Headline != want.Headline || got.Kind != want.Kind || len(got.Peers) != len(want.Peers) || got.Time.IsZero() {
		t.Errorf("over the socket: got %+v, want %+v", got, want)
	}
	asked := make(chan struct{}, 1)
	portal := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer portal.Close()
	if got, err = c.Netcheck(t.Context(), portal.URL); err != nil || len(asked) != 1 || got.CaptivePortal != reachability.No {
		t.Errorf("asking another URL: got %+v, %v, and %d requests; want one", got.CaptivePortal, err, len(asked))
	}
	if _, err = c.Netcheck(t.Context(), "gopher://"); err == nil || !strings.Contains(err.Error(), "portal URL") {
		t.Errorf("asking nonsense: got %v", err)
	}
}
