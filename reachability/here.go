package reachability

import (
	"net/netip"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/causeway-p2p/causeway/internal/maddr"
)

// here are the IP addresses of this machine. The kernel hands what goes from
// one of them to another over without a network, past whatever stands between
// the machine and the internet. So who comes from here, a relay on the same
// server say, shows nothing of what others can dial.
type here struct {
	ips atomic.Pointer[map[netip.Addr]struct{}]
}

// set takes the addresses of our sockets, and those of the machine on the
// internet, from which another program may dial us all the same.
func (h *here) set(sockets, machine []ma.Multiaddr) {
	ips := make(map[netip.Addr]struct{})
	for _, a := range sockets {
		if ip := maddr.IP(a); ip.IsValid() && !ip.IsUnspecified() {
			ips[ip] = struct{}{}
		}
	}
	for _, a := range machine {
		if ip := maddr.IP(a); ip.IsValid() && manet.IsPublicAddr(a) {
			ips[ip] = struct{}{}
		}
	}
	h.ips.Store(&ips)
}

// conn reports whether the other end of a connection is on this machine.
func (h *here) conn(c network.Conn) bool {
	ip, ok := remoteIP(c)
	if !ok {
		return false
	}
	if ips := h.ips.Load(); ips != nil {
		if _, own := (*ips)[ip]; own {
			return true
		}
	}
	return ip.IsLoopback()
}

// isHere reports whether a peer is on this machine, by any of its connections:
// one that goes out over a router and comes back shows no more.
func (t *Tracker) isHere(p peer.ID) bool {
	for _, c := range t.cfg.Host.Network().ConnsToPeer(p) {
		if t.here.conn(c) {
			return true
		}
	}
	return false
}
