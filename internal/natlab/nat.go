//go:build linux

package natlab

import (
	"fmt"
	"net/netip"
	"slices"
)

// Kind is how a NAT maps and filters, in the words of RFC 3489 section 5
// (RFC 4787 names mapping and filtering apart; both are given below).
type Kind int

const (
	// FullCone: endpoint-independent mapping and filtering. Who knows the
	// external port reaches the machine behind it, once that port was used.
	FullCone Kind = iota + 1
	// AddressRestricted: endpoint-independent mapping, address-dependent
	// filtering. Whoever was sent something may answer, from any port.
	AddressRestricted
	// PortRestricted: endpoint-independent mapping, address- and
	// port-dependent filtering. Most home routers.
	PortRestricted
	// Symmetric: address- and port-dependent mapping (a new, random external
	// port for each destination) and filtering. Mobile networks, companies.
	Symmetric
)

func (k Kind) String() string {
	switch k {
	case FullCone:
		return "FullCone"
	case AddressRestricted:
		return "AddressRestricted"
	case PortRestricted:
		return "PortRestricted"
	case Symmetric:
		return "Symmetric"
	}
	return fmt.Sprintf("Kind(%d)", int(k))
}

// Box is a NAT router: a WAN interface, and a LAN bridge with its machines.
// The embedded Machine is the router itself, its IP the external address.
type Box struct {
	*Machine
	lan   int // number of its private network
	hosts byte
	boxes byte
}

// Option is something that a NAT box does besides what its kind says.
type Option int

// Hairpin lets machines on the LAN reach each other by their external
// addresses: a packet from the LAN to one comes back to the LAN, with the
// sender's external address as its source (RFC 4787 section 6), and is not
// filtered. Not for Symmetric, whose external ports nobody can know.
const Hairpin Option = iota + 1

// NAT makes a NAT box on the internet. It has no IPv6.
func (lab *Lab) NAT(name string, kind Kind, options ...Option) *Box {
	lab.tb.Helper()
	m, err := lab.machine(name)
	lab.must(err)
	lab.must(lab.plugIntoCore(m, "wan", false))
	b := &Box{Machine: m}
	lab.must(b.setUp(kind, options))
	return b
}

// NAT makes a NAT box behind this one, with an address of 100.64.0.0/10 as its
// external one: this box is then the carrier's.
func (b *Box) NAT(name string, kind Kind, options ...Option) *Box {
	b.lab.tb.Helper()
	m, err := b.lab.machine(name)
	b.lab.must(err)
	b.lab.must(b.plugIn(m, "wan", b.carrier(), &b.boxes))
	inner := &Box{Machine: m}
	b.lab.must(inner.setUp(kind, options))
	return inner
}

// Host makes a machine on the LAN, with the box as its default route.
func (b *Box) Host(name string) *Machine {
	b.lab.tb.Helper()
	m, err := b.lab.machine(name)
	b.lab.must(err)
	b.lab.must(b.plugIn(m, "eth0", b.home(), &b.hosts))
	return m
}

// home is the network of the machines on the LAN, carrier that of the NAT
// boxes on it. Each is the lab's only one with its addresses, so that a log
// line says by itself where an address belongs.
func (b *Box) home() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(b.lan), 0}), 24)
}

func (b *Box) carrier() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, byte(b.lan), 0}), 24)
}

const (
	maxLANs = 255
	// firstOnLAN is the last octet of the first machine on a LAN.
	firstOnLAN, maxOnLAN = 10, 240
)

// setUp makes a machine that has its wan interface into a NAT box.
func (b *Box) setUp(kind Kind, options []Option) error {
	b.lab.mu.Lock()
	b.lab.private++
	b.lan = b.lab.private
	b.lab.mu.Unlock()
	if b.lan > maxLANs {
		return fmt.Errorf("more than %d LANs", maxLANs)
	}
	script := rules(kind)
	if script == "" {
		return fmt.Errorf("%s: no such kind of NAT: %s", b.name, kind)
	}
	if slices.Contains(options, Hairpin) {
		if kind == Symmetric {
			return fmt.Errorf("%s: no hairpin with a symmetric NAT", b.name)
		}
		script += hairpin(b.ip)
	}
	// Before forwarding begins, so that nothing passes unfiltered.
	if err := nft(b.netns, script); err != nil {
		return err
	}
	if err := sysctl(b.netns, map[string]string{
		"net/ipv4/ip_forward": "1",
		// A packet that leaves where it came in (hairpin) would bring its sender
		// an ICMP redirect to the other machine, which knows nothing of NAT.
		"net/ipv4/conf/all/send_redirects":     "0",
		"net/ipv4/conf/default/send_redirects": "0",
	}); err != nil {
		return err
	}
	return ipBatch(b.netns,
		// No multicast snooping: without a querier it loses mDNS. An address of
		// its own, or the bridge takes the lowest of its ports', and those who
		// were there before send to a stale one when another machine comes.
		fmt.Sprintf("link add name lan address 02:00:00:00:00:%02x type bridge stp_state 0 forward_delay 0 mcast_snooping 0", b.lan),
		fmt.Sprintf("addr add %s/24 dev lan", host(b.home(), 1)),
		fmt.Sprintf("addr add %s/24 dev lan", host(b.carrier(), 1)),
		"link set lan up")
}

// plugIn gives a machine an interface on the LAN and its default route.
func (b *Box) plugIn(m *Machine, dev string, net netip.Prefix, count *byte) error {
	b.lab.mu.Lock()
	n := *count
	*count++
	b.lab.mu.Unlock()
	if n >= maxOnLAN {
		return fmt.Errorf("more than %d machines behind %s", maxOnLAN, b.name)
	}
	m.ip = host(net, firstOnLAN+n)
	port := fmt.Sprintf("p%d", m.ip.As4()[3])
	if net == b.carrier() {
		port = "c" + port // its own row of names
	}
	if err := ipBatch(b.netns,
		fmt.Sprintf("link add name %s type veth peer name %s netns %s", port, dev, m.netns),
		fmt.Sprintf("link set %s master lan", port),
		fmt.Sprintf("link set %s up", port)); err != nil {
		return err
	}
	return ipBatch(m.netns,
		fmt.Sprintf("addr add %s/24 dev %s", m.ip, dev),
		fmt.Sprintf("link set %s up", dev),
		fmt.Sprintf("route add default via %s", host(net, 1)))
}
