package reachability

import (
	"context"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"

	"github.com/causeway-p2p/causeway/internal/maddr"
)

// server is an AutoNAT v2 server that we are connected to.
type server struct {
	inFlight int
	doors    map[string]struct{} // of what is in flight
	recent   []time.Time         // requests of the last minute
}

const (
	// maxPerServer bounds the requests in flight at one server; go-libp2p's
	// server refuses more than 2 (autonatv2/options.go), and one that dials
	// into the void is in flight there for 5 s.
	maxPerServer = 2
	// maxPerMinute stays below the 12 requests a minute that go-libp2p's
	// server grants one peer.
	maxPerMinute = 10
	// idleWake is how often the addresses are looked at when no probe is due.
	idleWake = 5 * time.Second
)

func (s *server) available(now time.Time) bool {
	s.recent = slices.DeleteFunc(s.recent, func(at time.Time) bool { return now.Sub(at) > time.Minute })
	return s.inFlight < maxPerServer && len(s.recent) < maxPerMinute
}

// updateServer adds or removes p as an AutoNAT v2 server and as one who has
// strangers dial, by what the peerstore and the swarm say now: identify and
// connectedness events come in no particular order.
func (t *Tracker) updateServer(p peer.ID) {
	connected := t.connected(p)
	if t.cfg.Strangers != nil {
		protos, err := t.cfg.Host.Peerstore().SupportsProtocols(p, t.cfg.Strangers.Protocol())
		if connected && err == nil && len(protos) > 0 {
			if _, known := t.vias[p]; !known {
				t.vias[p] = struct{}{}
				t.newVia(time.Now())
			}
		} else {
			delete(t.vias, p)
		}
	}
	protos, err := t.cfg.Host.Peerstore().SupportsProtocols(p, autonatv2.DialProtocol)
	offers := connected && err == nil && len(protos) > 0
	delete(t.locals, p)
	if offers && t.isHere(p) {
		t.locals[p] = struct{}{}
		offers = false
	}
	if offers {
		if t.servers[p] == nil {
			t.servers[p] = &server{doors: make(map[string]struct{})}
			now := time.Now()
			for _, c := range t.addrs {
				if _, judged := c.outcomes[p]; !judged {
					c.hasten(now)
				}
			}
		}
		return
	}
	if s := t.servers[p]; s != nil && s.inFlight == 0 {
		delete(t.servers, p)
	}
}

// startProbes sends the candidates that are due to servers that have room:
// every address once, and only then those that nobody has judged yet to a
// second server at the same time, which leaves room at it for addresses that
// we hear of a moment later.
func (t *Tracker) startProbes(ctx context.Context, now time.Time) {
	all := t.byUrgency()
	slices.SortStableFunc(all, func(a, b *candidate) int { return min(len(a.outcomes), 1) - min(len(b.outcomes), 1) })
	for _, c := range all {
		if len(c.asking) > 0 || now.Before(c.next) || !c.probeable() || t.led(c, all) {
			continue
		}
		if id, ok := t.pickServer(c, now, false); ok {
			t.probe(ctx, c, id, now)
		} else if c.queued.IsZero() && t.crowded(c) {
			c.queued = now
		}
	}
	for _, c := range all {
		if len(c.asking) != 1 || !c.fleeting() {
			continue
		}
		if id, ok := t.pickServer(c, now, true); ok {
			t.probe(ctx, c, id, now)
		}
	}
}

// led reports whether another candidate is probed in c's place.
func (t *Tracker) led(c *candidate, all []*candidate) bool {
	return slices.ContainsFunc(all, func(l *candidate) bool { return l.leads(c) })
}

// follow gives those who are led what was found for who leads.
func (t *Tracker) follow() {
	all := t.byUrgency()
	for _, l := range all {
		for _, c := range all {
			if l.leads(c) && l.reachable != Unknown {
				c.outcomes, c.reachable, c.failures, c.settled = l.outcomes, l.reachable, l.failures, l.settled
				c.proof, c.filtered, c.denied, c.renewed, c.next = l.proof, l.filtered, l.denied, l.renewed, l.next
			}
		}
	}
}

func (t *Tracker) probe(ctx context.Context, c *candidate, id peer.ID, now time.Time) {
	s := t.servers[id]
	s.inFlight++
	s.recent = append(s.recent, now)
	s.doors[c.door()] = struct{}{}
	c.asking[id] = struct{}{}
	key, addr, sendData, door, in, wait := c.key(), c.addr, c.trusted(), c.door(), c.comesIn(), c.patience(now)
	c.queued = time.Time{}
	t.probes.Go(func() {
		t.client.ask(ctx, id, addr, sendData, in, wait, func(r result) {
			r.key, r.server, r.door = key, id, door
			t.report(ctx, r)
		})
	})
}

// report hands a result to Run.
func (t *Tracker) report(ctx context.Context, r result) {
	select {
	case t.results <- r:
	case <-ctx.Done():
	}
}

// sees reports whether a server sees us at c's IP address. It asks for no dial
// data then (autonatv2/server.go, amplificationAttackPrevention).
func (t *Tracker) sees(id peer.ID, c *candidate) bool {
	if _, observer := c.observers[id]; observer {
		return true
	}
	ip := maddr.IP(c.addr)
	for _, s := range t.sights {
		if ip.IsValid() && s.by == id && s.at.Addr() == ip {
			return true
		}
	}
	return false
}

// crowded reports whether some server has to finish something else before it
// can be asked about c.
func (t *Tracker) crowded(c *candidate) bool {
	for id, s := range t.servers {
		if _, observer := c.observers[id]; s.inFlight > 0 && (observer || c.trusted()) {
			return true
		}
	}
	return false
}

// pickServer prefers a server that has not judged this address yet, and among
// those one that asks for no dial data. Servers
// that have judged it take turns, so that one liar among them is never heard
// publicPatience times in a row. If idle, the server must have nothing to do.
func (t *Tracker) pickServer(c *candidate, now time.Time, idle bool) (best peer.ID, ok bool) {
	bestRank, bestAsked := -1, time.Time{}
	for id, s := range t.servers {
		_, observer := c.observers[id]
		_, busy := s.doors[c.door()]
		_, asking := c.asking[id]
		if !s.available(now) || busy || asking || idle && s.inFlight > 0 || (!observer && !c.trusted()) {
			continue
		}
		rank := 0
		o, judged := c.outcomes[id]
		if !judged || o.at.Before(c.renewed) {
			rank = 1
			if t.sees(id, c) {
				rank = 2
			}
		}
		if !judged {
			o = outcomeAt{}
		}
		better := rank > bestRank || rank == bestRank && o.asked.Before(bestAsked) ||
			rank == bestRank && o.asked.Equal(bestAsked) && s.inFlight < t.servers[best].inFlight
		// Ties are broken by map order, which spreads the load.
		if better {
			best, bestRank, bestAsked = id, rank, o.asked
		}
	}
	return best, bestRank >= 0
}

func (t *Tracker) record(r result, now time.Time) {
	log.Debug("answer", "server", r.server, "outcome", r.outcome, "reason", r.why)
	switch r.kind {
	case byHint:
		t.hint.record(r, now)
	case byStranger:
		if c := t.addrs[r.key]; c != nil {
			c.recordStranger(r, t.otherVia(c), now)
		}
	case byServer:
		t.recordServer(r, now)
	}
	t.follow()
}

func (t *Tracker) recordServer(r result, now time.Time) {
	s := t.servers[r.server]
	if s != nil && r.last {
		s.inFlight--
		delete(s.doors, r.door)
		t.updateServer(r.server)
	}
	c := t.addrs[r.key]
	if c == nil {
		return // the address went away meanwhile
	}
	delete(c.asking, r.server)
	c.record(r, t.otherServer(c), now)
}

// otherServer reports whether some server has not judged c yet and may.
func (t *Tracker) otherServer(c *candidate) bool {
	for id := range t.servers {
		o, judged := c.outcomes[id]
		_, observer := c.observers[id]
		if (!judged || o.at.Before(c.renewed)) && (observer || c.trusted()) {
			return true
		}
	}
	return false
}

// nextWake says how long Run may sleep.
func (t *Tracker) nextWake(now time.Time) time.Duration {
	wake, all := idleWake, t.byUrgency()
	for _, c := range all {
		if t.cfg.Strangers != nil && c.stranger.asking == 0 && c.wantsStranger(c.stranger.next) && !t.led(c, all) {
			wake = min(wake, max(c.stranger.next.Sub(now), time.Second))
		}
		if len(c.asking) > 0 || !c.probeable() {
			continue
		}
		// A candidate that is due now waits for a server: their rate limits
		// are a matter of seconds.
		wake = min(wake, max(c.next.Sub(now), time.Second))
	}
	return wake
}
