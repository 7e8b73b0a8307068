package autorelay

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"time"

	asnutil "github.com/libp2p/go-libp2p-asn-util"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Which relays to hold. All of it rests on one figure, the cost of a relay:
// its round trip time, made worse by load, by a bad past, and by standing next
// to a relay that we hold already, because the two may die together.

const (
	// rttUnknown stands for a round trip time that was not measured yet.
	rttUnknown = 100 * time.Millisecond
	// rttFloor keeps differences between near relays from deciding.
	rttFloor = 5 * time.Millisecond
	// fuzz is by how much a cost is changed at random, up or down, so that a
	// crowd in one place does not agree on one relay.
	fuzz = 0.2
	// Neighbours share a /24 (IPv4) or /48 (IPv6) with a relay we hold, the
	// units in which networks are handed out.
	neighbourPenalty = 4
	// sameASPenalty is for a relay in the same autonomous system as one we hold:
	// one operator, one routing mistake.
	sameASPenalty = 1.5
	// limitedPenalty: a relay that limits circuits to less than smallData
	// serves for hole punching and little else, and so do most relays, as long
	// as they did not tell otherwise.
	limitedPenalty = 1.5
	smallData      = 1 << 20 // bytes
	// preferred makes a relay that the user prefers look this much nearer.
	preferred = 0.25
)

// cost is what using r would cost, lower is better. It is not fuzzed.
func (a *AutoRelay) cost(r *relay, now time.Time) float64 {
	rtt := r.rtt
	if rtt == 0 {
		rtt = rttUnknown
	}
	c := float64(max(rtt, rttFloor)) / float64(time.Millisecond)
	c *= 1 + r.load
	c *= 2 - a.cfg.History.reliability(r.id, now) // 1 for a perfect past, 2 for the worst
	c *= math.Pow(2, float64(min(r.failures, 8)))
	if !r.roomy {
		c *= limitedPenalty
	}
	if r.wish == Preferred {
		c *= preferred
	}
	return c * a.company(r)
}

// company is by how much r is worse for standing next to a relay that we hold.
func (a *AutoRelay) company(r *relay) float64 {
	worse := 1.0
	nets, systems := prefixes(r.addrs), asns(r.addrs)
	for _, h := range a.relays {
		switch {
		case h == r || !h.holds():
		case overlap(nets, prefixes(h.addrs)):
			return neighbourPenalty
		case overlap(systems, asns(h.addrs)):
			worse = sameASPenalty
		}
	}
	return worse
}

func fuzzed(c float64) float64 { return c * (1 - fuzz + 2*fuzz*rand.Float64()) }

// prefixes are the networks in which addresses lie.
func prefixes(addrs []ma.Multiaddr) map[netip.Prefix]bool {
	set := make(map[netip.Prefix]bool)
	for _, m := range addrs {
		ip, err := manet.ToIP(m)
		if err != nil {
			continue // a name
		}
		addr, ok := netip.AddrFromSlice(ip)
		if !ok || !isPublic(m) {
			continue
		}
		bits := 48
		if addr = addr.Unmap(); addr.Is4() {
			bits = 24
		}
		if p, err := addr.Prefix(bits); err == nil {
			set[p] = true
		}
	}
	return set
}

// asns are the autonomous systems in which addresses lie: of the IPv6 ones, as
// libp2p's table (go-libp2p-asn-util) has no others.
func asns(addrs []ma.Multiaddr) map[uint32]bool {
	set := make(map[uint32]bool)
	for _, m := range addrs {
		ip, err := manet.ToIP(m)
		if err != nil || ip.To4() != nil {
			continue
		}
		if asn := asnutil.AsnForIPv6(ip); asn != 0 {
			set[asn] = true
		}
	}
	return set
}

func overlap[K comparable](a, b map[K]bool) bool {
	for k := range a {
		if b[k] {
			return true
		}
	}
	return false
}

// pick chooses the relay to ask next: a pinned one, or the better of two taken
// at random, which spreads a crowd almost evenly (Mitzenmacher, "The Power of
// Two Choices in Randomized Load Balancing", 2001).
func (a *AutoRelay) pick(now time.Time, ok func(*relay) bool) *relay {
	var list []*relay
	for _, r := range a.relays {
		if r.busy || r.holds() || r.wish == Banned || now.Before(r.retryAt) || !ok(r) {
			continue
		}
		if r.wish == Pinned {
			return r
		}
		// Relays that failed are asked when no others are left.
		if len(list) > 0 && r.failures != list[0].failures {
			if r.failures > list[0].failures {
				continue
			}
			list = list[:0]
		}
		list = append(list, r)
	}
	if len(list) == 0 {
		return nil
	}
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	if len(list) > 1 && a.less(list[1], list[0], now) {
		return list[1]
	}
	return list[0]
}

func (a *AutoRelay) less(x, y *relay, now time.Time) bool {
	return fuzzed(a.cost(x, now)) < fuzzed(a.cost(y, now))
}

// trim lets go of what we hold beyond what is wanted and pinned: a relay is not
// pinned any more, or one was taken for fear that all others are gone.
func (a *AutoRelay) trim(now time.Time) {
	for {
		extra := -a.cfg.Relays - a.cfg.Standby
		var worst *relay
		for _, r := range a.relays {
			if r.state != Reserved {
				continue
			}
			if r.wish != Pinned {
				extra++
			}
			// The standby rather than what is advertised, then the dearest.
			if r.wish == NoWish && (worst == nil || worst.shown && !r.shown ||
				worst.shown == r.shown && a.betterToShow(worst, r, now)) {
				worst = r
			}
		}
		if extra <= 0 || worst == nil {
			return
		}
		a.release(worst, NotNeeded, now)
	}
}

// doubtful reports whether all relays that we hold missed their last probe or
// are about to leave.
func (a *AutoRelay) doubtful() bool {
	for _, r := range a.relays {
		if r.state == Reserved && r.missed == 0 {
			return false
		}
	}
	return true
}

// missing is how many reservations are wanted beyond those we hold.
func (a *AutoRelay) missing(now time.Time) int {
	want := a.cfg.Relays + a.cfg.Standby
	if a.scarce(now) {
		want = 1
	}
	held, pins := a.countReserved(), 0
	for _, r := range a.relays {
		if r.wish == Pinned && !r.holds() && !r.busy && !now.Before(r.retryAt) {
			pins++ // wanted besides what we have
		}
	}
	want = max(want, held+pins)
	if a.doubtful() {
		want = max(want, held+1) // so that it is there when they turn out to be gone
	}
	return want - held
}
