//go:build linux

package interop_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/internal/interop/report"
	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/relay"
)

// peerPatience bounds what our peers do: to find out that they need a relay,
// reserve, dial.
const peerPatience = 60 * time.Second

// TestPeers: our peers and stock ones meet, over our relay and over stock ones.
func TestPeers(t *testing.T) {
	needPrograms(t)
	ours := startHost(t, relay.Limits{}, relay.Access{})
	t.Run("relay ours", func(t *testing.T) { t.Parallel(); meet(t, ours) })
	for _, p := range stock {
		t.Run("relay "+p.name, func(t *testing.T) {
			t.Parallel()
			meet(t, startStockRelay(t, p, "--circuit-bytes", "8388608"))
		})
	}
}

// meet has a peer of ours reserve on a relay and be dialled by one of ours and
// by stock ones, and dial those.
func meet(t *testing.T, s server) {
	ctx, cancel := context.WithTimeout(t.Context(), peerPatience)
	t.Cleanup(cancel)
	info, err := peer.AddrInfoFromString(s.over(t, "tcp"))
	if err != nil {
		t.Fatal(err)
	}
	listen := []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")}
	host := startNode(t, node.Config{Listen: listen, Bootstrap: []peer.AddrInfo{*info}, StaticRelays: []peer.AddrInfo{*info}})
	host.Host().SetStreamHandler(report.Echo, func(s network.Stream) {
		defer s.Close()
		io.Copy(s, s)
	})
	reserved(ctx, t, host)

	caller := startNode(t, node.Config{Listen: listen, Relays: -1})
	circuit := info.Addrs[0].Encapsulate(ma.StringCast("/p2p/" + info.ID.String() + "/p2p-circuit"))
	call := func(t *testing.T, id peer.ID) {
		t.Helper()
		caller.Host().Peerstore().AddAddr(id, circuit, peerstore.TempAddrTTL)
		if p, err := caller.Ping(ctx, id); err != nil || p.Path.Direct() {
			t.Errorf("ping: got path %v, error %v; want one over the relay", p.Path, err)
		}
		echoes(ctx, t, caller, id)
	}
	t.Run("ours to ours", func(t *testing.T) { call(t, host.ID()) })
	each(t, func(t *testing.T, p program) {
		const size = 1 << 20
		wantEcho(t, p.run(t, "dial", s.over(t, "tcp"), host.ID().String(), "1048576"), size)
		id, err := peer.Decode(reserve(t, p, s.over(t, "tcp")).first.ID)
		if err != nil {
			t.Fatal(err)
		}
		call(t, id)
	})
}

// reserved waits until the node has an address over the relay.
func reserved(ctx context.Context, t *testing.T, n *node.Node) {
	t.Helper()
	var seen []string
	for e := range n.History(ctx) {
		if a, ok := e.(node.AddrsChanged); ok && a.Circuits > 0 {
			return
		}
		seen = append(seen, e.String())
	}
	t.Fatalf("our peer has not reserved; events:\n  %s", strings.Join(seen, "\n  "))
}

// echoes sends a megabyte and wants it back.
func echoes(ctx context.Context, t *testing.T, n *node.Node, id peer.ID) {
	t.Helper()
	st, err := n.Host().NewStream(network.WithAllowLimitedConn(ctx, "interop"), id, report.Echo)
	if err != nil {
		t.Errorf("open: %v", err)
		return
	}
	defer st.Reset()
	if !st.Conn().Stat().Limited {
		t.Error("circuit counts as unlimited")
	}
	deadline, _ := ctx.Deadline()
	st.SetDeadline(deadline)
	sent := make([]byte, 1<<20)
	rand.Read(sent)
	wrote := make(chan error, 1)
	go func() {
		_, err := st.Write(sent)
		st.CloseWrite()
		wrote <- err
	}()
	got, err := io.ReadAll(st)
	if err != nil {
		st.Reset()
	}
	if werr := <-wrote; err != nil || werr != nil || !bytes.Equal(got, sent) {
		t.Errorf("echo: got %d bytes of %d back; errors: write %v, read %v", len(got), len(sent), werr, err)
	}
}
