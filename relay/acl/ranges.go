package acl

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
)

// ranges says for each address of one family which rule is the first that
// holds for it: a sorted table of where that changes, so that a lookup is one
// binary search, however the networks lie in one another.
type ranges []change

type change struct {
	from netip.Addr
	rule int // none if no rule holds
}

const none = math.MaxInt

// network is one rule about addresses.
type network struct {
	netip.Prefix
	rule int
}

// first returns the first rule for ip, or other if that is before it.
func (r ranges) first(ip netip.Addr, other int) int {
	i, found := slices.BinarySearchFunc(r, ip, func(c change, ip netip.Addr) int { return c.from.Compare(ip) })
	if !found {
		i--
	}
	if i < 0 {
		return other
	}
	return min(other, r[i].rule)
}

// newRanges builds the table. All networks are of one family. Two of them are
// apart or one lies in the other, so that those open at any point of the walk
// form a stack.
func newRanges(list []network) ranges {
	slices.SortFunc(list, func(a, b network) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()), cmp.Compare(a.rule, b.rule))
	})
	var (
		r    ranges
		open []network // rule is here the first of this and all around it
	)
	set := func(from netip.Addr, rule int) {
		if n := len(r); n > 0 && r[n-1].from == from {
			r[n-1].rule = rule
			return
		}
		r = append(r, change{from, rule})
	}
	around := func() int {
		if len(open) == 0 {
			return none
		}
		return open[len(open)-1].rule
	}
	closeOne := func() {
		after := last(open[len(open)-1].Prefix).Next()
		open = open[:len(open)-1]
		if after.IsValid() { // else it was the last address of all
			set(after, around())
		}
	}
	for _, n := range list {
		for len(open) > 0 && !open[len(open)-1].Contains(n.Addr()) {
			closeOne()
		}
		n.rule = min(n.rule, around())
		set(n.Addr(), n.rule)
		open = append(open, n)
	}
	for len(open) > 0 {
		closeOne()
	}
	return slices.Clip(slices.CompactFunc(r, func(a, b change) bool { return a.rule == b.rule }))
}

// last is the last address of a network.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
