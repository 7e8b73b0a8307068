package testnet

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	ma "github.com/multiformats/go-multiaddr"
)

// Ephemeral ports are those of Linux, /proc/sys/net/ipv4/ip_local_port_range.
const (
	firstEphemeral = 32768
	lastEphemeral  = 60999
)

// Host is a machine: an address of each family, and the sockets on it.
type Host struct {
	net     *Net
	name    string
	ip, ip6 netip.Addr
	segment *segment

	// guarded by Net.mu
	dice         *rand.Rand
	ports        *rand.Rand
	up, down     line
	sockets      map[netip.AddrPort]*socket
	firewall     *firewall // in front of IPv6; nil: none
	killed       bool
	dropIncoming bool
	dropOutgoing bool
}

func (n *Net) addHostLocked(name string, on *segment, ip netip.Addr) *Host {
	h := &Host{
		net:     n,
		name:    name,
		ip:      ip,
		ip6:     n.publicAddr6Locked(),
		segment: on,
		dice:    n.random("loss", ip),
		ports:   n.random("port", ip),
		up:      line{bitsPerSecond: n.cfg.Bandwidth},
		down:    line{bitsPerSecond: n.cfg.Bandwidth},
		sockets: make(map[netip.AddrPort]*socket),
	}
	on.nodes[ip] = h
	n.internet.nodes[h.ip6] = h
	n.hosts = append(n.hosts, h)
	return h
}

// Name returns the name the machine was added with.
func (h *Host) Name() string { return h.name }

// IP returns the machine's own address, a private one behind a NAT box.
func (h *Host) IP() netip.Addr { return h.ip }

// PublicIP returns the address the internet sees the machine's packets come
// from: that of the outermost box, or its own if there is none.
func (h *Host) PublicIP() netip.Addr {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	ip := h.ip
	for box := h.segment.gateway; box != nil; box = box.outside.gateway {
		ip = box.wan
	}
	return ip
}

// ListenAddr returns the multiaddr of a QUIC listener on the machine. A libp2p
// host must listen on this and not on 0.0.0.0, which go-libp2p would resolve to
// the interfaces of the real machine.
func (h *Host) ListenAddr(port int) ma.Multiaddr {
	return ma.StringCast(fmt.Sprintf("/ip4/%s/udp/%d/quic-v1", h.ip, port))
}

// ListenPacket opens a UDP socket; port 0 takes a free ephemeral port. The
// error wraps syscall.EADDRINUSE if the port is taken.
func (h *Host) ListenPacket(port int) (net.PacketConn, error) {
	return h.listenOn(h.ip, port)
}

func (h *Host) listenOn(ip netip.Addr, port int) (net.PacketConn, error) {
	s, err := h.listen(ip, port)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: udpOf(ip), Addr: &net.UDPAddr{IP: ip.AsSlice(), Port: port}, Err: err}
	}
	return s, nil
}

func (h *Host) listen(ip netip.Addr, port int) (*socket, error) {
	if port < 0 || port > 65535 {
		return nil, os.NewSyscallError("bind", syscall.EINVAL)
	}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.net.closed {
		return nil, net.ErrClosed
	}
	if port == 0 {
		free := func(port uint16) bool { return h.sockets[netip.AddrPortFrom(ip, port)] == nil }
		chosen, ok := pickPort(h.ports, firstEphemeral, lastEphemeral, free)
		if !ok {
			return nil, os.NewSyscallError("bind", syscall.EADDRINUSE)
		}
		port = int(chosen)
	}
	local := netip.AddrPortFrom(ip, uint16(port))
	if h.sockets[local] != nil {
		return nil, os.NewSyscallError("bind", syscall.EADDRINUSE)
	}
	s := newSocket(h, local)
	h.sockets[local] = s
	return s, nil
}

// pickPort takes a random free port. When it keeps hitting taken ones it walks
// on from there instead; drawing first keeps the free ports evenly spread, so
// that the walks stay short until the very last ports.
func pickPort(r *rand.Rand, first, last int, free func(uint16) bool) (uint16, bool) {
	count := last - first + 1
	for range 64 {
		if port := uint16(first + r.IntN(count)); free(port) {
			return port, true
		}
	}
	start := r.IntN(count)
	for i := range count {
		if port := uint16(first + (start+i)%count); free(port) {
			return port, true
		}
	}
	return 0, false
}

// SetBandwidth changes the machine's line, in bits per second; zero or less is
// no limit.
func (h *Host) SetBandwidth(up, down int) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.up, h.down = line{bitsPerSecond: up}, line{bitsPerSecond: down}
}

// Kill makes all packets from and to the machine vanish, as if it had lost
// power or its relay were blackholed. The programs on it keep running and get
// no error; packets it has sent before still arrive.
func (h *Host) Kill() { h.set(&h.killed, true) }

// Revive undoes Kill.
func (h *Host) Revive() { h.set(&h.killed, false) }

// DropIncoming makes packets to the machine vanish, or not any more.
func (h *Host) DropIncoming(drop bool) { h.set(&h.dropIncoming, drop) }

// DropOutgoing makes packets from the machine vanish, or not any more.
func (h *Host) DropOutgoing(drop bool) { h.set(&h.dropOutgoing, drop) }

func (h *Host) set(flag *bool, to bool) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	*flag = to
}

// arriveLocked queues a packet for the downlink.
func (h *Host) arriveLocked(now time.Time, p packet) {
	n := h.net
	switch {
	case h.killed:
		n.drops[DropKilled]++
		return
	case h.dropIncoming:
		n.drops[DropIncoming]++
		return
	case n.cuts[[2]*Host{p.origin, h}]:
		n.drops[DropCut]++
		return
	case !h.firewall.admits(now, p):
		n.drops[DropFiltered]++
		return
	}
	through, ok := h.down.reserve(now, p.bits())
	switch {
	case !ok:
		n.drops[DropLinkFull]++
	case through.After(now):
		n.scheduleLocked(arrival{at: through, p: p, host: h})
	default:
		h.deliverLocked(p)
	}
}

// deliverLocked puts a packet into the receive buffer of its socket.
func (h *Host) deliverLocked(p packet) {
	s := h.sockets[p.dst]
	switch {
	case h.killed: // while the packet was in its downlink
		h.net.drops[DropKilled]++
	case s == nil:
		h.net.drops[DropNoSocket]++
	case !s.receive(p):
		h.net.drops[DropSocketFull]++
	}
}
