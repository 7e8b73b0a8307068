//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/causeway-p2p/causeway/internal/natlab"
)

// The test binary is the router too, when it is called so.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"router": main})
}

// home is a LAN behind a router of ours, as Docker makes one: an address for the
// router that is not the gateway, which it is to take.
type home struct {
	router, host *natlab.Machine
	hostIP       netip.Addr
}

const gateway = "192.168.81.1/24"

var routing = regexp.MustCompile(`^[0-9:.]{12}  routing$`)

// newHome makes a machine of the internet into one with an interface on a LAN,
// and another one into a host there.
func newHome(t *testing.T, lab *natlab.Lab) home {
	t.Helper()
	h := home{lab.Public("router"), lab.Public("host"), netip.MustParseAddr("192.168.81.10")}
	must(t, h.router.Do(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
	}))
	ip(t, h.host,
		"link del eth0",
		"link add name eth0 type veth peer name eth1 netns "+h.router.Namespace(),
		"addr add 192.168.81.10/24 dev eth0",
		"link set eth0 up",
		"route add default via 192.168.81.1")
	ip(t, h.router,
		"addr add 192.168.81.3/24 dev eth1",
		"link set eth1 up")
	return h
}

func ip(t *testing.T, m *natlab.Machine, lines ...string) {
	t.Helper()
	cmd := exec.Command("ip", "-n", m.Namespace(), "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%q: %v: %s", lines, err, out)
	}
}

// start starts a router there, and returns when it routes.
func (h home) start(t *testing.T, args ...string) *natlab.Process {
	t.Helper()
	p := h.router.Start("router", "router", append([]string{"--lan", gateway}, args...)...)
	_, _, err := p.WaitLine(t.Context(), routing)
	must(t, err)
	return p
}

var kindTests = []struct {
	nat   kind
	model natlab.Kind
	want  behaviour
}{
	{fullCone, natlab.FullCone, behaviour{KeepsPort: true, Independent: true, SameIP: true, Stranger: true}},
	{addressRestricted, natlab.AddressRestricted, behaviour{KeepsPort: true, Independent: true, SameIP: true}},
	{portRestricted, natlab.PortRestricted, behaviour{KeepsPort: true, Independent: true}},
	{symmetric, natlab.Symmetric, behaviour{}},
}

// TestKinds: each kind of NAT is what its name says, and what natlab's is, which
// nft(8) made.
func TestKinds(t *testing.T) {
	for _, tc := range kindTests {
		t.Run(string(tc.nat), func(t *testing.T) {
			t.Parallel()
			lab := natlab.New(t)
			all := servers(t, lab.Public("server1"), lab.Public("server2"))
			h := newHome(t, lab)
			h.start(t, "--nat", string(tc.nat))
			box := lab.NAT("model", tc.model)
			peer := box.Host("peer")
			for _, side := range []struct {
				name     string
				host     *natlab.Machine
				ip       netip.Addr
				external netip.Addr
			}{{"ours", h.host, h.hostIP, h.router.IP()}, {"natlab's", peer, peer.IP(), box.IP()}} {
				want := tc.want
				want.External = side.external
				if got := overUDP(t, side.host, side.ip, all); got != want {
					t.Errorf("%s, UDP: got %+v, want %+v", side.name, got, want)
				}
				if got := overTCP(t, side.host, side.ip, all, want); got != want {
					t.Errorf("%s, TCP: got %+v, want %+v", side.name, got, want)
				}
			}
		})
	}
}

// TestUnsolicited: what nobody asked for is neither answered nor remembered: it
// must not take the tuple that a hole punch is about to use.
func TestUnsolicited(t *testing.T) {
	for _, tc := range kindTests {
		t.Run(string(tc.nat), func(t *testing.T) {
			t.Parallel()
			lab := natlab.New(t)
			s := servers(t, lab.Public("server"))[0]
			h := newHome(t, lab)
			h.start(t, "--nat", string(tc.nat))
			for _, to := range []netip.Addr{h.router.IP(), h.hostIP} {
				at := netip.AddrPortFrom(to, 40001)
				for _, network := range []string{"tcp4", "udp4"} {
					if to == h.hostIP {
						// As a neighbour on the same network as the router could.
						ip(t, s.machine, fmt.Sprintf("route replace %s/32 via %s onlink dev eth0", h.hostIP, h.router.IP()))
					}
					if err := dial(s.machine, network, at, silence); !timedOut(err) {
						t.Errorf("%s to %s: got %v, want silence", network, at, err)
					}
				}
			}
			external := netip.AddrPortFrom(h.router.IP(), 40001)
			_, err := s.udp.WriteToUDPAddrPort([]byte("in"), external)
			must(t, err)
			if n := tracked(t, h.router); n != 0 {
				t.Errorf("flows in the kernel after that: got %d, want 0", n)
			}
			c := listenUDP(t, h.host, netip.AddrPortFrom(h.hostIP, 40001))
			_, err = c.WriteToUDPAddrPort([]byte("out"), s.at)
			must(t, err)
			seen, err := hear(s.udp, passes)
			must(t, err)
			if kept := seen == external; kept != tc.want.KeepsPort {
				t.Errorf("the punch came from %s: keeps its port: got %t, want %t", seen, kept, tc.want.KeepsPort)
			}
		})
	}
}

// TestBlockUDP: UDP does not get out, TCP does.
func TestBlockUDP(t *testing.T) {
	t.Parallel()
	lab := natlab.New(t)
	all := servers(t, lab.Public("server1"), lab.Public("server2"))
	h := newHome(t, lab)
	h.start(t, "--block-udp", "--nat", "full-cone")
	want := behaviour{External: h.router.IP(), KeepsPort: true, Independent: true, SameIP: true, Stranger: true}
	if got := overTCP(t, h.host, h.hostIP, all, want); got != want {
		t.Errorf("TCP: got %+v, want %+v", got, want)
	}
	c := listenUDP(t, h.host, netip.AddrPortFrom(h.hostIP, 40002))
	_, err := c.WriteToUDPAddrPort([]byte("out"), all[0].at)
	must(t, err)
	if from, err := hear(all[0].udp, silence); !timedOut(err) {
		t.Errorf("UDP out: got a packet from %s, %v; want silence", from, err)
	}
	// The cone has a note for that port, made by TCP.
	_, err = all[0].udp.WriteToUDPAddrPort([]byte("in"), netip.AddrPortFrom(h.router.IP(), 40002))
	must(t, err)
	if from, err := hear(c, silence); !timedOut(err) {
		t.Errorf("UDP in: got a packet from %s, %v; want silence", from, err)
	}
}

// TestLife: the one that runs says so, a second one changes nothing, rules that
// go are noticed, and one that starts where another was killed replaces its
// rules.
func TestLife(t *testing.T) {
	t.Parallel()
	lab := natlab.New(t)
	all := servers(t, lab.Public("server1"), lab.Public("server2"))
	h := newHome(t, lab)
	health := func(what, want string, args ...string) {
		t.Helper()
		h.fails(t, what, want, append(args, "router", "healthcheck")...)
	}
	health("none was started", "no router runs here")
	p := h.start(t)
	health("a router runs", "")
	h.fails(t, "a second one", "another router runs here", "router", "--lan", gateway, "--nat", "symmetric")
	h.router.NFT("delete table ip router")
	health("the rules are gone", "the rules are not in the kernel")
	p.Kill()
	health("it was killed", "no router runs here")

	p = h.start(t, "--nat", "full-cone")
	p.Kill()
	p = h.start(t, "--nat", "symmetric")
	want := behaviour{External: h.router.IP()}
	if got := overUDP(t, h.host, h.hostIP, all); got != want {
		t.Errorf("symmetric, after a full cone was killed: got %+v, want %+v", got, want)
	}
	must(t, p.Stop())
	if out := p.Output(); !strings.Contains(out, "  stopped;") {
		t.Errorf("after SIGTERM it said %q", out)
	}
}

// TestFaults: each is one sentence, and what to try.
func TestFaults(t *testing.T) {
	t.Parallel()
	lab := natlab.New(t)
	h := newHome(t, lab)
	without := []string{"setpriv", "--bounding-set=-all", "router"}
	h.fails(t, "without NET_ADMIN", "no permission to change this network", append(without, "--lan", gateway)...)
	h.fails(t, "no such LAN", "no interface is in a network with 10.9.9.1", "router", "--lan", "10.9.9.1/24")
	must(t, h.router.Do(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0"), 0)
	}))
	h.fails(t, "no forwarding", "the kernel does not forward packets", "router", "--lan", gateway)
}

// fails runs a command on the router and wants it to fail with a sentence and
// what to try, or not to fail if there is none.
func (h home) fails(t *testing.T, what, sentence string, command ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience+time.Minute)
	defer cancel()
	r, err := h.router.Run(ctx, nil, command[0], command[1:]...)
	must(t, err)
	if sentence == "" {
		if r.Code != 0 {
			t.Errorf("%s: got exit code %d, %q, want 0", what, r.Code, r.Stderr)
		}
		return
	}
	if r.Code != 1 || !strings.HasPrefix(r.Stderr, "Error: "+sentence) || !strings.Contains(r.Stderr, "\nTry: ") || strings.Count(r.Stderr, "\n") != 2 {
		t.Errorf("%s: got exit code %d, %q, want 1, %q and what to try", what, r.Code, r.Stderr, sentence)
	}
}

// TestRedirect: a packet for nowhere, whose way leads back to the LAN because
// the router's own gateway is there, as in Docker, gets its sender no redirect:
// the kernel keeps back those about a flow whose source NAT has not seen yet, so
// that the sysctl for it, which is read-only in a container, is not needed. A
// ping gets an answer.
func TestRedirect(t *testing.T) {
	t.Parallel()
	lab := natlab.New(t)
	h := newHome(t, lab)
	ip(t, h.router, "route replace default via 192.168.81.1 dev eth1")
	h.start(t)
	const redirect, echoReply = 5, 0
	var c net.PacketConn
	must(t, h.host.Do(func() (err error) {
		c, err = net.ListenPacket("ip4:icmp", "0.0.0.0")
		return err
	}))
	t.Cleanup(func() { c.Close() })
	if err := dial(h.host, "udp4", netip.MustParseAddrPort("192.168.82.10:4001"), silence); !timedOut(err) {
		t.Errorf("UDP to nowhere: got %v, want silence", err)
	}
	// Type, code, checksum, ID and number.
	_, err := c.WriteTo([]byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}, &net.IPAddr{IP: net.IPv4(192, 168, 81, 1)})
	must(t, err)
	c.SetReadDeadline(time.Now().Add(passes))
	for buf := make([]byte, 1500); ; {
		_, from, err := c.ReadFrom(buf)
		must(t, err)
		switch buf[0] {
		case redirect:
			t.Errorf("%s sent a redirect", from)
		case echoReply:
			return
		}
	}
}

// TestIPv6: none is forwarded, even where all addresses and routes are there.
func TestIPv6(t *testing.T) {
	t.Parallel()
	lab := natlab.New(t)
	server := lab.Public("server")
	h := newHome(t, lab)
	must(t, h.router.Do(func() error {
		return os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0)
	}))
	ip(t, h.router, "addr add fd81::1/64 dev eth1 nodad")
	ip(t, h.host, "addr add fd81::a/64 dev eth0 nodad", "route add ::/0 via fd81::1")
	at := netip.AddrPortFrom(server.IP6(), 4001)
	var there *net.UDPConn
	must(t, server.Do(func() (err error) {
		there, err = net.ListenUDP("udp6", net.UDPAddrFromAddrPort(at))
		return err
	}))
	t.Cleanup(func() { there.Close() })
	arrives := func(patience time.Duration) error {
		if err := dial(h.host, "udp6", at, silence); !timedOut(err) {
			return fmt.Errorf("UDP to %s: %w, want silence", at, err)
		}
		_, err := hear(there, patience)
		return err
	}
	if err := arrives(passes); err != nil {
		t.Fatalf("before there is a router: %v", err)
	}
	h.start(t)
	if err := arrives(silence); !timedOut(err) {
		t.Errorf("through the router: got %v, want silence", err)
	}
}

// TestLate: the interfaces may come after the process.
func TestLate(t *testing.T) {
	t.Parallel()
	lab := natlab.New(t)
	h := newHome(t, lab)
	ip(t, h.router, "link set eth1 down")
	p := h.router.Start("router", "router", "--lan", gateway)
	ip(t, h.router, "link set eth1 up")
	_, _, err := p.WaitLine(t.Context(), routing)
	must(t, err)
	must(t, p.Stop())
}
