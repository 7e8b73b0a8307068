package stranger

import (
	"net/netip"
	"slices"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/causeway-p2p/causeway/internal/dialable"
	"github.com/causeway-p2p/causeway/internal/maddr"
)

// maxAddrLen bounds an address, in bytes: IPv6 with QUIC has 24.
const maxAddrLen = 64

// target is an address that may be dialled as far as its looks go.
type target struct {
	addr ma.Multiaddr
	ip   netip.Addr
}

// shapes are the addresses that are dialled: nothing that has to be resolved,
// nothing that goes through somebody else, and nothing with more to it than
// where the packets go.
var shapes = [][]int{
	{ma.P_IP4, ma.P_TCP},
	{ma.P_IP6, ma.P_TCP},
	{ma.P_IP4, ma.P_UDP, ma.P_QUIC_V1},
	{ma.P_IP6, ma.P_UDP, ma.P_QUIC_V1},
}

func parseTarget(b []byte) (target, error) {
	if len(b) > maxAddrLen {
		return target{}, refuse(Malformed)
	}
	a, err := ma.NewMultiaddrBytes(b)
	if err != nil {
		return target{}, refuse(Malformed)
	}
	shape := make([]int, len(a))
	for i, c := range a {
		shape[i] = c.Code()
	}
	if !slices.ContainsFunc(shapes, func(s []int) bool { return slices.Equal(s, shape) }) || a[1].Value() == "0" {
		return target{}, refuse(Malformed)
	}
	ip, ok := netip.AddrFromSlice(a[0].RawValue())
	if !ok || !dialable.Public(ip) || !manet.IsPublicAddr(a) {
		return target{}, refuse(NotPublic)
	}
	return target{addr: a, ip: ip}, nil
}

// Prefixes within which two addresses count as near: behind one router, or
// one operator's.
const (
	near4 = 24
	near6 = 48
)

// around is the network of hosts near ip.
func around(ip netip.Addr) netip.Prefix {
	bits := near6
	if ip.Is4() {
		bits = near4
	}
	p, _ := ip.Prefix(bits) // cannot fail: the address has more bits
	return p
}

// publicIP is the public IP address in a, if it has one and is no circuit.
func publicIP(a ma.Multiaddr) (netip.Addr, bool) {
	if len(a) == 0 || maddr.IsCircuit(a) || !manet.IsPublicAddr(a) {
		return netip.Addr{}, false
	}
	ip, ok := netip.AddrFromSlice(a[0].RawValue())
	return ip, ok && (a[0].Code() == ma.P_IP4 || a[0].Code() == ma.P_IP6) && dialable.Public(ip)
}

// direct reports whether a connection leads to where its address says.
func direct(c network.Conn) bool { return !c.Stat().Limited && !maddr.IsCircuit(c.RemoteMultiaddr()) }

// seenAt are the public addresses from which a peer is connected to us.
func seenAt(h host.Host, p peer.ID) []netip.Addr {
	var out []netip.Addr
	for _, c := range h.Network().ConnsToPeer(p) {
		if ip, ok := publicIP(c.RemoteMultiaddr()); ok && direct(c) && !slices.Contains(out, ip) {
			out = append(out, ip)
		}
	}
	return out
}

// ownIPs are the host's public addresses, as far as it knows them.
func ownIPs(h host.Host) []netip.Addr {
	all := slices.Clone(h.Addrs())
	if b, ok := h.(interface{ AllAddrs() []ma.Multiaddr }); ok { // also those it does not tell others
		all = append(all, b.AllAddrs()...)
	}
	if listen, err := h.Network().InterfaceListenAddresses(); err == nil {
		all = append(all, listen...)
	}
	var out []netip.Addr
	for _, a := range all {
		if ip, ok := publicIP(a); ok && !slices.Contains(out, ip) {
			out = append(out, ip)
		}
	}
	return out
}
