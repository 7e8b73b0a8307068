package node

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/causeway-p2p/causeway/portmap"
)

// onNetwork reports whether the node listens for others than this machine, on
// the system's own network.
func (n *Node) onNetwork() bool {
	return len(n.cfg.Transports) == 0 && slices.ContainsFunc(n.cfg.Listen, func(a ma.Multiaddr) bool { return !manet.IsIPLoopback(a) })
}

// newMapper maps ports where that may help. An operator who announces addresses
// has seen to it that they lead here, and a mapping could get in their way.
func (n *Node) newMapper() (err error) {
	if n.cfg.NoPortMapping || len(n.cfg.Announce) > 0 || !n.onNetwork() {
		return nil
	}
	key, err := n.cfg.Identity.Raw()
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	secret, err := hkdf.Key(sha256.New, key, nil, "causeway/portmap", sha256.Size)
	if err != nil {
		return fmt.Errorf("port mapping secret: %w", err)
	}
	n.mapper, err = portmap.New(portmap.Config{Ports: n.listenPorts, OnChange: n.portsMapped, Secret: secret})
	return err
}

// listenPorts are those that a router could lead to.
func (n *Node) listenPorts() (list []portmap.Port) {
	for _, a := range n.host.Network().ListenAddresses() {
		if p, ok := mappable(a); ok {
			list = append(list, p)
		}
	}
	return list
}

// mappable returns the port of a listen address on IPv4. A loopback address
// is for this machine alone, and a public one needs no router.
func mappable(a ma.Multiaddr) (p portmap.Port, ok bool) {
	if len(a) < 2 || a[0].Protocol().Code != ma.P_IP4 {
		return p, false
	}
	ip, err := netip.ParseAddr(a[0].Value())
	if err != nil || !ip.IsUnspecified() && !ip.IsPrivate() {
		return p, false
	}
	switch a[1].Protocol().Code {
	case ma.P_UDP:
		p.Protocol = portmap.UDP
	case ma.P_TCP:
		p.Protocol = portmap.TCP
	default:
		return p, false
	}
	number, err := strconv.ParseUint(a[1].Value(), 10, 16)
	p.Number = uint16(number)
	return p, err == nil && number > 0
}

// portsMapped makes candidates of what the router lets in. They are shown to
// others once a server has dialled them.
func (n *Node) portsMapped(list []portmap.Mapping) {
	addrs := mappedAddrs(n.host.Network().ListenAddresses(), list)
	n.advertiser.setMapped(addrs)
	n.reachability.SetMapped(addrs)
	n.events.emit(PortsMapped{At: now(), Addrs: texts(addrs), Because: n.mapper.Status().Text})
}

// carrierAddrs are where the router lets others in, if that is not the internet: a
// carrier's network, most likely.
func (n *Node) carrierAddrs() []ma.Multiaddr {
	if n.mapper == nil {
		return nil
	}
	list := slices.DeleteFunc(slices.Clone(n.mapper.Status().Mappings), portmap.Mapping.Public)
	return mappedAddrs(n.host.Network().ListenAddresses(), list)
}

// mappedAddrs are the listen addresses as the internet sees them.
func mappedAddrs(listen []ma.Multiaddr, list []portmap.Mapping) (out []ma.Multiaddr) {
	for _, m := range list {
		outside, err := ma.NewMultiaddr(fmt.Sprintf("/ip4/%s/%s/%d", m.External.Addr(), m.Protocol, m.External.Port()))
		if err != nil {
			continue
		}
		for _, l := range listen {
			p, ok := mappable(l)
			if ok && p == m.Port {
				out = append(out, slices.Concat(outside, l[2:]))
			}
		}
	}
	return ma.Unique(out)
}

func texts(addrs []ma.Multiaddr) []string {
	out := make([]string, len(addrs))
	for i, a := range addrs {
		out[i] = a.String()
	}
	return out
}
