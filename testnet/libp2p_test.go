package testnet_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/causeway-p2p/causeway/testnet"
)

// patience is how long anything may take in these tests.
const patience = 30 * time.Second

// start starts a libp2p host on a machine. The two counters must be off: AutoNAT
// v2's server refuses dial-backs over QUIC while they know of no success.
func start(t *testing.T, h *testnet.Host, opts ...libp2p.Option) host.Host {
	t.Helper()
	opts = append([]libp2p.Option{
		h.Transport(),
		libp2p.ListenAddrs(h.ListenAddr(4001)),
		libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.UDPBlackHoleSuccessCounter(nil),
		libp2p.IPv6BlackHoleSuccessCounter(nil),
		libp2p.DisableMetrics(),
	}, opts...)
	node, err := libp2p.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	return node
}

func info(h host.Host) peer.AddrInfo { return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()} }

func connect(t *testing.T, from host.Host, to peer.AddrInfo) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := from.Connect(ctx, to); err != nil {
		t.Fatalf("connect to %v: %v", to.Addrs, err)
	}
}

func rtt(t *testing.T, from host.Host, to peer.ID) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, ok := <-ping.Ping(ctx, from, to)
	if !ok || r.Error != nil {
		t.Fatalf("ping: got no answer, %v", r.Error)
	}
	return r.RTT
}

// inBothTimes runs f as one test in real and one in virtual time. In real time
// the machine's other work counts too, so that there f should hold no upper
// bound that is near what it measures.
func inBothTimes(t *testing.T, f func(t *testing.T, n *testnet.Net, virtual bool)) {
	t.Parallel()
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		n := testnet.New(testnet.Config{})
		t.Cleanup(n.Close) // after the hosts
		f(t, n, false)
	})
	t.Run("virtual", func(t *testing.T) {
		simulate(t, testnet.Config{}, func(t *testing.T, n *testnet.Net) { f(t, n, true) })
	})
}

func TestPing(t *testing.T) {
	inBothTimes(t, func(t *testing.T, n *testnet.Net, virtual bool) {
		ha := n.Host("a")
		a, b := start(t, ha), start(t, n.Host("b"))
		connect(t, a, info(b))
		if got := rtt(t, a, b.ID()); got < 20*time.Millisecond || virtual && got > 21*time.Millisecond {
			t.Errorf("round trip: got %v, want twice 10 ms and a little", got)
		}
		// The dialer sent from the socket it listens on.
		got := b.Network().ConnsToPeer(a.ID())[0].RemoteMultiaddr()
		if want := ha.ListenAddr(4001); !got.Equal(want) {
			t.Errorf("dialed from %v, want the listening %v", got, want)
		}
		// Closing tells the other side at once, not after a timeout.
		gone := make(chan struct{})
		b.Network().Notify(&network.NotifyBundle{DisconnectedF: func(network.Network, network.Conn) { close(gone) }})
		a.Close()
		select {
		case <-gone:
		case <-time.After(5 * time.Second):
			t.Error("the other side did not learn in 5 s that the host closed")
		}
	})
}

func TestBehindEachKindOfBox(t *testing.T) {
	for name, cfg := range map[string]testnet.NATConfig{
		"full cone":          testnet.FullCone(),
		"address-restricted": testnet.AddressRestricted(),
		"port-restricted":    testnet.PortRestricted(),
		"symmetric":          testnet.Symmetric(),
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, testnet.Config{}, func(t *testing.T, n *testnet.Net) {
				box := n.NAT("box", cfg)
				inside := start(t, box.Host("inside"))
				public, stranger := start(t, n.Host("public")), start(t, n.Host("stranger"))
				connect(t, inside, info(public))
				seen := public.Network().ConnsToPeer(inside.ID())[0].RemoteMultiaddr()
				if ip, _ := manet.ToIP(seen); ip.String() != box.WAN().String() {
					t.Errorf("seen from %v, want the box's %v", seen, box.WAN())
				}
				rtt(t, public, inside.ID())

				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				err := stranger.Connect(ctx, peer.AddrInfo{ID: inside.ID(), Addrs: []ma.Multiaddr{seen}})
				if (err == nil) != (name == "full cone") {
					t.Errorf("a stranger's dial to %v: got %v", seen, err)
				}
				if name != "full cone" && n.Drops()[testnet.DropFiltered] == 0 {
					t.Errorf("the box filtered nothing: %v", n.Drops())
				}
				if err := stranger.Connect(ctx, info(inside)); err == nil && name != "full cone" {
					t.Errorf("a stranger reached the private %v", inside.Addrs())
				}
			})
		})
	}
}

// verdict waits until AutoNAT v2 has judged an address on ip.
func verdict(t *testing.T, sub event.Subscription, ip netip.Addr) network.Reachability {
	t.Helper()
	on := func(a ma.Multiaddr) bool { return strings.HasPrefix(a.String(), "/ip4/"+ip.String()+"/") }
	timeout := time.After(patience)
	for {
		select {
		case e := <-sub.Out():
			evt := e.(event.EvtHostReachableAddrsChanged)
			if slices.ContainsFunc(evt.Reachable, on) {
				return network.ReachabilityPublic
			}
			if slices.ContainsFunc(evt.Unreachable, on) {
				return network.ReachabilityPrivate
			}
		case <-timeout:
			return network.ReachabilityUnknown
		}
	}
}

// judge starts a host with AutoNAT v2 on each machine and six servers for them,
// and returns the verdicts. Four observers give a stock host its public address,
// and three verdicts from different servers judge it.
func judge(t *testing.T, n *testnet.Net, machines ...*testnet.Host) (verdicts []network.Reachability) {
	t.Helper()
	var hosts []host.Host
	var judged []event.Subscription
	for _, m := range machines {
		h := start(t, m, libp2p.EnableAutoNATv2())
		sub, err := h.EventBus().Subscribe(new(event.EvtHostReachableAddrsChanged))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { sub.Close() })
		hosts, judged = append(hosts, h), append(judged, sub)
	}
	for i := range 6 {
		server := start(t, n.Host(fmt.Sprint("server", i)), libp2p.EnableAutoNATv2(), libp2p.ForceReachabilityPublic())
		for _, h := range hosts {
			connect(t, h, info(server))
		}
	}
	for i, m := range machines {
		verdicts = append(verdicts, verdict(t, judged[i], m.PublicIP()))
	}
	return verdicts
}

func TestAutoNATDialsBackThroughTheNet(t *testing.T) {
	inBothTimes(t, func(t *testing.T, n *testnet.Net, _ bool) {
		got := judge(t, n, n.Host("public"), n.NAT("box", testnet.PortRestricted()).Host("private"))
		want := []network.Reachability{network.ReachabilityPublic, network.ReachabilityPrivate}
		if !slices.Equal(got, want) {
			t.Errorf("public machine and port-restricted one: got %v, want %v", got, want)
		}
		if n.Drops()[testnet.DropFiltered] == 0 {
			t.Errorf("no dial-back met the box's filter: %v", n.Drops())
		}
	})
}

// TestAutoNATVerdicts holds that stock hosts judge themselves as they do behind
// boxes that the Linux kernel plays: wrongly public behind an address-restricted
// one, since they talk to the server that dials back, and not at all behind a
// symmetric one, since no two observers agree on an address.
func TestAutoNATVerdicts(t *testing.T) {
	simulate(t, testnet.Config{}, func(t *testing.T, n *testnet.Net) {
		got := judge(t, n,
			n.NAT("full cone", testnet.FullCone()).Host("a"),
			n.NAT("address-restricted", testnet.AddressRestricted()).Host("b"),
			n.NAT("carrier", testnet.PortRestricted()).NAT("home", testnet.PortRestricted()).Host("c"),
			n.NAT("symmetric", testnet.Symmetric()).Host("d"),
		)
		want := []network.Reachability{network.ReachabilityPublic, network.ReachabilityPublic, network.ReachabilityPrivate, network.ReachabilityUnknown}
		if !slices.Equal(got, want) {
			t.Errorf("full cone, address-restricted, CGNAT, symmetric: got %v, want %v", got, want)
		}
	})
}

// TestAutoNATv1DialsBackThroughTheNet is the same for version 1, whose dialer is
// made elsewhere.
func TestAutoNATv1DialsBackThroughTheNet(t *testing.T) {
	simulate(t, testnet.Config{}, func(t *testing.T, n *testnet.Net) {
		for _, c := range []struct {
			machine *testnet.Host
			want    network.Reachability
		}{
			{n.Host("public"), network.ReachabilityPublic},
			{n.NAT("box", testnet.PortRestricted()).Host("private"), network.ReachabilityPrivate},
		} {
			h := start(t, c.machine)
			sub, err := h.EventBus().Subscribe(new(event.EvtLocalReachabilityChanged))
			if err != nil {
				t.Fatal(err)
			}
			defer sub.Close()
			for i := range 6 {
				server := start(t, n.Host(fmt.Sprint("server", i)), libp2p.EnableNATService(), libp2p.ForceReachabilityPublic())
				connect(t, h, info(server))
			}
			select {
			case e := <-sub.Out():
				if got := e.(event.EvtLocalReachabilityChanged).Reachability; got != c.want {
					t.Errorf("%s: got %v, want %v", c.machine.Name(), got, c.want)
				}
			case <-time.After(5 * time.Minute):
				t.Errorf("%s: no verdict, want %v", c.machine.Name(), c.want)
			}
		}
	})
}

// punchable waits until a host would punch. go-libp2p looks for observed
// addresses 250 ms, 750 ms, 1.75 s, … after it started, and leaves alone what
// was relayed before it found one.
func punchable(t *testing.T, h host.Host) {
	t.Helper()
	sub, err := h.EventBus().Subscribe(new(event.EvtLocalProtocolsUpdated))
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	timeout := time.After(patience)
	for !slices.Contains(h.Mux().Protocols(), holepunch.Protocol) {
		select {
		case <-sub.Out():
		case <-timeout:
			t.Fatalf("no observed address after %v", patience)
		}
	}
}

// punch relays a connection from caller to relayed and returns how long it takes
// until they have a direct one; false if they do not get it while DCUtR tries.
func punch(t *testing.T, n *testnet.Net, relayed, caller *testnet.Host) (time.Duration, bool) {
	t.Helper()
	relay := start(t, n.Host("relay"), libp2p.EnableRelayService(), libp2p.ForceReachabilityPublic())
	a := start(t, relayed, libp2p.EnableHolePunching(), libp2p.ForceReachabilityPrivate())
	b := start(t, caller, libp2p.EnableHolePunching(), libp2p.ForceReachabilityPrivate())
	connect(t, a, info(relay))
	connect(t, b, info(relay))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := client.Reserve(ctx, a, info(relay)); err != nil {
		t.Fatal(err)
	}
	punchable(t, a)
	punchable(t, b)

	direct := make(chan struct{}, 10)
	b.Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, conn network.Conn) {
		if conn.RemotePeer() == a.ID() && !conn.Stat().Limited {
			direct <- struct{}{}
		}
	}})
	circuit := ma.StringCast(fmt.Sprintf("%s/p2p/%s/p2p-circuit", relay.Addrs()[0], relay.ID()))
	begun := time.Now()
	connect(t, b, peer.AddrInfo{ID: a.ID(), Addrs: []ma.Multiaddr{circuit}})
	select {
	case <-direct:
		return time.Since(begun), true
	case <-time.After(20 * time.Second): // DCUtR tries three times, 5 s each
		return 0, false
	}
}

func TestHolePunch(t *testing.T) {
	inBothTimes(t, func(t *testing.T, n *testnet.Net, _ bool) {
		took, ok := punch(t, n,
			n.NAT("box a", testnet.PortRestricted()).Host("a"),
			n.NAT("box b", testnet.PortRestricted()).Host("b"))
		if !ok {
			t.Errorf("no direct connection; drops %v", n.Drops())
		}
		t.Logf("direct after %v", took)
	})
}

// TestHolePunchMatrix holds that stock hosts punch through the boxes of this
// package exactly where they punch through those of the Linux kernel.
func TestHolePunchMatrix(t *testing.T) {
	behind := func(cfg testnet.NATConfig) func(*testnet.Net, string) *testnet.Host {
		return func(n *testnet.Net, name string) *testnet.Host { return n.NAT("box "+name, cfg).Host(name) }
	}
	kinds := []struct {
		name string
		host func(*testnet.Net, string) *testnet.Host
	}{
		{"full cone", behind(testnet.FullCone())},
		{"address-restricted", behind(testnet.AddressRestricted())},
		{"port-restricted", behind(testnet.PortRestricted())},
		{"CGNAT", func(n *testnet.Net, name string) *testnet.Host {
			return n.NAT("carrier "+name, testnet.PortRestricted()).NAT("box "+name, testnet.PortRestricted()).Host(name)
		}},
		{"symmetric", behind(testnet.Symmetric())},
	}
	const portRestricted, symmetric = 2, 4 // where in kinds; CGNAT between them filters alike
	for i, relayed := range kinds {
		for j, caller := range kinds {
			t.Run(relayed.name+" called by "+caller.name, func(t *testing.T) {
				simulate(t, testnet.Config{Latency: 20 * time.Millisecond}, func(t *testing.T, n *testnet.Net) {
					took, got := punch(t, n, relayed.host(n, "a"), caller.host(n, "b"))
					want := !(i == symmetric && j >= portRestricted || j == symmetric && i >= portRestricted)
					if got != want {
						t.Errorf("direct connection: got %v, want %v; drops %v", got, want, n.Drops())
					}
					if !want && n.Drops()[testnet.DropFiltered] == 0 {
						t.Errorf("no punch met a filter: %v", n.Drops())
					}
					t.Logf("direct: %v after %v", got, took)
				})
			})
		}
	}
}

func TestManyHosts(t *testing.T) {
	begun := time.Now()
	simulate(t, testnet.Config{}, func(t *testing.T, n *testnet.Net) {
		const count = 200
		hosts := make([]host.Host, count)
		for i := range hosts {
			hosts[i] = start(t, n.Host(fmt.Sprint(i)))
		}
		for i, h := range hosts {
			connect(t, h, info(hosts[(i+1)%count]))
		}
		for i, h := range hosts {
			rtt(t, h, hosts[(i+1)%count].ID())
		}
	})
	t.Logf("200 hosts: %v", time.Since(begun))
}
