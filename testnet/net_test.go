package testnet_test

import (
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/causeway-p2p/causeway/testnet"
)

func TestAddresses(t *testing.T) {
	n := testnet.New(testnet.Config{})
	defer n.Close()
	seen := make(map[netip.Prefix]string)
	for i := range 2304 {
		var name string
		var ip netip.Addr
		if i%2 == 0 {
			h := n.Host("host")
			name, ip = h.Name(), h.PublicIP()
			if h.IP() != ip {
				t.Fatalf("public machine: address %v, public address %v", h.IP(), ip)
			}
			if !manet.IsPublicAddr(h.ListenAddr(4001)) {
				t.Fatalf("%v does not look public", h.ListenAddr(4001))
			}
		} else {
			b := n.NAT("box", testnet.FullCone())
			name, ip = b.Name(), b.WAN()
		}
		p, _ := ip.Prefix(16)
		if seen[p] != "" {
			t.Fatalf("%s %v shares a /16 with a %s", name, ip, seen[p])
		}
		seen[p] = name
	}
	h := n.NAT("box", testnet.FullCone()).Host("inside")
	if !h.IP().IsPrivate() || !strings.HasPrefix(h.IP().String(), "192.168.") {
		t.Errorf("machine behind a box: got %v, want 192.168.x.y", h.IP())
	}
}

func TestLatency(t *testing.T) {
	noLimit := testnet.Config{Latency: 30 * time.Millisecond, Bandwidth: -1}
	byPair := noLimit
	byPair.LatencyFunc = func(from, to netip.Addr) time.Duration {
		if from.IsPrivate() || to.IsPrivate() {
			return time.Millisecond
		}
		return time.Duration(from.As4()[0]) * time.Millisecond
	}
	for _, c := range []struct {
		name                   string
		cfg                    testnet.Config
		outward, inward, onLAN time.Duration
	}{
		{"zero", testnet.Config{Bandwidth: -1}, 10 * time.Millisecond, 10 * time.Millisecond, 10 * time.Millisecond},
		{"none", testnet.Config{Latency: -1, Bandwidth: -1}, 0, 0, 0},
		{"fixed", noLimit, 30 * time.Millisecond, 30 * time.Millisecond, 30 * time.Millisecond},
		// The box got the first public address, 11.x, the server the second, 21.x.
		{"by pair", byPair, 11 * time.Millisecond, 21 * time.Millisecond, time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, c.cfg, func(t *testing.T, n *testnet.Net) {
				box := n.NAT("box", testnet.PortRestricted())
				a, b := listen(t, box.Host("a"), 4001), listen(t, box.Host("b"), 4001)
				server := listen(t, n.Host("server"), 53)
				start := time.Now()
				seen := a.seenBy(server)
				outward := time.Since(start)
				server.reaches(seen, a)
				inward := time.Since(start) - outward
				a.seenBy(b)
				onLAN := time.Since(start) - outward - inward
				if outward != c.outward || inward != c.inward || onLAN != c.onLAN {
					t.Errorf("outward, inward, on the LAN: got %v, %v, %v, want %v, %v, %v", outward, inward, onLAN, c.outward, c.inward, c.onLAN)
				}
			})
		})
	}
}

// flood sends packets of 1000 bits on the line, all at once, and returns how
// many arrive and when the last one did.
func flood(from, to socket, packets int) (arrived int, took time.Duration) {
	start := time.Now()
	for range packets {
		from.WriteTo(make([]byte, 1000/8-28), to.LocalAddr())
	}
	for {
		before := time.Now()
		if _, ok := to.receive(); !ok {
			return arrived, before.Sub(start)
		}
		arrived++
	}
}

func TestLoss(t *testing.T) {
	count := func(seed uint64) (arrived int) {
		simulate(t, testnet.Config{Loss: 0.1, Seed: seed, Bandwidth: -1}, func(t *testing.T, n *testnet.Net) {
			a, b := listen(t, n.Host("a"), 1), listen(t, n.Host("b"), 1)
			for range 10 {
				got, _ := flood(a, b, 1000)
				arrived += got
			}
			wantDrops(t, n, testnet.DropLoss, uint64(10_000-arrived))
		})
		return arrived
	}
	first := count(1)
	// 10 % of 10,000 has a standard deviation of 30.
	if first < 8850 || first > 9150 {
		t.Errorf("10 %% loss: %d of 10,000 arrived", first)
	}
	if again := count(1); again != first {
		t.Errorf("same seed: %d arrived, then %d", first, again)
	}
}

func TestBandwidth(t *testing.T) {
	const megabit = 1_000_000
	for _, c := range []struct {
		name     string
		up, down int
	}{{"both", megabit, megabit}, {"uplink", megabit, -1}, {"downlink", -1, megabit}} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, testnet.Config{Latency: -1}, func(t *testing.T, n *testnet.Net) {
				ha, hb := n.Host("a"), n.Host("b")
				ha.SetBandwidth(c.up, -1)
				hb.SetBandwidth(-1, c.down)
				a, b := listen(t, ha, 1), listen(t, hb, 1)
				// 100 kbit at 1 Mbit/s; two lines in a row only add one packet.
				arrived, took := flood(a, b, 100)
				if arrived != 100 || took < 100*time.Millisecond || took > 101*time.Millisecond {
					t.Errorf("100 packets of 1 kbit over 1 Mbit/s: %d arrived in %v, want all in 100 ms", arrived, took)
				}
				// 64 KiB wait, the rest is dropped.
				arrived, _ = flood(a, b, 1000)
				if arrived < 524 || arrived > 527 {
					t.Errorf("1000 packets of 1 kbit at once: %d arrived, want about 525", arrived)
				}
				wantDrops(t, n, testnet.DropLinkFull, uint64(1000-arrived))
			})
		})
	}
}

func TestReaderThatSleeps(t *testing.T) {
	simulate(t, testnet.Config{Bandwidth: -1}, func(t *testing.T, n *testnet.Net) {
		a, b, c := listen(t, n.Host("a"), 1), listen(t, n.Host("b"), 1), listen(t, n.Host("c"), 1)
		for range 3000 {
			a.send(b.addr())
		}
		if got := a.seenBy(c); got != a.addr() {
			t.Errorf("the other reader sees %v, want %v", got, a.addr())
		}
		wantDrops(t, n, testnet.DropSocketFull, 3000-2048)
	})
}

func TestFaults(t *testing.T) {
	simulate(t, testnet.Config{}, func(t *testing.T, n *testnet.Net) {
		ha := n.NAT("box", testnet.FullCone()).Host("a")
		hb, hc := n.Host("b"), n.Host("c")
		a, b, c := listen(t, ha, 1), listen(t, hb, 1), listen(t, hc, 1)
		outside := a.seenBy(b)
		for _, f := range []struct {
			name             string
			set, undo        func()
			reason           testnet.DropReason
			aToB, bToA, aToC bool
		}{
			{name: "kill a", set: ha.Kill, undo: ha.Revive, reason: testnet.DropKilled},
			{name: "kill b", set: hb.Kill, undo: hb.Revive, reason: testnet.DropKilled, aToC: true},
			{name: "drop incoming at a", set: func() { ha.DropIncoming(true) }, undo: func() { ha.DropIncoming(false) }, reason: testnet.DropIncoming, aToB: true, aToC: true},
			{name: "drop outgoing at a", set: func() { ha.DropOutgoing(true) }, undo: func() { ha.DropOutgoing(false) }, reason: testnet.DropOutgoing, bToA: true},
			{name: "cut a from b", set: func() { n.Cut(ha, hb) }, undo: func() { n.Mend(hb, ha) }, reason: testnet.DropCut, aToC: true},
		} {
			before := n.Drops()[f.reason]
			f.set()
			var want uint64
			for _, path := range []struct {
				name     string
				from, to socket
				endpoint netip.AddrPort
				pass     bool
			}{
				{"a to b", a, b, b.addr(), f.aToB},
				{"b to a", b, a, outside, f.bToA},
				{"a to c", a, c, c.addr(), f.aToC},
			} {
				if got := path.from.reaches(path.endpoint, path.to); got != path.pass {
					t.Errorf("%s, packet from %s: arrives %v, want %v", f.name, path.name, got, path.pass)
				}
				if !path.pass {
					want++
				}
			}
			wantDrops(t, n, f.reason, before+want)
			f.undo()
			if !a.reaches(b.addr(), b) || !b.reaches(outside, a) || !a.reaches(c.addr(), c) {
				t.Errorf("after undoing %s: not all is well", f.name)
			}
		}
	})
}

// TestConcurrentUse is for the race detector: all switches are thrown while
// packets fly.
func TestConcurrentUse(t *testing.T) {
	simulate(t, testnet.Config{Loss: 0.01}, func(t *testing.T, n *testnet.Net) {
		box := n.NAT("box", testnet.Symmetric())
		ha, hb := box.Host("a"), n.Host("b")
		a, b := listen(t, ha, 1), listen(t, hb, 1)
		var workers sync.WaitGroup
		for i, step := range []func(){
			func() { a.send(b.addr()) },
			func() { b.send(netip.AddrPortFrom(box.WAN(), 2000)) },
			func() { b.SetReadDeadline(time.Now()); b.ReadFrom(make([]byte, 100)) },
			func() { ha.Kill(); ha.Revive() },
			func() { hb.DropIncoming(true); hb.DropIncoming(false) },
			func() { n.Cut(ha, hb); n.Mend(ha, hb) },
			func() { box.Rebind(); box.Renumber(); ha.PublicIP() },
			func() { hb.SetBandwidth(1e6, 1e6) },
			func() { n.Drops() },
			func() {
				if c, err := hb.ListenPacket(0); err == nil {
					c.Close()
				}
			},
			func() { n.Host("new"); n.NAT("new", testnet.FullCone()) },
		} {
			workers.Go(func() {
				for range 200 {
					step()
					time.Sleep(time.Duration(i+1) * time.Millisecond)
				}
			})
		}
		workers.Wait()
	})
}

// TestLatencyFuncMayUseTheNet holds that the function is called without a lock.
func TestLatencyFuncMayUseTheNet(t *testing.T) {
	var n *testnet.Net
	simulate(t, testnet.Config{LatencyFunc: func(from, to netip.Addr) time.Duration {
		n.Drops()
		return -time.Second // as good as none
	}}, func(t *testing.T, net *testnet.Net) {
		n = net
		a, b := listen(t, n.Host("a"), 1), listen(t, n.Host("b"), 1)
		if got := a.seenBy(b); got != a.addr() {
			t.Errorf("seen as %v, want %v", got, a.addr())
		}
	})
}

func TestInvalidConfig(t *testing.T) {
	for _, loss := range []float64{-0.1, 1, 2} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("loss %v: want a panic", loss)
				}
			}()
			testnet.New(testnet.Config{Loss: loss}).Close()
		}()
	}
}

func TestDropReasonsHaveNames(t *testing.T) {
	n := testnet.New(testnet.Config{})
	defer n.Close()
	seen := make(map[string]bool)
	for r := range n.Drops() {
		if name := r.String(); name == "" || name == "unknown" || seen[name] {
			t.Errorf("reason %d: name %q is missing or taken", int(r), name)
		} else {
			seen[name] = true
		}
	}
}
