// Package dialable says which IP addresses may be dialled because somebody
// else named them: those of the internet, and none that lead elsewhere.
package dialable

import (
	"net/netip"
	"slices"
)

var (
	unicast6 = netip.MustParsePrefix("2000::/3")
	// special are within what manet.IsPublicAddr (go-multiaddr v0.16) takes for
	// public: networks that nobody has, and IPv6 networks whose addresses
	// contain an IPv4 address of the asker's choice. NAT64 (RFC 6052) is outside
	// of 2000::/3.
	special = []netip.Prefix{
		netip.MustParsePrefix("192.0.0.0/24"), // RFC 6890
		netip.MustParsePrefix("2001::/23"),    // RFC 2928: Teredo, ORCHID, …
		netip.MustParsePrefix("2002::/16"),    // RFC 3056: 6to4
	}
)

// Public reports whether an address is one of the internet's. It is only for
// what manet.IsPublicAddr says yes to.
func Public(ip netip.Addr) bool {
	ip = ip.Unmap()
	return ip.IsValid() && (ip.Is4() || unicast6.Contains(ip)) &&
		!slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(ip) })
}
