package testnet

import "net/netip"

// publicOctets are first octets that manet.IsPublicAddr takes for public and
// that go-libp2p-kbucket's peer diversity filter groups by /16. AutoNAT ignores
// private and documentation ranges; the filter groups 12, 17, 19, 38, 48, 53,
// 56 and 73 by /8.
var publicOctets = [...]byte{11, 21, 22, 26, 28, 29, 30, 33, 55}

// publicAddrLocked returns the next public address, each in a /16 of its own
// until all 2304 are taken; the kad-dht diversity filter counts peers per /16.
func (n *Net) publicAddrLocked() netip.Addr {
	i := n.nextWAN
	n.nextWAN++
	first := publicOctets[i%len(publicOctets)]
	second := i / len(publicOctets) % 256
	host := i/len(publicOctets)/256 + 1
	return netip.AddrFrom4([4]byte{first, byte(second), byte(host >> 8), byte(host)})
}

// publicAddr6Locked returns the next public IPv6 address, each in a /48 of its
// own in 3fff::/20, the documentation space of RFC 9637 that manet.IsPublicAddr
// takes for public.
func (n *Net) publicAddr6Locked() netip.Addr {
	i := len(n.hosts) + 1
	return netip.AddrFrom16([16]byte{0x3f, 0xff, byte(i >> 16 & 0xf), byte(i >> 8), byte(i), 15: 1})
}

// sharedAddrLocked returns the next address of 100.64.0.0/10, the space between
// a carrier's box and its customers' (RFC 6598).
func (n *Net) sharedAddrLocked() netip.Addr {
	n.nextCGN++
	i := n.nextCGN
	return netip.AddrFrom4([4]byte{100, 64 + byte(i>>16&63), byte(i >> 8), byte(i)})
}

// lanAddrLocked returns the next address behind the box: 192.168.x.2 upwards.
// Boxes differ in x as far as it goes, only so that logs are easier to read.
func (b *NAT) lanAddrLocked() netip.Addr {
	b.nextLAN++
	host := b.nextLAN + 1
	if host > 254 {
		panic("testnet: more than 253 machines behind " + b.name)
	}
	return netip.AddrFrom4([4]byte{192, 168, byte(b.index % 256), byte(host)})
}
