package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
)

// dayRows are about a long time in which things go wrong all the time.
func dayRows() []*scenario {
	return []*scenario{{
		id: "11", row: 11, sides: everySide, once: true, limit: 90 * time.Minute,
		figures: []figure{
			{id: "11a", what: "a day under churn: time with a working circuit address, all nodes", unit: percent},
			{id: "11b", what: "  … the unluckiest node", unit: percent},
			{id: "11c", what: "  … longest time without, any node", unit: seconds},
			{id: "11d", what: "  … time without, although a relay in reach had a free slot", unit: percent},
		},
		run: day,
	}}
}

const (
	dayRelays   = 12
	sampleEvery = 10 * time.Second

	// The mean pauses between two mishaps, per relay or node.
	leavesEvery   = 6 * time.Hour // a relay goes away without a word …
	awayFor       = time.Hour     // … and is back after this, on average
	restartsEvery = 4 * time.Hour // a relay restarts, half of them by a crash
	rebindsEvery  = 2 * time.Hour // a NAT box forgets its mappings
	flapsEvery    = 3 * time.Hour // a node has no network …
	flapFor       = 30 * time.Second
	cutsEvery     = 3 * time.Hour // a node cannot reach one of the relays …
	cutFor        = 5 * time.Minute
)

// happening is something that goes wrong, or is over, at a moment.
type happening struct {
	at time.Duration
	do func()
}

// calendar makes up what happens, the same for every side with the same seed.
type calendar struct {
	rng  *rand.Rand
	end  time.Duration
	list []happening
}

func newCalendar(seed uint64, end time.Duration) *calendar {
	return &calendar{rng: rand.New(rand.NewPCG(seed, 11)), end: end}
}

// pause draws from an exponential distribution.
func (c *calendar) pause(mean time.Duration) time.Duration {
	return time.Duration(c.rng.ExpFloat64() * float64(mean))
}

// every lets do happen again and again; lasting is drawn for it.
func (c *calendar) every(mean, lasting time.Duration, begin, end func()) {
	for t := c.pause(mean); t < c.end; t += c.pause(mean) {
		c.list = append(c.list, happening{t, begin})
		if end != nil {
			t += c.pause(lasting)
			c.list = append(c.list, happening{t, end})
		}
	}
}

// sorted is the calendar in order of time.
func (c *calendar) sorted() []happening {
	slices.SortStableFunc(c.list, func(a, b happening) int { return int(a.at - b.at) })
	return c.list
}

// day runs private nodes on relays that leave, come back, restart and fill up,
// behind boxes that forget, with links that fail.
func day(w *world) values {
	// Twice as many slots as a stock node's two: relays do fill up when some
	// are away and others hold standbys.
	slots := (w.size.Nodes*2*2 + dayRelays - 1) / dayRelays
	relays := w.relaysOf(dayRelays, limits{reservations: slots, perIP: slots})
	time.Sleep(dust)
	nodes := make([]*subject, w.size.Nodes)
	for i := range nodes {
		nodes[i] = w.private(relays)
		time.Sleep(time.Second)
	}
	time.Sleep(5 * time.Minute) // go-libp2p's boot delay is not what is measured here

	length := time.Duration(w.size.Hours) * time.Hour
	c := newCalendar(w.seed, length)
	for _, r := range relays {
		away := false
		c.every(leavesEvery, awayFor,
			func() { away = true; r.leave() },
			func() { away = false; r.comeBack() })
		c.every(restartsEvery, 0, func() {
			if away {
				return
			}
			if c.rng.IntN(2) == 0 {
				r.crash()
			} else {
				r.stop()
			}
			time.Sleep(downtime)
			r.start()
		}, nil)
	}
	offline := make([]bool, len(nodes))
	type pair struct{ node, relay int }
	cut := make(map[pair]bool)
	for i, s := range nodes {
		c.every(rebindsEvery, 0, s.nat.Rebind, nil)
		c.every(flapsEvery, flapFor,
			func() { offline[i] = true; s.box.Kill() },
			func() { offline[i] = false; s.box.Revive() })
		k := pair{node: i}
		c.every(cutsEvery, cutFor,
			func() {
				// One that it uses, else it would not matter.
				k.relay = c.rng.IntN(len(relays))
				if used := s.used(); len(used) > 0 {
					k.relay = slices.Index(relays, used[c.rng.IntN(len(used))])
				}
				cut[k] = true
				w.net.Cut(s.box, relays[k.relay].box)
			},
			func() {
				delete(cut, k)
				w.net.Mend(s.box, relays[k.relay].box)
			})
	}

	var (
		todo     = c.sorted()
		begun    = time.Now()
		seen     = make([]int, len(nodes)) // samples while online
		without  = make([]int, len(nodes)) // of these, without a working address
		needless = 0                       // of these, although a relay had room
		total    = 0
		since    = make([]time.Time, len(nodes))
		longest  time.Duration
		hour     = 0
	)
	for next := begun; time.Since(begun) < length; {
		next = next.Add(sampleEvery)
		for len(todo) > 0 && begun.Add(todo[0].at).Before(next) {
			time.Sleep(time.Until(begun.Add(todo[0].at)))
			todo[0].do()
			todo = todo[1:]
		}
		time.Sleep(time.Until(next))
		ok := working(nodes)
		for i := range nodes {
			if offline[i] {
				since[i] = time.Time{}
				continue // nothing could help
			}
			seen[i]++
			total++
			if ok[i] {
				since[i] = time.Time{}
				continue
			}
			without[i]++
			if since[i].IsZero() {
				since[i] = next
			}
			longest = max(longest, next.Sub(since[i])+sampleEvery)
			for k, r := range relays {
				if r.up && !cut[pair{i, k}] && r.free() > 0 {
					needless++
					break
				}
			}
		}
		if h := int(time.Since(begun) / time.Hour); h > hour {
			hour = h
			progress("hour %d of %d: %.3f %% of the time with a working address", h, w.size.Hours, 100*share(sum(seen)-sum(without), sum(seen)))
		}
	}
	v := values{}
	v.number("11a", 100*share(total-sum(without), total))
	worst := 1.0
	for i := range nodes {
		worst = min(worst, share(seen[i]-without[i], seen[i]))
	}
	v.number("11b", 100*worst)
	v.number("11c", longest.Seconds())
	v.number("11d", 100*share(needless, total))
	return v
}

func sum(list []int) (n int) {
	for _, x := range list {
		n += x
	}
	return n
}

func share(part, whole int) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// free is how many reservations the relay could still give.
func (r *relayHost) free() int {
	used := 0
	for _, p := range r.host.Network().Peers() {
		if r.holds(p) {
			used++
		}
	}
	return r.limits.reservations - used
}

// working tells which nodes can be reached through a relay right now: they
// advertise it, it holds their reservation, and it can talk to them.
func working(nodes []*subject) []bool {
	out := make([]bool, len(nodes))
	var all sync.WaitGroup
	for i, s := range nodes {
		all.Go(func() {
			used := s.used()
			answers := make(chan bool, len(used))
			for _, r := range used {
				go func() { answers <- r.serving() && r.reaches(s.host.ID()) }()
			}
			for range used {
				out[i] = <-answers || out[i]
			}
		})
	}
	all.Wait()
	return out
}

// reaches reports whether p answers the relay within 2 s.
func (r *relayHost) reaches(p peer.ID) bool {
	ctx, cancel := context.WithTimeout(network.WithNoDial(r.w.Context(), "bench"), 2*time.Second)
	defer cancel()
	res, ok := <-ping.Ping(ctx, r.host, p)
	return ok && res.Error == nil
}
