package netwatch

import (
	"net"
	"net/netip"
	"slices"

	"github.com/libp2p/go-netroute"
)

// snapshot is the state of the network as far as a node cares.
type snapshot struct {
	addrs  map[netip.Addr]bool // of this machine, to whether their link has a carrier
	routes [2]route            // the default ones, of IPv4 and IPv6
}

// route is where a default route leads; the zero value is none.
type route struct {
	dev     string
	gateway netip.Addr
}

// compare adds to c what is different in now.
func (s snapshot) compare(now snapshot, c *Change) {
	for a, running := range now.addrs {
		was, known := s.addrs[a]
		if !known {
			c.Added = append(c.Added, a)
		} else if was != running {
			c.Link = true
		}
	}
	for a := range s.addrs {
		if _, still := now.addrs[a]; !still {
			c.Removed = append(c.Removed, a)
		}
	}
	slices.SortFunc(c.Added, netip.Addr.Compare)
	slices.SortFunc(c.Removed, netip.Addr.Compare)
	c.Route = c.Route || s.routes != now.routes
}

// Destinations that only the default route leads to, or one that takes its
// place (a VPN's pair of halves). Nothing is sent there.
var somewhere = [2]net.IP{net.IPv4(8, 8, 8, 8), net.ParseIP("2001:4860:4860::8888")}

func read() (snapshot, error) {
	s := snapshot{addrs: make(map[netip.Addr]bool)}
	devs, err := net.Interfaces()
	if err != nil {
		return s, err
	}
	for _, dev := range devs {
		if dev.Flags&net.FlagUp == 0 || dev.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := dev.Addrs()
		if err != nil {
			continue // gone meanwhile
		}
		for _, a := range addrs {
			if a, ok := counts(a); ok {
				s.addrs[a] = s.addrs[a] || dev.Flags&net.FlagRunning != 0
			}
		}
	}
	// A system without a router: the addresses tell most.
	if router, err := netroute.New(); err == nil {
		for i, to := range somewhere {
			s.routes[i] = routeTo(router, to)
		}
	}
	return s, nil
}

func routeTo(router netroute.Router, to net.IP) route {
	dev, gateway, _, err := router.Route(to)
	if err != nil || dev == nil {
		return route{}
	}
	gw, _ := netip.AddrFromSlice(gateway)
	return route{dev: dev.Name, gateway: gw.Unmap()}
}

// counts returns an interface's address if others could use it.
func counts(a net.Addr) (netip.Addr, bool) {
	n, ok := a.(*net.IPNet)
	if !ok {
		return netip.Addr{}, false
	}
	ip, ok := netip.AddrFromSlice(n.IP)
	ip = ip.Unmap()
	return ip, ok && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() && !ip.IsMulticast() && !ip.IsUnspecified()
}
