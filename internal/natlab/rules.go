//go:build linux

package natlab

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
