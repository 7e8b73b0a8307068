package main

import (
	"slices"
	"sync"
	"time"
)

// crowdRows are about many nodes that want the same few relays.
func crowdRows() []*scenario {
	return []*scenario{{
		id: "10", row: 10, sides: everySide, once: true, limit: 90 * time.Minute,
		figures: []figure{
			{id: "10a", what: "a crowd wants 2 slots each, 85 % of that there: nodes with none", unit: count, bound: bounded(0)},
			{id: "10b", what: "  … nodes with one", unit: count},
			{id: "10c", what: "  … nodes with two or more", unit: count},
			{id: "10d", what: "  … reservations at the emptiest relay", unit: count},
			{id: "10e", what: "  … reservations at the fullest relay", unit: count},
			{id: "10f", what: "3 of 8 relays die at once: nodes without a live address after 10 s", unit: count},
			{id: "10g", what: "  … after 60 s", unit: count},
			{id: "10h", what: "  … after 10 min", unit: count},
		},
		run: crowd,
	}}
}

const (
	crowdRelays = 8   // for every 600 nodes
	crowdSlots  = 128 // of each relay, for 600 nodes and more
	crowdNodes  = 600
	gathering   = 30 * time.Second // in which the crowd arrives
	settling    = 5 * time.Minute  // before it is counted
)

// crowd lets many nodes arrive at relays that have slots for 85 % of what they
// want. Fewer nodes than 600 find smaller relays, more find more of them.
func crowd(w *world) values {
	n := w.size.Crowd
	count, slots := crowdRelays, max(1, crowdSlots*n/crowdNodes)
	if n > crowdNodes {
		count, slots = crowdRelays*n/crowdNodes, crowdSlots
	}
	relays := w.relaysOf(count, limits{reservations: slots, perIP: slots})
	time.Sleep(dust)
	nodes := make([]*subject, n)
	for i := range nodes {
		nodes[i] = w.private(relays)
		if (i+1)%100 == 0 {
			progress("%d of %d nodes have started", i+1, n)
		}
		time.Sleep(gathering / time.Duration(n))
	}
	for i := range 5 {
		time.Sleep(settling / 5)
		progress("%v after the last has come: %d nodes without a live address", settling/5*time.Duration(i+1), without(nodes))
	}
	v := values{}
	byCount := [3]int{}
	for _, live := range lives(nodes) {
		byCount[min(live, 2)]++
	}
	for i, id := range []string{"10a", "10b", "10c"} {
		v.number(id, float64(byCount[i]))
	}
	load := make([]int, len(relays))
	for i, r := range relays {
		for _, s := range nodes {
			if r.holds(s.host.ID()) {
				load[i]++
			}
		}
	}
	v.number("10d", float64(slices.Min(load)))
	v.number("10e", float64(slices.Max(load)))
	progress("reservations by relay: %v", load)

	for _, r := range relays[:count*3/8] {
		r.vanish()
	}
	begun := time.Now()
	for _, at := range []struct {
		id    string
		after time.Duration
	}{{"10f", 10 * time.Second}, {"10g", time.Minute}, {"10h", 10 * time.Minute}} {
		time.Sleep(time.Until(begun.Add(at.after)))
		k := without(nodes)
		progress("%v after relays died: %d nodes without a live address", at.after, k)
		v.number(at.id, float64(k))
	}
	return v
}

// lives is the number of working relays of each node.
func lives(nodes []*subject) []int {
	out := make([]int, len(nodes))
	var wg sync.WaitGroup
	for part := range slices.Chunk(indexes(len(nodes)), max(1, len(nodes)/8)) {
		wg.Go(func() {
			for _, i := range part {
				out[i] = nodes[i].live()
			}
		})
	}
	wg.Wait()
	return out
}

func indexes(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// without counts the nodes that have no working circuit address.
func without(nodes []*subject) (n int) {
	for _, live := range lives(nodes) {
		if live == 0 {
			n++
		}
	}
	return n
}
