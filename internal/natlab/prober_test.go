//go:build linux

package natlab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A prober is what STUN is for classic NAT discovery (RFC 3489 section 10.1):
// servers at two addresses with two ports each, that say where a packet seems
// to come from, and answer from another address when asked.

const (
	// passes is how long something that should arrive may take on a busy machine.
	passes = 10 * time.Second
	// silence is how long we listen for what should not arrive; what does
	// arrive here takes less than a millisecond.
	silence = 250 * time.Millisecond
)

// serverPorts are the ports of each server machine.
var serverPorts = []uint16{3478, 3479}

// request asks for an answer from the server at From to where the packet
// seems to come from.
type request struct {
	ID   int
	From netip.AddrPort
}

type answer struct {
	ID       int
	From     netip.AddrPort
	Observed netip.AddrPort
}

// servers are the UDP and TCP servers of two public machines.
type servers struct {
	t    *testing.T
	udp  map[netip.AddrPort]*net.UDPConn
	a, b *Machine
}

// at is one of the four: 0 and 1 on the first machine, 2 and 3 on the second.
func (s *servers) at(i int) netip.AddrPort {
	return netip.AddrPortFrom([]*Machine{s.a, s.b}[i/2].IP(), serverPorts[i%2])
}

func startServers(t *testing.T, a, b *Machine) *servers {
	t.Helper()
	s := &servers{t: t, udp: map[netip.AddrPort]*net.UDPConn{}, a: a, b: b}
	var running sync.WaitGroup
	var closers []func() error
	for _, m := range []*Machine{a, b} {
		for _, port := range serverPorts {
			at := netip.AddrPortFrom(m.IP(), port)
			err := m.Do(func() error {
				conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
				if err != nil {
					return err
				}
				s.udp[at] = conn
				closers = append(closers, conn.Close)
				ln, err := net.Listen("tcp4", at.String())
				if err != nil {
					return err
				}
				closers = append(closers, ln.Close)
				running.Go(func() { serveTCP(ln) })
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, conn := range s.udp {
		running.Go(func() { s.serveUDP(conn) })
	}
	t.Cleanup(func() {
		for _, c := range closers {
			c()
		}
		running.Wait()
	})
	return s
}

func (s *servers) serveUDP(conn *net.UDPConn) {
	buf := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		var req request
		if json.Unmarshal(buf[:n], &req) == nil && s.udp[req.From] != nil {
			s.send(req.From, from, req.ID)
		}
	}
}

// send sends from a server to anywhere, asked or not.
func (s *servers) send(from, to netip.AddrPort, id int) {
	b, _ := json.Marshal(answer{ID: id, From: from, Observed: to})
	s.udp[from].WriteToUDPAddrPort(b, to)
}

func serveTCP(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		fmt.Fprintln(conn, conn.RemoteAddr())
		conn.Close()
	}
}

// client is one UDP socket on a machine.
type client struct {
	*net.UDPConn
	t  *testing.T
	id int
}

func newClient(t *testing.T, m *Machine, port uint16) *client {
	t.Helper()
	c := &client{t: t}
	err := m.Do(func() (err error) {
		c.UDPConn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(m.IP(), port)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// ask sends to one server and waits for an answer from another (or the same).
func (c *client) ask(to, from netip.AddrPort, patience time.Duration) (answer, bool) {
	c.t.Helper()
	c.id++
	b, _ := json.Marshal(request{ID: c.id, From: from})
	if _, err := c.WriteToUDPAddrPort(b, to); err != nil {
		c.t.Fatal(err)
	}
	return c.hear(from, patience)
}

// hear waits for a packet of the present request from one server.
func (c *client) hear(from netip.AddrPort, patience time.Duration) (answer, bool) {
	c.t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 1500)
	for {
		n, src, err := c.ReadFromUDPAddrPort(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return answer{}, false
		}
		if err != nil {
			c.t.Fatal(err)
		}
		var a answer
		if json.Unmarshal(buf[:n], &a) == nil && a.ID == c.id && src == from {
			return a, true
		}
	}
}

// behaviour is what a NAT was seen to do, for one protocol.
type behaviour struct {
	Mapping []netip.AddrPort // external address for each of the four servers
	// who gets in
	Contacted, SameIPOtherPort, Stranger bool
}

// independent says whether the external address was the same for all.
func (b behaviour) independent() bool {
	for _, m := range b.Mapping {
		if m != b.Mapping[0] {
			return false
		}
	}
	return true
}

func (b behaviour) String() string {
	ports := make([]string, len(b.Mapping))
	for i, m := range b.Mapping {
		ports[i] = fmt.Sprint(m.Port())
	}
	return fmt.Sprintf("from %s, ports %s; lets in: contacted %t, same ip %t, stranger %t",
		b.Mapping[0].Addr(), strings.Join(ports, " "), b.Contacted, b.SameIPOtherPort, b.Stranger)
}

func probeUDP(t *testing.T, m *Machine, s *servers) behaviour {
	t.Helper()
	var b behaviour
	c := newClient(t, m, 40001)
	for i := range 4 {
		a, ok := c.ask(s.at(i), s.at(i), passes)
		if !ok {
			t.Fatalf("%s: no answer from %s", m.Name(), s.at(i))
		}
		b.Mapping = append(b.Mapping, a.Observed)
	}
	// Another socket, that has sent to one server only.
	c = newClient(t, m, 40002)
	_, b.Contacted = c.ask(s.at(0), s.at(0), passes)
	_, b.SameIPOtherPort = c.ask(s.at(0), s.at(1), silence)
	_, b.Stranger = c.ask(s.at(0), s.at(2), silence)
	return b
}

// reuse lets one local port dial several servers and listen, as libp2p does.
func reuse(_, _ string, c syscall.RawConn) (err error) {
	c.Control(func(fd uintptr) {
		err = errors.Join(
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	})
	return err
}

// dialTCP connects and returns what the server says our address is.
func dialTCP(t *testing.T, m *Machine, port uint16, to netip.AddrPort) netip.AddrPort {
	t.Helper()
	var seen netip.AddrPort
	err := m.Do(func() error {
		d := net.Dialer{
			Timeout:   passes,
			Control:   reuse,
			LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(m.IP(), port)),
		}
		conn, err := d.Dial("tcp4", to.String())
		if err != nil {
			return err
		}
		t.Cleanup(func() { conn.Close() }) // held open: the mapping stays
		var s string
		conn.SetDeadline(time.Now().Add(passes))
		if _, err := fmt.Fscan(conn, &s); err != nil {
			return err
		}
		seen, err = netip.ParseAddrPort(s)
		return err
	})
	if err != nil {
		t.Fatalf("%s to %s over TCP: %v", m.Name(), to, err)
	}
	return seen
}

// probeTCP: there is no "contacted" to test, since that connection exists; it
// is reported as whether an answer came on it.
func probeTCP(t *testing.T, m *Machine, s *servers) behaviour {
	t.Helper()
	var b behaviour
	for i := range 4 {
		b.Mapping = append(b.Mapping, dialTCP(t, m, 40001, s.at(i)))
	}
	const port = 40002
	var ln net.Listener
	if err := m.Do(func() (err error) {
		lc := net.ListenConfig{Control: reuse}
		ln, err = lc.Listen(context.Background(), "tcp4", netip.AddrPortFrom(m.IP(), port).String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { serveTCP(ln) })
	t.Cleanup(func() { ln.Close(); serving.Wait() })

	external := dialTCP(t, m, port, s.at(0))
	b.Contacted = true
	getsIn := func(from *Machine) bool {
		return from.Do(func() error {
			conn, err := net.DialTimeout("tcp4", external.String(), silence)
			if err == nil {
				conn.Close()
			}
			return err
		}) == nil
	}
	b.SameIPOtherPort = getsIn(s.a)
	b.Stranger = getsIn(s.b)
	return b
}
