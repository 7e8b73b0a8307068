package relay

import "time"

// wheelSlot is how exact the sweep is. Whoever asks for a circuit in between is
// told at once that the reservation is over (table.heldLocked).
const wheelSlot = 16 * time.Second

// wheel finds the reservations that end without looking at the others: a list
// of them for each slot of time, linked through the reservations themselves.
type wheel struct {
	base  time.Time // slots are counted from it, by the clock that does not jump
	slots map[int64]*reservation
}

func newWheel() wheel { return wheel{base: time.Now(), slots: make(map[int64]*reservation)} }

func (w wheel) slot(t time.Time) int64 { return int64(t.Sub(w.base) / wheelSlot) }

func (w wheel) add(r *reservation) {
	r.slot = w.slot(r.expires)
	r.prev, r.next = nil, w.slots[r.slot]
	if r.next != nil {
		r.next.prev = r
	}
	w.slots[r.slot] = r
}

func (w wheel) remove(r *reservation) {
	switch {
	case r.prev != nil:
		r.prev.next = r.next
	case r.next != nil:
		w.slots[r.slot] = r.next
	default:
		delete(w.slots, r.slot)
	}
	if r.next != nil {
		r.next.prev = r.prev
	}
	r.prev, r.next = nil, nil
}

// due lists the reservations in slots that are over. There are as many slots as
// fit between now and the end of the longest reservation, a few hundred.
func (w wheel) due(now time.Time) []*reservation {
	var list []*reservation
	for slot, r := range w.slots {
		if slot >= w.slot(now) {
			continue
		}
		for ; r != nil; r = r.next {
			list = append(list, r)
		}
	}
	return list
}
