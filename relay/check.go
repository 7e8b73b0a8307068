package relay

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Check looks whether the books agree with each other: every count with what
// it counts. An error is a bug of this package. It takes time in proportion to
// what there is, and holds up the relay for as long.
func (r *Relay) Check() error {
	err := r.table.check()
	if n := r.larges.lent.Load(); n < 0 || n > maxLarge {
		err = errors.Join(err, fmt.Errorf("%d large buffers are lent, of %d", n, maxLarge))
	}
	return err
}

func (t *table) check() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	ips, subnets := make(counts[netip.Addr]), make(counts[netip.Prefix])
	systems, classes := make(counts[uint32]), make(counts[string])
	for p, h := range t.held {
		if h.peer != p {
			bad("reservation of %s is filed under %s", h.peer, p)
		}
		classes.add(h.class.Name, 1)
		if h.origin.ip.IsValid() {
			ips.add(h.origin.host(), 1)
			subnets.add(h.origin.subnet(), 1)
			if h.origin.system != 0 {
				systems.add(h.origin.system, 1)
			}
		}
	}
	same(bad, "reservations per IP", t.ips, ips)
	same(bad, "reservations per subnet", t.subnets, subnets)
	same(bad, "reservations per AS", t.systems, systems)
	same(bad, "reservations per class", t.classes, classes)

	filed := 0
	for slot, h := range t.expiry.slots {
		var prev *reservation
		for ; h != nil; prev, h = h, h.next {
			if filed++; filed > len(t.held) {
				bad("the wheel has more than the %d reservations, or a circle", len(t.held))
				break
			}
			if h.slot != slot || h.prev != prev || t.held[h.peer] != h {
				bad("reservation of %s is not where the wheel has it", h.peer)
			}
		}
	}
	if filed < len(t.held) {
		bad("the wheel has %d of %d reservations", filed, len(t.held))
	}

	pairs, sources := make(counts[pair]), make(counts[netip.Addr])
	ends := make(map[peer.ID]int)
	for id, c := range t.circuits {
		if c.id != id {
			bad("circuit %d is filed under %d", c.id, id)
		}
		pairs.add(pair{c.src, c.dst}, 1)
		if c.from.IsValid() {
			sources.add(c.from, 1)
		}
		for _, p := range []peer.ID{c.src, c.dst} {
			ends[p]++
			if e := t.ends[p]; e == nil {
				bad("%s has circuit %d and is no end", p, id)
			} else if _, ok := e.circuits[c]; !ok {
				bad("circuit %d is not among those of %s", id, p)
			}
		}
	}
	same(bad, "circuits per pair", t.pairs, pairs)
	same(bad, "circuits per IP", t.sources, sources)
	for p, e := range t.ends {
		if len(e.circuits) != ends[p] {
			bad("%s has %d circuits, and is counted for %d", p, ends[p], len(e.circuits))
		}
	}
	return errors.Join(errs...)
}

func same[K comparable](bad func(string, ...any), what string, got, want counts[K]) {
	if !maps.Equal(got, want) {
		bad("%s: counted %v, there are %v", what, got, want)
	}
}
