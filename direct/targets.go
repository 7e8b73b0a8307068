package direct

import (
	"net/netip"
	"slices"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/causeway-p2p/causeway/internal/dialable"
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
		if !ok || !manet.IsPublicAddr(a) || !dialable.Public(to.Addr()) || !allowedPort(to.Port()) || slices.ContainsFunc(out, a.Equal) {
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
	a, id := ma.SplitFunc(a, func(c ma.Component) bool { return c.Protocol().Code == ma.P_P2P })
	if len(a) < 2 || len(id) > 1 {
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

// punchable are those of our addresses to which a peer may punch that named its own:
// both sides dial, so it takes the same transport. Others go-libp2p tries in vain
// before it changes roles, over TCP for 10 s each time (v0.51, p2p/protocol/holepunch).
func punchable(own, theirs []ma.Multiaddr) []ma.Multiaddr {
	named := make(map[bool]bool) // by whether it is UDP
	for _, a := range theirs {
		if _, udp, ok := plainAddr(a); ok {
			named[udp] = true
		}
	}
	out := slices.DeleteFunc(slices.Clone(own), func(a ma.Multiaddr) bool {
		_, udp, ok := plainAddr(a)
		return !ok || !named[udp]
	})
	if len(out) == 0 {
		return own
	}
	return out
}
