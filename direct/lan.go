package direct

import (
	"net"
	"net/netip"
	"slices"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Peers on one network. Two peers that others see at the same public address
// are most likely behind the same NAT, and many NATs do not lead back in what
// went out to their own address. So the two tell each other, over the relayed
// connection and nobody else, where they listen on private networks, and dial
// what lies on a network that they are on themselves. Whoever answers there
// must prove to be that very peer before we say who we are: the handshakes see
// to that (TLS 1.3 and Noise XX both authenticate the side that is dialled
// first). The one who named the addresses does not learn what came of them.

// shareIP reports whether two sets of addresses have a public IPv4 address in
// common.
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

// A carrier's NAT may have many homes behind it and lead none of them back in. A
// router that maps ports for us says where it is on the carrier's side, and two
// homes there may reach each other at those addresses. That a peer has our public
// address and a router that says so, as ours does, makes it worth a dial.

// carriers is the address space of NATs like these (RFC 6598).
var carriers = netip.MustParsePrefix("100.64.0.0/10")

// carrierAddrs are those of ours on a carrier's network.
func (u *Upgrader) carrierAddrs() []ma.Multiaddr {
	out := ma.FilterAddrs(u.cfg.Carrier(), func(a ma.Multiaddr) bool {
		to, _, ok := plainAddr(a)
		return ok && carriers.Contains(to.Addr())
	})
	return out[:min(len(out), maxLAN)]
}

// carrierTargets are those of the named addresses that are another router's on the
// carrier's network that our router is on: one has one.
func carrierTargets(named, own []ma.Multiaddr) []ma.Multiaddr {
	if len(own) == 0 {
		return nil
	}
	ours, _, _ := plainAddr(own[0])
	var ip netip.Addr
	var out []ma.Multiaddr
	for _, a := range named[:min(len(named), maxNamed)] {
		to, _, ok := plainAddr(a)
		switch {
		case !ok || to.Port() < 1024 || !carriers.Contains(to.Addr()) || to.Addr() == ours.Addr():
		case ip.IsValid() && to.Addr() != ip, len(out) == maxLAN, slices.ContainsFunc(out, a.Equal):
		default:
			ip, out = to.Addr(), append(out, a)
		}
	}
	return out
}

// privateAddrs are what we tell a peer with our public address.
func (u *Upgrader) privateAddrs() []ma.Multiaddr {
	return slices.Concat(u.lanAddrs(), u.carrierAddrs())
}

// lanAddrs are our listening addresses on private networks.
func (u *Upgrader) lanAddrs() []ma.Multiaddr {
	own := u.networks()
	if len(own) == 0 {
		return nil
	}
	listen, err := u.host.Network().InterfaceListenAddresses()
	if err != nil {
		return nil
	}
	var out []ma.Multiaddr
	for _, l := range listen {
		to, _, ok := plainAddr(l)
		if ok && slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Addr() == to.Addr() }) {
			out = append(out, l)
		}
	}
	return out[:min(len(out), maxLAN)]
}

// networks are the private networks that we are on.
func (u *Upgrader) networks() []netip.Prefix {
	if u.cfg.Sockets == nil {
		return nil
	}
	addrs, err := u.cfg.Sockets.Addrs()
	if err != nil {
		log.Debug("addresses of the interfaces not known", "reason", err)
		return nil
	}
	return lanPrefixes(addrs)
}

// neighbours dials the addresses on a network that we are on too.
func (a *attempt) neighbours(named []ma.Multiaddr) {
	if len(named) == 0 {
		return
	}
	for _, to := range slices.Concat(lanTargets(named, a.u.networks()), carrierTargets(named, a.u.carrierAddrs())) {
		a.dial(a.ctx, to, client, LAN)
	}
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
		if ip.IsPrivate() || carriers.Contains(ip) {
			out = append(out, netip.PrefixFrom(ip, p.Bits()))
		}
	}
	return out
}
