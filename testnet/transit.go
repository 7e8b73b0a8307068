package testnet

import (
	"container/heap"
	"net/netip"
	"time"
)

// maxInTransit bounds the packets under way in one Net; more are dropped. At
// 1.2 kB each it is about 150 MB, far beyond what bandwidth × latency of a
// simulation that fits one process comes to.
const maxInTransit = 1 << 17

// packet is one UDP datagram. The payload is never written to once sent.
type packet struct {
	src, dst netip.AddrPort
	payload  []byte
	origin   *Host // who sent it, whatever src says by now
}

// headerSize is what IPv4 and UDP add to a payload on the line.
const headerSize = 20 + 8

func (p packet) bits() int { return 8 * (len(p.payload) + headerSize) }

// arrival is a packet that will be somewhere at some time: at the node that
// owns its destination address on a segment, or, if host is set, through with
// that machine's downlink.
type arrival struct {
	at   time.Time
	seq  uint64 // packets due at the same time keep their order
	p    packet
	on   *segment
	host *Host
}

// transit holds the packets under way. It is guarded by Net.mu.
type transit struct {
	due arrivals
	seq uint64
}

// arrivals is a heap, the next one due first.
type arrivals []arrival

func (a arrivals) Len() int { return len(a) }
func (a arrivals) Less(i, j int) bool {
	if !a[i].at.Equal(a[j].at) {
		return a[i].at.Before(a[j].at)
	}
	return a[i].seq < a[j].seq
}
func (a arrivals) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *arrivals) Push(x any)   { *a = append(*a, x.(arrival)) }
func (a *arrivals) Pop() any {
	old := *a
	last := old[len(old)-1]
	old[len(old)-1] = arrival{} // let go of the payload
	*a = old[:len(old)-1]
	return last
}

// send takes a packet from a socket of h. Whatever happens to it, the sender
// does not learn of it, as with UDP.
func (n *Net) send(h *Host, p packet) {
	n.mu.Lock()
	departs, p, on, ok := n.departLocked(h, p)
	n.mu.Unlock()
	if !ok {
		return
	}
	latency := max(0, n.cfg.LatencyFunc(p.src.Addr(), p.dst.Addr()))
	n.mu.Lock()
	defer n.mu.Unlock()
	n.scheduleLocked(arrival{at: departs.Add(latency), p: p, on: on})
}

// departLocked takes a packet up to the segment on which its destination lives,
// translating its source on the way, and says when its last bit is sent.
func (n *Net) departLocked(h *Host, p packet) (departs time.Time, _ packet, on *segment, ok bool) {
	now := time.Now()
	switch {
	case n.closed:
		n.drops[DropNetClosed]++
		return now, p, nil, false
	case h.killed:
		n.drops[DropKilled]++
		return now, p, nil, false
	case h.dropOutgoing:
		n.drops[DropOutgoing]++
		return now, p, nil, false
	}
	departs, ok = h.up.reserve(now, p.bits())
	if !ok {
		n.drops[DropLinkFull]++
		return now, p, nil, false
	}
	if p.dst.Addr().Is6() {
		// No box translates IPv6: all machines are on the internet.
		h.firewall.sent(now, p)
		if _, here := n.internet.nodes[p.dst.Addr()]; !here {
			n.drops[DropNoRoute]++
			return now, p, nil, false
		}
		return n.rollLocked(h, departs, p, n.internet)
	}
	on = h.segment
	for {
		if _, here := on.nodes[p.dst.Addr()]; here {
			break
		}
		if on.gateway == nil {
			n.drops[DropNoRoute]++
			return now, p, nil, false
		}
		box := on.gateway
		if p, ok = box.outboundLocked(now, p); !ok {
			return now, p, nil, false
		}
		on = box.outside
	}
	return n.rollLocked(h, departs, p, on)
}

// rollLocked lets the dice decide. They come last, so that a packet the boxes
// refuse anyway does not shift the fate of later ones.
func (n *Net) rollLocked(h *Host, departs time.Time, p packet, on *segment) (time.Time, packet, *segment, bool) {
	if n.cfg.Loss > 0 && h.dice.Float64() < n.cfg.Loss {
		n.drops[DropLoss]++
		return departs, p, nil, false
	}
	return departs, p, on, true
}

func (n *Net) scheduleLocked(a arrival) {
	if n.closed {
		n.drops[DropNetClosed]++
		return
	}
	if len(n.transit.due) >= maxInTransit {
		n.drops[DropNetFull]++
		return
	}
	n.transit.seq++
	a.seq = n.transit.seq
	heap.Push(&n.transit.due, a)
	if n.transit.due[0].seq == a.seq {
		select {
		case n.wake <- struct{}{}:
		default:
		}
	}
}

// run delivers packets when they are due until the network is closed.
func (n *Net) run() {
	defer close(n.stopped)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-n.done:
			return
		case <-n.wake:
		case <-timer.C:
		}
		if next, ok := n.deliverDue(); ok {
			timer.Reset(time.Until(next))
		} else {
			timer.Stop()
		}
	}
}

// deliverDue delivers all packets that are due and says when the next one is.
func (n *Net) deliverDue() (next time.Time, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	for len(n.transit.due) > 0 {
		if at := n.transit.due[0].at; at.After(now) {
			return at, true
		}
		a := heap.Pop(&n.transit.due).(arrival)
		if a.host != nil {
			a.host.deliverLocked(a.p)
		} else {
			n.arriveLocked(now, a.on, a.p)
		}
	}
	return time.Time{}, false
}

// arriveLocked hands a packet to whoever owns its destination address now.
func (n *Net) arriveLocked(now time.Time, on *segment, p packet) {
	to, ok := on.nodes[p.dst.Addr()]
	if !ok {
		n.drops[DropNoRoute]++
		return
	}
	to.arriveLocked(now, p)
}
