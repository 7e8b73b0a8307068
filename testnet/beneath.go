package testnet

import (
	"net"
	"net/netip"
	"os"
	"syscall"
)

// Sockets returns UDP beneath a QUIC transport that listens on a port of the
// machine: packets of one's own from the same socket, as hole punching needs.
func (h *Host) Sockets(port int) *Sockets { return &Sockets{host: h, port: uint16(port)} }

// Sockets is what a machine has beneath libp2p.
type Sockets struct {
	host *Host
	port uint16
}

// Addrs are the addresses of the machine's interface, in a /24.
func (s *Sockets) Addrs() ([]net.Addr, error) {
	return []net.Addr{&net.IPNet{IP: s.host.ip.AsSlice(), Mask: net.CIDRMask(24, 32)}}, nil
}

// Open opens a socket on a free port.
func (s *Sockets) Open() (net.PacketConn, error) { return s.host.ListenPacket(0) }

// Send sends from the socket that listens on the port.
func (s *Sockets) Send(b []byte, to netip.AddrPort) error {
	s.host.net.mu.Lock()
	from := s.host.sockets[netip.AddrPortFrom(s.host.ip, s.port)]
	s.host.net.mu.Unlock()
	if from == nil {
		return &net.OpError{Op: "write", Net: "udp4", Addr: net.UDPAddrFromAddrPort(to), Err: os.NewSyscallError("sendto", syscall.EBADF)}
	}
	_, err := from.WriteTo(b, net.UDPAddrFromAddrPort(to))
	return err
}
