//go:build linux

package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/causeway-p2p/causeway/internal/natlab"
)

// All ends of all sockets are in this process, so that what a NAT does is seen
// without a protocol: what is sent at one end comes out at another, or not.

const (
	// passes is how long what should arrive may take on a machine that is busy.
	passes = 30 * time.Second
	// silence is how long we listen for what should not; what does arrive
	// takes less than a millisecond here.
	silence = 250 * time.Millisecond
)

// behaviour is what a NAT was seen to do.
type behaviour struct {
	External    netip.Addr
	KeepsPort   bool // the external port is the one that the machine uses
	Independent bool // it is the same for all destinations
	// Who gets in beside the one that was sent to.
	SameIP, Stranger bool
}

// server is one of four: two machines with two ports each.
type server struct {
	at      netip.AddrPort
	machine *natlab.Machine
	udp     *net.UDPConn
	tcp     *net.TCPListener
}

func servers(t *testing.T, machines ...*natlab.Machine) (all []server) {
	t.Helper()
	for _, m := range machines {
		for _, port := range []uint16{3478, 3479} {
			s := server{at: netip.AddrPortFrom(m.IP(), port), machine: m}
			s.udp, s.tcp = listenUDP(t, m, s.at), listenTCP(t, m, s.at)
			all = append(all, s)
		}
	}
	return all
}

func listenUDP(t *testing.T, m *natlab.Machine, at netip.AddrPort) (c *net.UDPConn) {
	t.Helper()
	must(t, m.Do(func() (err error) {
		c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		return err
	}))
	t.Cleanup(func() { c.Close() })
	return c
}

func listenTCP(t *testing.T, m *natlab.Machine, at netip.AddrPort) *net.TCPListener {
	t.Helper()
	var ln net.Listener
	must(t, m.Do(func() (err error) {
		ln, err = (&net.ListenConfig{Control: reuse}).Listen(context.Background(), "tcp4", at.String())
		return err
	}))
	t.Cleanup(func() { ln.Close() })
	return ln.(*net.TCPListener)
}

// reuse lets a port that listens also dial, and several times.
func reuse(_, _ string, c syscall.RawConn) (err error) {
	return errors.Join(c.Control(func(fd uintptr) {
		err = errors.Join(
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	}), err)
}

// hear waits for one packet, and says where it seems to come from.
func hear(c *net.UDPConn, patience time.Duration) (netip.AddrPort, error) {
	c.SetReadDeadline(time.Now().Add(patience))
	_, from, err := c.ReadFromUDPAddrPort(make([]byte, 100))
	return from, err
}

// overUDP shows what a NAT does with the UDP of a machine behind it.
func overUDP(t *testing.T, m *natlab.Machine, ip netip.Addr, all []server) (b behaviour) {
	t.Helper()
	leave := func(c *net.UDPConn, s server) netip.AddrPort {
		t.Helper()
		_, err := c.WriteToUDPAddrPort([]byte("out"), s.at)
		must(t, err)
		seen, err := hear(s.udp, passes)
		must(t, err)
		return seen
	}
	var seen []netip.AddrPort
	c := listenUDP(t, m, netip.AddrPortFrom(ip, 40001))
	for _, s := range all {
		seen = append(seen, leave(c, s))
	}
	b.note(seen, 40001)

	c = listenUDP(t, m, netip.AddrPortFrom(ip, 40002))
	external := leave(c, all[0])
	// The last one is let in by every NAT: when it is here, so are the others.
	for _, s := range []server{all[1], all[2], all[0]} {
		_, err := s.udp.WriteToUDPAddrPort([]byte("in"), external)
		must(t, err)
	}
	for {
		from, err := hear(c, passes)
		must(t, err)
		switch from {
		case all[0].at:
			return b
		case all[1].at:
			b.SameIP = true
		case all[2].at:
			b.Stranger = true
		default:
			t.Fatalf("a packet from %s, which is nobody", from)
		}
	}
}

// overTCP shows the same of its TCP.
func overTCP(t *testing.T, m *natlab.Machine, ip netip.Addr, all []server, want behaviour) (b behaviour) {
	t.Helper()
	leave := func(port uint16, s server) netip.AddrPort {
		t.Helper()
		must(t, m.Do(func() error {
			d := net.Dialer{Timeout: passes, Control: reuse, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, port))}
			conn, err := d.Dial("tcp4", s.at.String())
			if err == nil {
				t.Cleanup(func() { conn.Close() })
			}
			return err
		}))
		s.tcp.SetDeadline(time.Now().Add(passes))
		conn, err := s.tcp.AcceptTCP()
		must(t, err)
		t.Cleanup(func() { conn.Close() })
		return conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	}
	var seen []netip.AddrPort
	for _, s := range all {
		seen = append(seen, leave(40001, s))
	}
	b.note(seen, 40001)

	listenTCP(t, m, netip.AddrPortFrom(ip, 40002))
	external := leave(40002, all[0])
	getsIn := func(s server, should bool) bool {
		patience := silence
		if should {
			patience = passes
		}
		err := dial(s.machine, "tcp4", external, patience)
		if err != nil && !timedOut(err) {
			t.Errorf("%s dials %s: got %v, want an answer or silence", s.at, external, err)
		}
		return err == nil
	}
	b.SameIP, b.Stranger = getsIn(all[1], want.SameIP), getsIn(all[2], want.Stranger)
	return b
}

func (b *behaviour) note(seen []netip.AddrPort, port uint16) {
	b.External, b.KeepsPort, b.Independent = seen[0].Addr(), true, true
	for _, s := range seen {
		b.KeepsPort = b.KeepsPort && s.Port() == port
		b.Independent = b.Independent && s == seen[0]
	}
}

// dial connects from a machine. Over UDP it sends a packet and waits for an
// answer: an ICMP message would be an error that is no timeout.
func dial(m *natlab.Machine, network string, to netip.AddrPort, patience time.Duration) error {
	return m.Do(func() error {
		conn, err := net.DialTimeout(network, to.String(), patience)
		if err != nil || network == "tcp4" {
			if err == nil {
				conn.Close()
			}
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		if _, err := conn.Write([]byte("?")); err != nil {
			return err
		}
		_, err = conn.Read(make([]byte, 100))
		return err
	})
}

func timedOut(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// tracked is how many flows the kernel of a router knows.
func tracked(t *testing.T, m *natlab.Machine) (n int) {
	t.Helper()
	must(t, m.Do(func() error {
		b, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
		if err == nil {
			n, err = strconv.Atoi(strings.TrimSpace(string(b)))
		}
		return err
	}))
	return n
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
