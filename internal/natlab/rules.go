//go:build linux

package natlab

import (
	"fmt"
	"net/netip"
)

// rules is the nftables script of a NAT box with interfaces wan and lan; ""
// for an unknown kind.
//
// Linux by itself is port-restricted: masquerade keeps the source port while
// it is free, which is an endpoint-independent mapping, and conntrack lets
// only answers in. The other kinds add to that.
func rules(kind Kind) string {
	switch kind {
	case FullCone:
		// Whatever goes out leaves a note where its port leads; whatever comes
		// in for that port goes there. No kernel module needed.
		return firewall + `
		table ip natlab_nat {
			map cone {
				type inet_proto . inet_service : ipv4_addr . inet_service
				flags dynamic, timeout
				timeout 300s
				size 65535
			}
			chain learn {
				type filter hook postrouting priority 90; policy accept;
				oifname "wan" meta l4proto { tcp, udp } update @cone { meta l4proto . th sport : ip saddr . th sport }
			}
			chain prerouting {
				type nat hook prerouting priority dstnat; policy accept;
				iifname "wan" dnat ip to meta l4proto . th dport map @cone
			}
			chain postrouting {
				type nat hook postrouting priority srcnat; policy accept;
				oifname "wan" masquerade
			}
		}`
	case AddressRestricted:
		// The same, with the address that was sent to as part of the note.
		return firewall + `
		table ip natlab_nat {
			map cone {
				type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
				flags dynamic, timeout
				timeout 300s
				size 65535
			}
			chain learn {
				type filter hook postrouting priority 90; policy accept;
				oifname "wan" meta l4proto { tcp, udp } update @cone { ip daddr . meta l4proto . th sport : ip saddr . th sport }
			}
			chain prerouting {
				type nat hook prerouting priority dstnat; policy accept;
				iifname "wan" dnat ip to ip saddr . meta l4proto . th dport map @cone
			}
			chain postrouting {
				type nat hook postrouting priority srcnat; policy accept;
				oifname "wan" masquerade
			}
		}`
	case PortRestricted:
		return firewall + `
		table ip natlab_nat {
			chain postrouting {
				type nat hook postrouting priority srcnat; policy accept;
				oifname "wan" masquerade
			}
		}`
	case Symmetric:
		return firewall + `
		table ip natlab_nat {
			chain postrouting {
				type nat hook postrouting priority srcnat; policy accept;
				oifname "wan" masquerade fully-random
			}
		}`
	}
	return ""
}

// firewall is what every box has. Input must drop what it did not ask for:
// if the box answered, or merely let it in, conntrack would confirm an entry
// that takes the very tuple a hole punch is about to use, and masquerade would
// pick another port for it (QUIC punches: 6 of 10 succeed instead of 10).
//
// The LAN may ping the box, and nothing else: without hairpin, packets from
// the LAN to the external address end here.
const firewall = `
		table ip natlab {
			chain input {
				type filter hook input priority filter; policy drop;
				iifname "lo" accept
				ct state established,related accept
				iifname "lan" icmp type echo-request accept
			}
			chain forward {
				type filter hook forward priority filter; policy drop;
				iifname "lan" oifname "wan" accept
				iifname "wan" ct state established,related accept
				iifname "wan" ct status dnat accept
			}
		}`

// hairpin adds to a box what [Hairpin] says. The notes are those of a full
// cone, for all kinds: masquerade keeps the port, so that who uses a port tells
// where its external one leads.
func hairpin(external netip.Addr) string {
	return fmt.Sprintf(`
		table ip natlab_hairpin {
			map cone {
				type inet_proto . inet_service : ipv4_addr . inet_service
				flags dynamic, timeout
				timeout 300s
				size 65535
			}
			chain learn {
				type filter hook postrouting priority 90; policy accept;
				oifname "wan" meta l4proto { tcp, udp } update @cone { meta l4proto . th sport : ip saddr . th sport }
			}
			chain prerouting {
				type nat hook prerouting priority dstnat; policy accept;
				iifname "lan" ip daddr %[1]s dnat ip to meta l4proto . th dport map @cone
			}
			chain postrouting {
				type nat hook postrouting priority srcnat; policy accept;
				iifname "lan" oifname "lan" ct status dnat snat to %[1]s
			}
		}
		table ip natlab {
			chain forward {
				iifname "lan" oifname "lan" ct status dnat accept
			}
		}`, external)
}

// A Restriction is what a network lets out at all, whatever its NAT.
type Restriction int

const (
	// UDPBlocked: no UDP, in or out. Many companies.
	UDPBlocked Restriction = iota + 1
	// TCP443Only: nothing but TCP to port 443. Hotels, and stricter companies.
	TCP443Only
	// TLS443Only: and there no connection whose first bytes are not those of a
	// TLS handshake. Firewalls that look into what they let out.
	TLS443Only
)

func (r Restriction) String() string {
	switch r {
	case UDPBlocked:
		return "UDPBlocked"
	case TCP443Only:
		return "TCP443Only"
	case TLS443Only:
		return "TLS443Only"
	}
	return fmt.Sprintf("Restriction(%d)", int(r))
}

// Restrict drops silently, from now on, what the network behind the box is not
// to send and receive; connections that exist suffer too. What was forbidden
// before stays so.
func (b *Box) Restrict(r Restriction) {
	b.lab.tb.Helper()
	var script string
	switch r {
	case UDPBlocked:
		script = `
			insert rule ip natlab forward iifname "lan" oifname "wan" meta l4proto udp drop
			insert rule ip natlab forward iifname "wan" oifname "lan" meta l4proto udp drop`
	case TCP443Only, TLS443Only:
		script = `
			insert rule ip natlab forward iifname "lan" oifname "wan" meta l4proto != tcp drop
			insert rule ip natlab forward iifname "lan" oifname "wan" tcp dport != 443 drop
			insert rule ip natlab forward iifname "wan" oifname "lan" meta l4proto != tcp drop
			insert rule ip natlab forward iifname "wan" oifname "lan" tcp sport != 443 drop`
		if r == TLS443Only {
			// A packet without payload matches neither: there is nothing to load.
			// Inserted last, so looked at first, is what tells a TLS handshake
			// (record type 22, version 3.x, RFC 8446 section 5.1).
			script += `
			insert rule ip natlab forward iifname "lan" oifname "wan" tcp dport 443 ct mark 0 @ih,0,8 != 0x16 drop
			insert rule ip natlab forward iifname "lan" oifname "wan" tcp dport 443 ct mark 0 @ih,0,16 0x1603 ct mark set 1`
		}
	default:
		b.lab.tb.Fatalf("natlab: no such restriction: %s", r)
	}
	if r == TLS443Only {
		// Payload is matched by nft 1.0.1 and Linux 5.16 at the earliest.
		if err := nft(b.netns, script, "-c"); err != nil {
			unmet(b.lab.tb, "nftables that looks into packets (nft 1.0.1, Linux 5.16): "+firstLine(err))
		}
	}
	b.lab.must(nft(b.netns, script))
}
