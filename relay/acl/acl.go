// Package acl says who may use the relay: a file of rules, one a line, of which
// the first that matches counts.
//
//	# what                     who                        class
//	allow 12D3KooW…            members                    # a peer ID, put into a class
//	deny  203.0.113.0/24                                  # a network, or one address
//	deny  AS64500                                         # an autonomous system
//	allow 2001:db8::/32        slow
//	deny  all
//
// Who matches no rule is allowed, in no class. Blank lines and what follows a #
// are not read.
//
// A rule about a peer ID needs no address and one about an address no peer ID:
// before a connection is secured, and when a peer comes through another relay,
// only one of them is known. IPv4 addresses that come mapped into IPv6 are IPv4.
//
// Autonomous systems are known for IPv6 only, from the table of
// go-libp2p-asn-util, which is as old as its release: an AS rule never matches
// an IPv4 address. To keep out a network for certain, name its prefixes.
package acl

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"

	asnutil "github.com/libp2p/go-libp2p-asn-util"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Rule is one line of the file.
type Rule struct {
	Line  int
	Allow bool
	// Who is as in the file, for logs: it may name a peer or an address.
	Who string
	// Class is what those who are allowed are put into; may be empty.
	Class string
}

// String is the rule as the file has it.
func (r Rule) String() string {
	s := "deny " + r.Who
	if r.Allow {
		s = "allow " + r.Who
	}
	if r.Class != "" {
		s += " " + r.Class
	}
	return s
}

// List is the rules of one file. It does not change, so it may be used
// concurrently. A nil or zero List has no rules.
type List struct {
	rules []Rule
	// What leads to a rule: its place in rules, always that of the first that
	// says the same.
	peers  map[peer.ID]int
	v4, v6 ranges
	asns   map[uint32]int
	all    int // 1 more than its place, or 0 if there is none
}

// Len is the number of rules.
func (l *List) Len() int {
	if l == nil {
		return 0
	}
	return len(l.rules)
}

// Classes lists the classes that rules name, sorted, each once.
func (l *List) Classes() []string {
	if l == nil {
		return nil
	}
	classes := make(map[string]bool)
	for _, r := range l.rules {
		if r.Class != "" {
			classes[r.Class] = true
		}
	}
	return slices.Sorted(maps.Keys(classes))
}

// Match returns the first rule that matches the peer or the address; either may
// be left empty if it is not known. If there is none, the peer is allowed.
func (l *List) Match(p peer.ID, ip netip.Addr) (Rule, bool) {
	if l == nil || len(l.rules) == 0 {
		return Rule{}, false
	}
	first := len(l.rules)
	if l.all > 0 {
		first = l.all - 1
	}
	if p != "" {
		if i, ok := l.peers[p]; ok {
			first = min(first, i)
		}
	}
	switch ip = ip.Unmap().WithZone(""); {
	case ip.Is4():
		first = l.v4.first(ip, first)
	case ip.Is6():
		first = l.v6.first(ip, first)
		if len(l.asns) > 0 {
			if i, ok := l.asns[asn(ip)]; ok {
				first = min(first, i)
			}
		}
	}
	if first == len(l.rules) {
		return Rule{}, false
	}
	return l.rules[first], true
}

// asn is the autonomous system of an IPv6 address, or 0 if it is not known.
func asn(ip netip.Addr) uint32 {
	b := ip.As16()
	return asnutil.AsnForIPv6Network(binary.BigEndian.Uint64(b[:8]))
}
