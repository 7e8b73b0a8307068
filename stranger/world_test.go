package stranger

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	autonatpb "github.com/libp2p/go-libp2p/p2p/protocol/autonatv2/pb"
	"github.com/libp2p/go-msgio/pbio"
	ma "github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"

	"github.com/causeway-p2p/causeway/internal/virtual"
	"github.com/causeway-p2p/causeway/testnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func simulate(t *testing.T, f func(t *testing.T, n *testnet.Net)) {
	t.Helper()
	virtual.Test(t, func(t *testing.T) {
		n := testnet.New(testnet.Config{})
		t.Cleanup(testnet.Linger)
		t.Cleanup(n.Close)
		f(t, n)
	})
}

// party is a node of the test, which may be client, server and third node.
type party struct {
	host.Host
	*Stranger
	machine *testnet.Host
	dialled atomic.Int32 // dialers made
	nonces  inbox
}

func options(m *testnet.Host) []libp2p.Option {
	return []libp2p.Option{
		m.Transport(), libp2p.DisableMetrics(), libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.UDPBlackHoleSuccessCounter(nil), libp2p.IPv6BlackHoleSuccessCounter(nil),
	}
}

// join starts a node. The public ones serve.
func join(t *testing.T, m *testnet.Host, public bool, l Limits) *party {
	t.Helper()
	h, err := libp2p.New(append(options(m), libp2p.ListenAddrs(m.ListenAddr(4001)), libp2p.ForceReachabilityPublic())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	p := &party{Host: h, machine: m, nonces: inbox{from: make(map[uint64]netip.Addr)}}
	p.Stranger, err = New(h, Config{Limits: l, NewDialer: func() (host.Host, error) {
		p.dialled.Add(1)
		return libp2p.New(append(options(m), libp2p.NoListenAddrs, libp2p.Ping(false), libp2p.SwarmOpts(swarm.WithDialRanker(swarm.NoDelayDialRanker)))...)
	}})
	if err != nil {
		t.Fatal(err)
	}
	h.SetStreamHandler(autonatv2.DialBackProtocol, p.nonces.take)
	p.SetPublic(public)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return p
}

// inbox keeps the nonces that arrive, and where from.
type inbox struct {
	mu   sync.Mutex // guards the field below
	from map[uint64]netip.Addr
}

func (in *inbox) take(s network.Stream) {
	defer s.Close()
	var m autonatpb.DialBack
	if pbio.NewDelimitedReader(s, 1024).ReadMsg(&m) != nil {
		return
	}
	ip, _ := publicIP(s.Conn().RemoteMultiaddr())
	in.mu.Lock()
	in.from[m.GetNonce()] = ip
	in.mu.Unlock()
	pbio.NewDelimitedWriter(s).WriteMsg(&autonatpb.DialBackResponse{})
}

func (in *inbox) of(nonce uint64) (netip.Addr, bool) {
	synctest.Wait()
	in.mu.Lock()
	defer in.mu.Unlock()
	ip, ok := in.from[nonce]
	return ip, ok
}

// meet connects two nodes and lets them learn what the other speaks.
func meet(t *testing.T, from, to host.Host) {
	t.Helper()
	if err := from.Connect(t.Context(), peer.AddrInfo{ID: to.ID(), Addrs: to.Addrs()}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
}

// external is where others see the client.
func external(t *testing.T, server host.Host, client peer.ID) ma.Multiaddr {
	t.Helper()
	conns := server.Network().ConnsToPeer(client)
	if len(conns) == 0 {
		t.Fatal("not connected")
	}
	return conns[0].RemoteMultiaddr()
}
