// Package reachability decides whether the internet can dial this node.
//
// A Tracker collects the addresses at which the node might be reachable (its
// public interface addresses, those that peers report through identify, those
// that the operator announced), asks AutoNAT v2 servers to dial each of them
// back, and reduces what it learns to one Verdict that carries its evidence:
//
//	identify, interfaces ─▶ candidates ─▶ dial-backs ─▶ reduce ─▶ Verdict
//	                           (AutoNAT v2, github.com/libp2p/specs/autonat)
//
// It is the only emitter of host reachability (event.EvtLocalReachabilityChanged),
// so that the DHT's mode, go-libp2p's address manager and this project's own
// rooms all follow the same verdict.
//
// It uses its own AutoNAT v2 client, because go-libp2p v0.51 asks a server at
// most once in 2 minutes (p2p/protocol/autonatv2/autonat.go) and only verifies
// observed addresses that four peers agree on, so that a node behind a
// symmetric NAT never gets a verdict. AutoNAT v1 is not asked at all.
//
// What it does not do: map ports, tell NAT types apart, or notice
// address-restricted NATs, which look public to every server that the node has
// already talked to.
package reachability

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/internal/logging"
)

var log = logging.For("reachability")

// Config is what a Tracker needs to know. Only Host is required.
type Config struct {
	// Host is probed. It must not run go-libp2p's own AutoNAT v2 client: both
	// would claim the dial-back protocol.
	Host host.Host
	// Announced are addresses that the operator vouches for. Public ones are
	// probed like all others; private ones count as reachable on the
	// operator's word, because AutoNAT does not judge private addresses.
	Announced []ma.Multiaddr
	// OnChange is called with every new verdict, from one goroutine, in order.
	// It must not block.
	OnChange func(Verdict)
}

// Tracker keeps the verdict. Create it with New and start it with Run.
type Tracker struct {
	// static after New
	cfg     Config
	client  *dialBackClient
	verdict atomic.Pointer[Verdict]

	// owned by Run
	addrs     map[string]*candidate // by multiaddr bytes
	servers   map[peer.ID]*server
	looked    time.Time // when our own addresses were last listed
	results   chan result
	published Verdict
	emitter   event.Emitter
	probes    sync.WaitGroup
}

// server is an AutoNAT v2 server that we are connected to.
type server struct {
	inFlight int
	recent   []time.Time // requests of the last minute
}

// New returns a tracker for the host. It makes the host answer dial-backs and
// tells its event bus that reachability is unknown; probing begins with Run.
func New(cfg Config) (*Tracker, error) {
	emitter, err := cfg.Host.EventBus().Emitter(new(event.EvtLocalReachabilityChanged), eventbus.Stateful)
	if err != nil {
		return nil, fmt.Errorf("reachability: event emitter: %w", err)
	}
	t := &Tracker{
		cfg:     cfg,
		client:  newDialBackClient(cfg.Host),
		addrs:   make(map[string]*candidate),
		servers: make(map[peer.ID]*server),
		results: make(chan result),
		emitter: emitter,
	}
	first := reduce(nil, 0, time.Now())
	t.published = first
	t.verdict.Store(&first)
	if err := t.emitter.Emit(event.EvtLocalReachabilityChanged{Reachability: network.ReachabilityUnknown}); err != nil {
		return nil, fmt.Errorf("reachability: emit: %w", err)
	}
	return t, nil
}

// Verdict returns the current verdict. It may be called at any time.
func (t *Tracker) Verdict() Verdict { return *t.verdict.Load() }

// Run probes until ctx ends, and waits for what it started.
func (t *Tracker) Run(ctx context.Context) error {
	sub, err := t.cfg.Host.EventBus().Subscribe([]any{
		new(event.EvtPeerIdentificationCompleted),
		new(event.EvtPeerProtocolsUpdated),
		new(event.EvtPeerConnectednessChanged),
		new(event.EvtLocalAddressesUpdated),
	}, eventbus.Name("causeway/reachability"), eventbus.BufSize(256))
	if err != nil {
		return fmt.Errorf("reachability: subscribe: %w", err)
	}
	defer sub.Close()
	defer t.emitter.Close()
	defer t.client.close()
	defer t.probes.Wait()

	// Peers that were connected before we subscribed.
	for _, p := range t.cfg.Host.Network().Peers() {
		t.updateServer(p)
	}
	t.updateOwnAddrs(time.Now())

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev, ok := <-sub.Out():
			if !ok {
				return nil
			}
			t.handle(ev, time.Now())
		case r := <-t.results:
			t.record(r, time.Now())
		case <-timer.C:
		}
		now := time.Now()
		// The address manager reports no change when an address that was
		// hidden (because it was unreachable) comes or goes.
		if now.Sub(t.looked) >= idleWake {
			t.updateOwnAddrs(now)
		}
		t.startProbes(ctx, now)
		t.publish(now)
		timer.Reset(t.nextWake(now))
	}
}

func (t *Tracker) handle(ev any, now time.Time) {
	switch ev := ev.(type) {
	case event.EvtPeerIdentificationCompleted:
		t.updateServer(ev.Peer)
		t.observe(ev, now)
	case event.EvtPeerProtocolsUpdated:
		t.updateServer(ev.Peer)
	case event.EvtPeerConnectednessChanged:
		t.updateServer(ev.Peer)
	case event.EvtLocalAddressesUpdated:
		t.updateOwnAddrs(now)
	}
}

// updateServer adds or removes p as an AutoNAT v2 server, by what the
// peerstore and the swarm say now: identify and connectedness events come in
// no particular order.
func (t *Tracker) updateServer(p peer.ID) {
	protos, err := t.cfg.Host.Peerstore().SupportsProtocols(p, autonatv2.DialProtocol)
	if err == nil && len(protos) > 0 && t.cfg.Host.Network().Connectedness(p) == network.Connected {
		if t.servers[p] == nil {
			t.servers[p] = &server{}
		}
		return
	}
	if s := t.servers[p]; s != nil && s.inFlight == 0 {
		delete(t.servers, p)
	}
}

const (
	// maxPerServer bounds the requests in flight at one server; go-libp2p's
	// server refuses more than 2 (autonatv2/options.go).
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

// startProbes sends every candidate that is due to a server that has room.
func (t *Tracker) startProbes(ctx context.Context, now time.Time) {
	for _, c := range t.byUrgency() {
		if c.inFlight || now.Before(c.next) || !c.probeable() {
			continue
		}
		id, ok := t.pickServer(c, now)
		if !ok {
			continue
		}
		s := t.servers[id]
		s.inFlight++
		s.recent = append(s.recent, now)
		c.inFlight = true
		key, addr, sendData := c.key(), c.addr, c.trusted()
		t.probes.Go(func() {
			out, why := t.client.ask(ctx, id, addr, sendData)
			select {
			case t.results <- result{key: key, server: id, outcome: out, why: why}:
			case <-ctx.Done():
			}
		})
	}
}

// pickServer prefers a server that has not judged this address yet, and among
// those one that reported it, because it asks for no dial data then. Servers
// that have judged it take turns, so that one liar among them is never heard
// publicPatience times in a row.
func (t *Tracker) pickServer(c *candidate, now time.Time) (peer.ID, bool) {
	var best peer.ID
	bestRank, bestAsked := -1, time.Time{}
	for id, s := range t.servers {
		_, observer := c.observers[id]
		if !s.available(now) || (!observer && !c.trusted()) {
			continue
		}
		rank := 0
		o, judged := c.outcomes[id]
		if !judged {
			rank = 1
			if observer {
				rank = 2
			}
		}
		// Ties are broken by map order, which spreads the load.
		if rank > bestRank || rank == bestRank && o.asked.Before(bestAsked) {
			best, bestRank, bestAsked = id, rank, o.asked
		}
	}
	return best, bestRank >= 0
}

func (t *Tracker) record(r result, now time.Time) {
	if s := t.servers[r.server]; s != nil {
		s.inFlight--
		t.updateServer(r.server)
	}
	c := t.addrs[r.key]
	if c == nil {
		return // the address went away meanwhile
	}
	c.inFlight = false
	c.record(r, t.otherServer(c), now)
	log.Debug("dial-back finished", "addr", c.addr, "server", r.server, "outcome", r.outcome, "reason", r.why)
}

// otherServer reports whether some server has not judged c yet and may.
func (t *Tracker) otherServer(c *candidate) bool {
	for id := range t.servers {
		_, judged := c.outcomes[id]
		_, observer := c.observers[id]
		if !judged && (observer || c.trusted()) {
			return true
		}
	}
	return false
}

// publish reduces what is known to a verdict and tells whoever follows it.
func (t *Tracker) publish(now time.Time) {
	v := reduce(t.byUrgency(), len(t.servers), now)
	changed := v.Reachability != t.published.Reachability
	if !changed {
		v.Since = t.published.Since
	}
	same := v.same(t.published)
	t.published = v
	t.verdict.Store(&v) // times and counts too, of which nobody is told
	if same {
		return
	}
	if changed {
		log.Info("reachability changed", "reachability", v.Reachability, "reason", v.Because)
		if err := t.emitter.Emit(event.EvtLocalReachabilityChanged{Reachability: v.Reachability.libp2p()}); err != nil {
			log.Warn("reachability event not delivered", "err", err)
		}
	}
	if t.cfg.OnChange != nil {
		t.cfg.OnChange(v)
	}
}

// nextWake says how long Run may sleep.
func (t *Tracker) nextWake(now time.Time) time.Duration {
	wake := idleWake
	for _, c := range t.addrs {
		if c.inFlight || !c.probeable() {
			continue
		}
		// A candidate that is due now waits for a server: their rate limits
		// are a matter of seconds.
		wake = min(wake, max(c.next.Sub(now), time.Second))
	}
	return wake
}
