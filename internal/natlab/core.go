//go:build linux

package natlab

import (
	"fmt"
	"net/netip"
)

// firstOctets are /8s whose addresses pass manet.IsPublicAddr and that the DHT
// groups by /16 (it groups some others by /8), so that a few machines look
// like a diverse network.
var firstOctets = []byte{11, 21, 22, 26, 28, 29, 30, 33, 55}

// subnet is a network of the lab: the router has .1.
type subnet struct {
	v4, v6 netip.Prefix
}

// publicSubnet is the nth public network: each in a /16 (and a /32 of
// 3fff::/20) of its own.
func publicSubnet(n int) subnet {
	first, second := firstOctets[n%len(firstOctets)], byte(1+n/len(firstOctets))
	v6 := [16]byte{0x3f, 0xff, byte((n + 1) >> 8), byte(n + 1)}
	return subnet{
		v4: netip.PrefixFrom(netip.AddrFrom4([4]byte{first, second, 1, 0}), 24),
		v6: netip.PrefixFrom(netip.AddrFrom16(v6), 64),
	}
}

// maxPublic keeps the second octet in a byte.
const maxPublic = 9 * 250

// host is the nth address of a prefix of whole bytes.
func host(p netip.Prefix, n byte) netip.Addr {
	b := p.Addr().AsSlice()
	b[len(b)-1] = n
	a, _ := netip.AddrFromSlice(b)
	return a
}

// setUpCore makes the core forward, and lose silently what the internet would
// lose: packets to nowhere, and packets from private addresses (which a NAT
// lets out when conntrack takes them for invalid). Prerouting at priority raw,
// so that not even the core itself answers a dead machine.
func (lab *Lab) setUpCore() error {
	if err := sysctl(lab.core.netns, map[string]string{
		"net/ipv4/ip_forward":          "1",
		"net/ipv6/conf/all/forwarding": "1",
	}); err != nil {
		return err
	}
	if err := ipBatch(lab.core.netns,
		"route add blackhole 0.0.0.0/0",
		"route add blackhole ::/0"); err != nil {
		return err
	}
	return nft(lab.core.netns, `
		table inet natlab {
			set dead4 { type ipv4_addr; }
			set dead6 { type ipv6_addr; }
			chain prerouting {
				type filter hook prerouting priority raw; policy accept;
				ip saddr { 10.0.0.0/8, 100.64.0.0/10, 172.16.0.0/12, 192.168.0.0/16 } drop
				ip saddr @dead4 drop
				ip daddr @dead4 drop
				ip6 saddr @dead6 drop
				ip6 daddr @dead6 drop
			}
		}`)
}

// Public makes a machine on the internet, with an IPv4 /24 and an IPv6 /64 to
// itself.
func (lab *Lab) Public(name string) *Machine {
	lab.tb.Helper()
	m, err := lab.machine(name)
	lab.must(err)
	lab.must(lab.plugIntoCore(m, "eth0", true))
	return m
}

// plugIntoCore gives a machine an interface on the internet and its default
// route.
func (lab *Lab) plugIntoCore(m *Machine, dev string, ipv6 bool) error {
	lab.mu.Lock()
	n := lab.public
	lab.public++
	lab.mu.Unlock()
	if n >= maxPublic {
		return fmt.Errorf("more than %d public networks", maxPublic)
	}
	net := publicSubnet(n)
	port := fmt.Sprintf("v%d", n)
	m.ip, m.public = host(net.v4, 2), true
	core := []string{
		fmt.Sprintf("link add name %s type veth peer name %s netns %s", port, dev, m.netns),
		fmt.Sprintf("addr add %s/24 dev %s", host(net.v4, 1), port),
	}
	inside := []string{
		fmt.Sprintf("addr add %s/24 dev %s", m.ip, dev),
		fmt.Sprintf("link set %s up", dev),
		fmt.Sprintf("route add default via %s", host(net.v4, 1)),
	}
	if ipv6 {
		m.ip6 = host(net.v6, 2)
		core = append(core, fmt.Sprintf("addr add %s/64 dev %s nodad", host(net.v6, 1), port))
		inside = append(inside,
			fmt.Sprintf("addr add %s/64 dev %s nodad", m.ip6, dev),
			fmt.Sprintf("route add ::/0 via %s", host(net.v6, 1)))
	}
	core = append(core, fmt.Sprintf("link set %s up", port))
	if err := ipBatch(lab.core.netns, core...); err != nil {
		return err
	}
	return ipBatch(m.netns, inside...)
}

// Blackhole makes the internet drop every packet from and to a public machine
// (or NAT box: pass its Machine), silently: no reset, no ICMP. It returns when
// that is in force.
func (lab *Lab) Blackhole(m *Machine) {
	lab.tb.Helper()
	lab.must(lab.dead("add", m))
}

// Restore ends a Blackhole.
func (lab *Lab) Restore(m *Machine) {
	lab.tb.Helper()
	lab.must(lab.dead("delete", m))
}

func (lab *Lab) dead(verb string, m *Machine) error {
	if !m.public {
		return fmt.Errorf("%s is not on the internet: blackhole its NAT box", m.name)
	}
	script := fmt.Sprintf("%s element inet natlab dead4 { %s }\n", verb, m.ip)
	if m.ip6.IsValid() {
		script += fmt.Sprintf("%s element inet natlab dead6 { %s }\n", verb, m.ip6)
	}
	return nft(lab.core.netns, script)
}
