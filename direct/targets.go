package direct

import (
	"net"
	"net/netip"
	"slices"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// What a peer may make us dial. It names the addresses, we send the packets:
// whatever is dialled here might be a third party's.
const (
	// maxNamed bounds the addresses of a message that are looked at.
	maxNamed = 64
	// maxIPs bounds the IP addresses that are dialled, per family: a peer has
	// one, or one and a new one.
	maxIPs = 2
	// maxPorts bounds the ports per IP address and transport: a symmetric NAT
	// shows a few, and none of them is of use.
	maxPorts = 2
	// maxLAN bounds the addresses on our own network.
	maxLAN = 4
)

// targets are those of the named addresses that are dialled: public IP
// addresses, with TCP or QUIC, on ports that no service of the net is known by.
func targets(named []ma.Multiaddr) []ma.Multiaddr {
	ips := make(map[netip.Addr]bool)
	families := make(map[bool]int)
	ports := make(map[spot]int)
	var out []ma.Multiaddr
	for _, a := range named[:min(len(named), maxNamed)] {
		to, udp, ok := plainAddr(a)
		if !ok || !manet.IsPublicAddr(a) || !allowedPort(to.Port()) || slices.ContainsFunc(out, a.Equal) {
			continue
		}
		ip := to.Addr()
		if !ips[ip] {
			if families[ip.Is4()] >= maxIPs {
				continue
			}
			families[ip.Is4()]++
			ips[ip] = true
		}
		key := spot{ip, udp}
		if ports[key] >= maxPorts {
			continue
		}
		ports[key]++
		out = append(out, a)
	}
	return out
}

type spot struct {
	ip  netip.Addr
	udp bool
}

// allowedPort: below 1024 are services that nobody should be made to knock at,
// but for those that peers hide behind where nothing else gets through.
func allowedPort(p uint16) bool { return p >= 1024 || p == 443 || p == 80 }

// plainAddr takes an address apart if it is an IP address and a TCP port, or a
// UDP port that speaks QUIC, and nothing more.
func plainAddr(a ma.Multiaddr) (to netip.AddrPort, udp, ok bool) {
	a, _ = ma.SplitFunc(a, func(c ma.Component) bool { return c.Protocol().Code == ma.P_P2P })
	if len(a) < 2 {
		return to, false, false
	}
	switch a[0].Protocol().Code {
	case ma.P_IP4, ma.P_IP6:
	default:
		return to, false, false
	}
	switch {
	case len(a) == 2 && a[1].Protocol().Code == ma.P_TCP:
	case len(a) == 3 && a[1].Protocol().Code == ma.P_UDP && a[2].Protocol().Code == ma.P_QUIC_V1:
		udp = true
	default:
		return to, false, false
	}
	ip, err := netip.ParseAddr(a[0].Value())
	if err != nil {
		return to, false, false
	}
	port := a[1].RawValue()
	return netip.AddrPortFrom(ip.Unmap(), uint16(port[0])<<8|uint16(port[1])), udp, true
}

// lanTargets are those of the named addresses that lie on a network that we are
// on ourselves: private addresses of other machines there.
func lanTargets(named []ma.Multiaddr, own []netip.Prefix) []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, a := range named[:min(len(named), maxNamed)] {
		to, _, ok := plainAddr(a)
		if !ok || to.Port() < 1024 || len(out) == maxLAN || slices.ContainsFunc(out, a.Equal) {
			continue
		}
		if slices.ContainsFunc(own, func(p netip.Prefix) bool { return neighbour(p, to.Addr()) }) {
			out = append(out, a)
		}
	}
	return out
}

// neighbour reports whether ip is another machine's on the network of an
// interface with that address.
func neighbour(own netip.Prefix, ip netip.Addr) bool {
	if !own.Contains(ip) || ip == own.Addr() || ip == own.Masked().Addr() {
		return false
	}
	return !ip.Is4() || ip != broadcast(own)
}

// broadcast is the last address of an IPv4 network.
func broadcast(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}

// lanPrefixes are the private networks among the addresses of our interfaces.
func lanPrefixes(addrs []net.Addr) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		ip := p.Addr().Unmap()
		if shared := netip.MustParsePrefix("100.64.0.0/10"); ip.IsPrivate() || shared.Contains(ip) {
			out = append(out, netip.PrefixFrom(ip, p.Bits()))
		}
	}
	return out
}

// shareIP reports whether two sets of addresses have a public IPv4 address in
// common: the two peers are then most likely behind the same NAT.
func shareIP(a, b []ma.Multiaddr) bool {
	ips := make(map[netip.Addr]bool)
	for _, x := range a {
		if to, _, ok := plainAddr(x); ok && to.Addr().Is4() {
			ips[to.Addr()] = true
		}
	}
	return slices.ContainsFunc(b[:min(len(b), maxNamed)], func(x ma.Multiaddr) bool {
		to, _, ok := plainAddr(x)
		return ok && ips[to.Addr()] && manet.IsPublicAddr(x)
	})
}
