package admin

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/relay"
	"github.com/causeway-p2p/causeway/relay/usage"
)

// startRelay starts a relay host on loopback and its control socket.
func startRelay(t *testing.T, opts ...Option) (*node.Node, *Server, *Client) {
	t.Helper()
	n, err := node.New(node.Config{
		Network: "admin-test", Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1")},
		AllowPrivate: true, Server: true, Relays: -1, Relay: relay.On,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	path := filepath.Join(t.TempDir(), "sock")
	s, err := Serve(n, path, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	c, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return n, s, c
}

// kindIs fails unless err is one of the socket, of a kind, that says something.
func kindIs(t *testing.T, err error, kind Kind, says string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Kind != kind || !strings.Contains(e.Message, says) {
		t.Errorf("got %v, want %s: %s", err, kind, says)
	}
}

func TestRelayHostIsListed(t *testing.T) {
	r, _, c := startRelay(t)
	_, cp, _ := startNode(t, peer.AddrInfo{ID: r.ID(), Addrs: r.Host().Addrs()})

	reservations, err1 := c.Reservations(t.Context())
	circuits, err2 := c.Circuits(t.Context())
	top, err3 := c.Top(t.Context(), 20, usage.ByRefusals)
	dump, err4 := c.Dump(t.Context())
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	if reservations == nil || circuits == nil || top == nil || len(reservations)+len(circuits)+len(top) > 0 {
		t.Errorf("got %v, %v, %v, want empty lists and not null", reservations, circuits, top)
	}
	if dump.Inconsistent != "" || !dump.Status.Serving {
		t.Errorf("dump: got %+v", dump)
	}
	_, err := c.Top(t.Context(), 20, "beauty")
	kindIs(t, err, BadRequest, `"beauty" is nothing to rank peers by`)
	_, err = cp.Reservations(t.Context())
	kindIs(t, err, BadRequest, "this node is no relay")
	kindIs(t, cp.Drain(t.Context(), 0, func() {}), BadRequest, "this node is no relay")
}

func TestLimitsAreChanged(t *testing.T) {
	_, _, c := startRelay(t)
	l, err := c.Limits(t.Context())
	if err != nil || l.Reservations != 1024 {
		t.Fatalf("got %+v, %v, want the defaults", l, err)
	}
	l.Rate, l.Burst, l.CircuitTime = 1<<20, 4<<20, relay.Unlimited
	l.Classes = []relay.Class{{Name: "member", CircuitTime: time.Hour}}
	got, err := c.SetLimits(t.Context(), l)
	if err != nil || got.Rate != 1<<20 || got.CircuitTime != relay.Unlimited || len(got.Classes) != 1 || got.Classes[0] != l.Classes[0] {
		t.Errorf("got %+v, %v, want %+v", got, err, l)
	}
	l.Rate = 5
	_, err = c.SetLimits(t.Context(), l)
	kindIs(t, err, BadRequest, "limit rate is 5, want at least 1024")
	if got, err = c.Limits(t.Context()); err != nil || got.Rate != 1<<20 {
		t.Errorf("after a wrong change: got rate %d, %v, want %d", got.Rate, err, 1<<20)
	}
}

func TestPeersByTheEndOfTheirID(t *testing.T) {
	r, _, c := startRelay(t)
	p, _, _ := startNode(t, peer.AddrInfo{ID: r.ID(), Addrs: r.Host().Addrs()})
	// Whoever dials is connected a little before the other side; who is
	// answered is known there.
	if _, err := p.Ping(t.Context(), r.ID()); err != nil {
		t.Fatal(err)
	}
	id := p.ID().String()
	for _, name := range []string{id, id[len(id)-6:], id[len(id)-20:], node.ShortID(p.ID())} {
		if k, err := c.Kick(t.Context(), name); err != nil || k.Peer != p.ID() {
			t.Errorf("kick %s: got %+v, %v", name, k, err)
		}
	}
	const stranger = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"
	if k, err := c.Kick(t.Context(), stranger); err != nil || k.Circuits+k.Reservations != 0 {
		t.Errorf("kick a stranger: got %+v, %v", k, err)
	}
	_, err := c.Kick(t.Context(), "9HyQ6X")
	kindIs(t, err, NotFound, `no peer here has an ID that ends with "9HyQ6X"`)
	for _, name := range []string{"", "HyQ6X", "12D3…", "…", strings.Repeat("x", 100)} {
		_, err := c.Kick(t.Context(), name)
		kindIs(t, err, BadRequest, "is not a peer ID")
	}
}

func TestBan(t *testing.T) {
	_, _, c := startRelay(t)
	const id = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"
	b, err := c.Ban(t.Context(), id, time.Hour)
	if left := time.Until(b.Until); err != nil || left <= 0 || left > time.Hour {
		t.Errorf("got %+v, %v, want one for an hour", b, err)
	}
	if b, err := c.Ban(t.Context(), "9HyQ6X", 0); err != nil || !b.Until.IsZero() || b.Peer.String() != id {
		t.Errorf("got %+v, %v, want one for good, of who is banned already", b, err)
	}
	if s, err := c.Dump(t.Context()); err != nil || len(s.Bans) != 1 || s.Bans[0].Peer.String() != id {
		t.Errorf("dump: got bans %v, %v, want that of %s", s.Bans, err, id)
	}
	if b, err := c.Unban(t.Context(), id); err != nil || !b.Was {
		t.Errorf("unban: got %+v, %v", b, err)
	}
	if b, err := c.Unban(t.Context(), id); err != nil || b.Was {
		t.Errorf("unban once more: got %+v, %v", b, err)
	}
}

func TestDrain(t *testing.T) {
	asked := make(chan time.Duration, 1)
	_, s, c := startRelay(t, OnDrain(func(d time.Duration) { asked <- d }))
	begun, over := make(chan struct{}), make(chan error, 1)
	go func() { over <- c.Drain(t.Context(), 3*time.Second, func() { close(begun) }) }()
	if d := <-asked; d != 3*time.Second {
		t.Errorf("got %v, want 3s", d)
	}
	<-begun
	select {
	case err := <-over:
		t.Fatalf("returned before the node was closed: %v", err)
	default:
	}
	s.Close()
	if err := <-over; err != nil {
		t.Error(err)
	}
}
