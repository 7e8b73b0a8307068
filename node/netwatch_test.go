package node

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/causeway-p2p/causeway/internal/maddr"
	"github.com/causeway-p2p/causeway/netwatch"
	"github.com/causeway-p2p/causeway/testnet"
)

func TestMoves(t *testing.T) {
	now := time.Now()
	listen := multiaddrs("/ip4/0.0.0.0/udp/4001/quic-v1", "/ip6/::/tcp/4001", "/ip4/127.0.0.1/tcp/4002", "/p2p-circuit")
	old := multiaddrs("/ip4/127.0.0.1/udp/4001/quic-v1", "/ip4/192.168.1.10/udp/4001/quic-v1", "/ip6/2001:db8::1/tcp/4001", "/ip4/8.1.1.1/udp/4001/quic-v1")
	var m moves
	if got := m.apply(old, listen, now); !slices.Equal(texts(got), texts(old)) {
		t.Errorf("nothing moved: got %v", got)
	}
	roamed := netwatch.Change{
		Removed: []netip.Addr{netip.MustParseAddr("192.168.1.10"), netip.MustParseAddr("2001:db8::1")},
		Added:   []netip.Addr{netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("2001:db8::2")},
	}
	m.note(roamed, now)
	for _, c := range []struct {
		after time.Duration
		want  []string
	}{
		{0, []string{
			"/ip4/10.0.0.7/udp/4001/quic-v1", "/ip4/127.0.0.1/udp/4001/quic-v1", "/ip4/8.1.1.1/udp/4001/quic-v1", "/ip6/2001:db8::2/tcp/4001",
		}},
		{2 * staleAddrs, texts(old)}, // by then the manager knows better
	} {
		got := texts(m.apply(old, listen, now.Add(c.after)))
		if c.after == 0 {
			slices.Sort(got)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("after %v: got %q, want %q", c.after, got, c.want)
		}
	}
	// There and back.
	m.note(roamed, now)
	m.note(netwatch.Change{Added: roamed.Removed, Removed: roamed.Added}, now)
	got := texts(m.apply(old, listen, now))
	want := texts(old)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("there and back: got %q, want %q", got, want)
	}
}

// TestDeadConnections are closed at once, and no others.
func TestDeadConnections(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		boot := w.bootstrap()
		a := w.behind("A", testnet.PortRestricted(), Config{})
		await(t, a, "to join", func(Joined) bool { return true })
		conns := a.Host().Network().ConnsToPeer(boot.ID())
		if len(conns) == 0 {
			t.Fatal("not connected")
		}
		a.networkChanged(netwatch.Change{Route: true, Removed: []netip.Addr{netip.MustParseAddr("10.99.99.99")}})
		time.Sleep(time.Second)
		if conns[0].IsClosed() {
			t.Error("a connection from another address was closed")
		}
		gone := maddr.IP(conns[0].LocalMultiaddr())
		if gone.IsUnspecified() {
			t.Fatalf("local address %s", conns[0].LocalMultiaddr())
		}
		a.networkChanged(netwatch.Change{Removed: []netip.Addr{gone}})
		time.Sleep(50 * time.Millisecond)
		if !conns[0].IsClosed() {
			t.Error("a connection from an address that is gone was left open")
		}
		e := await(t, a, "the event", func(e NetworkChanged) bool { return len(e.Change.Removed) == 1 && e.Change.Removed[0] == gone })
		if e.Closed == 0 {
			t.Error("nothing was closed")
		}
	})
}
