package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

var (
	mdnsGroup4 = &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353} // RFC 6762, section 3
	mdnsGroup6 = &net.UDPAddr{IP: net.ParseIP("ff02::fb"), Port: 5353}
)

const (
	// maxInterfaces bounds the interfaces that are spoken on: container hosts
	// have hundreds.
	maxInterfaces = 16
	// maxMDNSRead is the longest message (RFC 6762, section 17).
	maxMDNSRead = 9000
	// mdnsQueue bounds the messages that wait; further ones are dropped, and
	// come again when somebody asks again.
	mdnsQueue = 64
	// mdnsWrite bounds one write, which only a full send buffer delays.
	mdnsWrite = time.Second
)

// link is the LAN, or what a test takes for it.
type link interface {
	// join makes sure that every interface is heard, also new ones. It is an
	// error if there are none.
	join() error
	// send says something to everybody on every interface.
	send(data []byte) error
	// heard is what anybody on the LAN said, we included. It closes with the
	// link.
	heard() <-chan []byte
	close()
}

// multicast is the link of the real LAN, over IPv4 and IPv6. Its methods are
// for one goroutine.
type multicast struct {
	v4      *ipv4.PacketConn // nil if the machine has none
	v6      *ipv6.PacketConn
	conns   []net.PacketConn
	ifaces  []net.Interface
	packets chan []byte
	readers sync.WaitGroup

	mu   sync.Mutex     // guards nets
	nets []netip.Prefix // of the interfaces
}

// openMulticast listens on port 5353, which programs share.
func openMulticast(ctx context.Context) (link, error) {
	m := &multicast{packets: make(chan []byte, mdnsQueue)}
	var lc net.ListenConfig
	// With a multicast address, the Go runtime sets what is needed to share
	// the port (net/sock_posix.go, listenDatagram).
	c4, err4 := lc.ListenPacket(ctx, "udp4", "224.0.0.0:5353")
	if err4 == nil {
		m.v4, m.conns = ipv4.NewPacketConn(c4), append(m.conns, c4)
	}
	c6, err6 := lc.ListenPacket(ctx, "udp6", "[ff02::]:5353")
	if err6 == nil {
		m.v6, m.conns = ipv6.NewPacketConn(c6), append(m.conns, c6)
	}
	if len(m.conns) == 0 {
		return nil, errors.Join(err4, err6)
	}
	if err := m.join(); err != nil {
		m.close()
		return nil, err
	}
	for _, c := range m.conns {
		m.readers.Go(func() { m.read(c) })
	}
	return m, nil
}

func (m *multicast) heard() <-chan []byte { return m.packets }

func (m *multicast) close() {
	for _, c := range m.conns {
		c.Close()
	}
	m.readers.Wait()
	close(m.packets)
}

func (m *multicast) join() error {
	all, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("interfaces: %w", err)
	}
	m.ifaces = m.ifaces[:0]
	var nets []netip.Prefix
	for _, i := range all {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagMulticast == 0 || i.Flags&(net.FlagLoopback|net.FlagPointToPoint) != 0 || len(m.ifaces) == maxInterfaces {
			continue
		}
		over4 := m.v4 != nil && joined(m.v4.JoinGroup(&i, mdnsGroup4))
		over6 := m.v6 != nil && joined(m.v6.JoinGroup(&i, mdnsGroup6))
		if over4 || over6 {
			m.ifaces = append(m.ifaces, i)
			nets = append(nets, netsOf(i)...)
		}
	}
	m.mu.Lock()
	m.nets = nets
	m.mu.Unlock()
	if len(m.ifaces) == 0 {
		return errors.New("no interface has multicast")
	}
	return nil
}

func (m *multicast) send(data []byte) error {
	deadline := time.Now().Add(mdnsWrite)
	var errs []error
	sent := false
	note := func(err error) {
		sent = sent || err == nil
		errs = append(errs, err)
	}
	for _, i := range m.ifaces {
		if m.v4 != nil {
			note(errors.Join(m.v4.SetWriteDeadline(deadline), m.v4.SetMulticastInterface(&i), ignoreN(m.v4.WriteTo(data, nil, mdnsGroup4))))
		}
		if m.v6 != nil {
			note(errors.Join(m.v6.SetWriteDeadline(deadline), m.v6.SetMulticastInterface(&i), ignoreN(m.v6.WriteTo(data, nil, mdnsGroup6))))
		}
	}
	if sent {
		return nil // one family or another is missing on most interfaces
	}
	return errors.Join(errs...)
}

// joined reports whether a group was joined now or before.
func joined(err error) bool { return err == nil || errors.Is(err, syscall.EADDRINUSE) }

func ignoreN(_ int, err error) error { return err }

// read hands on what neighbours say: answers from elsewhere must not count
// (RFC 6762, section 11).
func (m *multicast) read(c net.PacketConn) {
	buf := make([]byte, maxMDNSRead)
	for {
		n, from, err := c.ReadFrom(buf) // until close
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			log.Debug("multicast not read", "err", err)
			continue
		}
		if !m.neighbour(from) {
			continue
		}
		select {
		case m.packets <- slices.Clone(buf[:n]):
		default:
		}
	}
}

func (m *multicast) neighbour(a net.Addr) bool {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return false
	}
	ip := u.AddrPort().Addr().Unmap()
	if ip.IsLinkLocalUnicast() {
		return true
	}
	ip = ip.WithZone("")
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.nets, func(p netip.Prefix) bool { return p.Contains(ip) })
}

func netsOf(i net.Interface) (nets []netip.Prefix) {
	addrs, err := i.Addrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			nets = append(nets, p)
		}
	}
	return nets
}
