package portmap

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/libp2p/go-netroute"
)

// route is the way of this machine's IPv4 packets to the internet.
type route struct {
	gateway netip.Addr
	local   netip.Prefix // our address there, and its network
}

var errNoRoute = errors.New("there is no IPv4 route to the internet")

// farAway is an address that only the default route leads to. Nothing is sent
// there.
var farAway = net.IPv4(8, 8, 8, 8)

func defaultRoute() (route, error) {
	router, err := netroute.New()
	if err != nil {
		return route{}, fmt.Errorf("routing table: %w", err)
	}
	dev, gw, src, err := router.Route(farAway)
	if err != nil || dev == nil {
		return route{}, errNoRoute
	}
	r := route{}
	r.gateway, _ = netip.AddrFromSlice(gw)
	r.gateway = r.gateway.Unmap()
	local, _ := netip.AddrFromSlice(src)
	addrs, err := dev.Addrs()
	if err != nil {
		return route{}, fmt.Errorf("addresses of %s: %w", dev.Name, err)
	}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || !p.Addr().Is4() {
			continue
		}
		if p.Addr() == local.Unmap() || !local.IsValid() && p.Contains(r.gateway) {
			r.local = p
			return r, nil
		}
	}
	return route{}, errNoRoute
}

// onLink reports whether an address belongs to a machine of the local network.
func (r route) onLink(a netip.Addr) bool {
	return a == r.gateway || a.Is4() && a != r.local.Addr() && r.local.Contains(a)
}

// reserved are the IPv4 networks, besides those that netip knows, that are not
// the internet's (IANA IPv4 Special-Purpose Address Registry).
var reserved = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"), // carriers' NATs, RFC 6598
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
}

// isPublic reports whether an IPv4 address may be one of the internet's.
func isPublic(a netip.Addr) bool {
	if !a.Is4() || !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, p := range reserved {
		if p.Contains(a) {
			return false
		}
	}
	return true
}
