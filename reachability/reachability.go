// Package reachability decides whether the internet can dial this node.
//
// A Tracker collects the addresses at which the node might be reachable (its
// public interface addresses, port mappings, those that peers report through
// identify, those that the operator announced), asks AutoNAT v2 servers to dial
// each of them back, and reduces what it learns to one Verdict that carries its
// evidence:
//
//	identify, interfaces, ─▶ candidates ─▶ dial-backs ─▶ reduce ─▶ Verdict
//	routers, operator            ▲       (AutoNAT v2, github.com/libp2p/specs/autonat)
//	                             └──── strangers, who prove that anybody gets in
//
// A server that dials back is a host that we have talked to, and there are NATs
// that let it in for that alone. So an address behind one is proven public only
// when a stranger got through; until then the verdict is Insured: a relay is
// kept (docs/design/005-proof-of-reachability.md).
//
// What peers see of our packets also tells what the NAT does ([Tracker.NAT]) and
// where hole punches should go ([Tracker.Observed]).
//
// It is the only emitter of host reachability (event.EvtLocalReachabilityChanged),
// so that the DHT's mode, go-libp2p's address manager and this project's own
// rooms all follow the same verdict.
//
// It uses its own AutoNAT v2 client, because go-libp2p v0.51 asks a server at
// most once in 2 minutes (p2p/protocol/autonatv2/autonat.go) and only verifies
// observed addresses that four peers agree on, so that a node behind a
// symmetric NAT never gets a verdict. AutoNAT v1 is asked when there is no server
// of v2, and its word is a hint.
//
// What it does not do: map ports, look for a hairpin, or find strangers; those
// come from elsewhere (Config.Strangers).
package reachability

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
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
	// operator's word, because AutoNAT does not judge private addresses, and
	// so do DNS names where no public IP address is announced as well, until
	// servers have judged them: two at least, and more than decline to.
	Announced []ma.Multiaddr
	// Strangers has hosts dial us that we never talked to. If nil, only those
	// that come by themselves prove that strangers get through.
	Strangers Strangers
	// Dialled reports whether we made a connection that the swarm may take for
	// an inbound one. If nil, none is.
	Dialled func(network.Conn) bool
	// OnChange is called with every new verdict, from one goroutine, in order.
	// It must not block.
	OnChange func(Verdict)
}

// dialled reports whether we made a connection.
func (t *Tracker) dialled(c network.Conn) bool {
	return c.Stat().Direction == network.DirOutbound || t.cfg.Dialled != nil && t.cfg.Dialled(c)
}

// Tracker keeps the verdict. Create it with New and start it with Run.
type Tracker struct {
	// static after New
	cfg      Config
	client   *dialBackClient
	contacts *contacts
	here     *here
	watch    network.Notifiee
	sub      event.Subscription
	shown    atomic.Pointer[snapshot]
	mapped   atomic.Pointer[[]ma.Multiaddr]
	hairpin  atomic.Pointer[Fact]
	quicSeen atomic.Int64  // when a QUIC connection lived, in Unix nanoseconds; 0: not since the network changed
	changes  chan struct{} // the network changed
	remap    chan struct{} // mapped is another

	// owned by Run
	addrs     map[string]*candidate // by multiaddr bytes
	servers   map[peer.ID]*server
	locals    map[peer.ID]struct{} // who would be servers, were they not on this machine
	vias      map[peer.ID]struct{} // who can have strangers dial us
	sights    map[sightKey]sight
	gone      map[string]flaps // own addresses that went away, by their bytes
	hint      hint
	looked    time.Time // when our own addresses were last listed
	renewed   time.Time // when the network changed
	results   chan result
	published Verdict
	gist      string // of its sentence
	emitter   event.Emitter
	probes    sync.WaitGroup
}

// snapshot is what others may see of the tracker's state.
type snapshot struct {
	verdict    Verdict
	observed   []ma.Multiaddr
	unobserved []string
}

// subBuffer is how many events wait at most: libp2p's emitters block when it is
// full.
const subBuffer = 256

// New returns a tracker for the host. It makes the host answer dial-backs and
// tells its event bus that reachability is unknown; probing begins with Run,
// which should follow soon: it misses nothing that peers say from now on, but no
// more than subBuffer events wait for it.
func New(cfg Config) (*Tracker, error) {
	emitter, err := cfg.Host.EventBus().Emitter(new(event.EvtLocalReachabilityChanged), eventbus.Stateful)
	if err != nil {
		return nil, fmt.Errorf("reachability: event emitter: %w", err)
	}
	// Not in Run: the first peer may have been met by then, and says only once
	// where it sees us.
	sub, err := cfg.Host.EventBus().Subscribe([]any{
		new(event.EvtPeerIdentificationCompleted),
		new(event.EvtPeerProtocolsUpdated),
		new(event.EvtPeerConnectednessChanged),
		new(event.EvtLocalAddressesUpdated),
	}, eventbus.Name("causeway/reachability"), eventbus.BufSize(subBuffer))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reachability: subscribe: %w", err), emitter.Close())
	}
	t := &Tracker{
		cfg:      cfg,
		contacts: newContacts(),
		here:     new(here),
		addrs:    make(map[string]*candidate),
		servers:  make(map[peer.ID]*server),
		locals:   make(map[peer.ID]struct{}),
		vias:     make(map[peer.ID]struct{}),
		sights:   make(map[sightKey]sight),
		gone:     make(map[string]flaps),
		changes:  make(chan struct{}, 1),
		remap:    make(chan struct{}, 1),
		results:  make(chan result),
		emitter:  emitter,
		sub:      sub,
	}
	t.client = newDialBackClient(cfg.Host, t.contacts, t.here)
	t.watch = t.notifiee()
	cfg.Host.Network().Notify(t.watch)
	for _, c := range cfg.Host.Network().Conns() {
		if ip, ok := remoteIP(c); ok {
			t.contacts.add(ip, c.Stat().Opened)
		}
	}
	t.published, _ = reduce(nil, 0, time.Now())
	t.published.NAT = t.nat(nil, time.Now())
	t.shown.Store(&snapshot{verdict: t.published})
	if err := t.emitter.Emit(event.EvtLocalReachabilityChanged{Reachability: network.ReachabilityUnknown}); err != nil {
		return nil, fmt.Errorf("reachability: emit: %w", err)
	}
	return t, nil
}

// Verdict returns the current verdict. It may be called at any time.
func (t *Tracker) Verdict() Verdict { return t.shown.Load().verdict }

// NAT returns what is known of the NAT. It may be called at any time.
func (t *Tracker) NAT() NAT { return t.shown.Load().verdict.NAT }

// Observed returns the public addresses at which others see our listening
// sockets, and those that are ours without that, the most trusted first. Where
// all agree there are one or two for each IP and transport; behind a NAT that
// shows everybody another port, all that were seen lately. They are for hole
// punching: that nobody can be dialled there makes no difference.
func (t *Tracker) Observed() []ma.Multiaddr { return slices.Clone(t.shown.Load().observed) }

// Unobserved returns the transports, "tcp" or "quic", on which we listen and
// over which nobody is connected who could tell where our packets come from.
func (t *Tracker) Unobserved() []string { return slices.Clone(t.shown.Load().unobserved) }

// Contacted tells that packets go to an IP address other than by libp2p's
// connections, such as those of a hole punch or a dial that fails: it must not
// be taken for a stranger when it gets through to us.
func (t *Tracker) Contacted(ip netip.Addr) { t.contacts.add(ip.Unmap(), time.Now()) }

// NetworkChanged tells that the interfaces are others, or that the machine has
// slept: what was found so far is old, and is found out again at once. The
// verdict stands until then.
func (t *Tracker) NetworkChanged() {
	select {
	case t.changes <- struct{}{}:
	default: // it is not dealt with yet
	}
}

// SetMapped tells which addresses a router forwards to us. They are candidates
// like others, and are advertised only if servers get through.
func (t *Tracker) SetMapped(addrs []ma.Multiaddr) {
	addrs = slices.Clone(addrs)
	t.mapped.Store(&addrs)
	select {
	case t.remap <- struct{}{}:
	default:
	}
}

// SetHairpin tells whether the NAT leads back in what goes to our own external
// address. It is part of the next verdict.
func (t *Tracker) SetHairpin(f Fact) { t.hairpin.Store(&f) }

// Run probes until ctx ends, and waits for what it started.
func (t *Tracker) Run(ctx context.Context) error {
	defer t.sub.Close()
	defer t.emitter.Close()
	defer t.client.close()
	defer t.cfg.Host.Network().StopNotify(t.watch)
	defer t.probes.Wait()

	t.updateOwnAddrs(time.Now())
	// Peers that were connected before New.
	for _, p := range t.cfg.Host.Network().Peers() {
		t.updateServer(p)
	}

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev, ok := <-t.sub.Out():
			if !ok {
				return nil
			}
			t.handle(ev, time.Now())
		case r := <-t.results:
			t.record(r, time.Now())
		case <-t.changes:
			t.renew(time.Now())
		case <-t.remap:
			t.updateOwnAddrs(time.Now())
		case <-timer.C:
		}
		now := time.Now()
		// The address manager reports no change when an address that was
		// hidden (because it was unreachable) comes or goes.
		if now.Sub(t.looked) >= idleWake {
			t.updateOwnAddrs(now)
			t.sweepSights(now)
		}
		t.startProbes(ctx, now)
		t.startStrangers(ctx, now)
		t.startHint(ctx, now)
		t.publish(now)
		timer.Reset(t.nextWake(now))
	}
}

func (t *Tracker) handle(ev any, now time.Time) {
	switch ev := ev.(type) {
	case event.EvtPeerIdentificationCompleted:
		t.updateServer(ev.Peer)
		t.see(ev, now)
		t.observe(ev, now)
		t.inbound(ev, now)
	case event.EvtPeerProtocolsUpdated:
		t.updateServer(ev.Peer)
	case event.EvtPeerConnectednessChanged:
		t.updateServer(ev.Peer)
	case event.EvtLocalAddressesUpdated:
		t.updateOwnAddrs(now)
	}
}

// renew starts over after a change of the network, with the old verdict until
// there is another.
func (t *Tracker) renew(now time.Time) {
	t.renewed = now
	t.quicSeen.Store(0)
	t.hint.next = now
	t.sweepSights(now)
	t.updateOwnAddrs(now)
	for key, c := range t.addrs {
		if c.source == fromObserved && c.reachable == Unknown && len(c.asking) == 0 && !t.observerConnected(c) {
			delete(t.addrs, key)
			continue
		}
		c.renew(now)
	}
}

// notifiee follows the connections.
func (t *Tracker) notifiee() network.Notifiee {
	n := t.contacts.notifiee()
	noted := n.ConnectedF
	n.ConnectedF = func(nw network.Network, c network.Conn) {
		noted(nw, c)
		if overQUIC(c.RemoteMultiaddr()) {
			t.quicSeen.Store(time.Now().UnixNano())
		}
	}
	return n
}

// publish reduces what is known to a verdict and tells whoever follows it.
func (t *Tracker) publish(now time.Time) {
	cands := t.byUrgency()
	v, gist := reduce(cands, len(t.servers), now)
	if v.Reachability == Unknown && len(t.servers) == 0 && len(t.locals) > 0 && len(cands) > 0 {
		v.Because = "all who offer AutoNAT v2 so far are on this machine, and dial it past its firewall"
	}
	if t.hint.apply(&v, now) {
		gist = ""
	}
	v.NAT = t.nat(cands, now)
	before, sticks := t.published, gist != "" && gist == t.gist
	if v.Reachability == before.Reachability {
		v.Since = before.Since
	}
	// Times and counts too, of which nobody is told.
	t.shown.Store(&snapshot{verdict: v, observed: t.observed(cands, v.NAT), unobserved: t.unobserved(cands)})
	if sticks && v.answers(before) {
		v.Because = before.Because // one more who says so is no news
	}
	t.published, t.gist = v, gist
	if v.same(before) {
		return
	}
	if v.Reachability != before.Reachability {
		log.Info("reachability changed", "reachability", v.Reachability, "reason", v.Because)
	}
	if v.host() != before.host() {
		if err := t.emitter.Emit(event.EvtLocalReachabilityChanged{Reachability: v.host().libp2p()}); err != nil {
			log.Warn("reachability event not delivered", "err", err)
		}
	}
	if t.cfg.OnChange != nil {
		t.cfg.OnChange(v)
	}
}
