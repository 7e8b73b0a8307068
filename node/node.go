// Package node is the one thing that an application imports: a libp2p node
// that makes itself reachable from anywhere.
//
//	n, err := node.New(node.Config{Network: "demo", Bootstrap: peers})
//	if err != nil { … }
//	if err := n.Start(ctx); err != nil { … }
//	defer n.Close()
//	err = n.WaitReachable(ctx)                // dialable, or reachable through a relay
//	conn, err := n.Dial(ctx, peerID, "chat")  // by peer ID alone
//
// It composes the rooms beneath it and plugs them together; data goes one way:
//
//	reachability ──verdict──▶ autorelay ──need──▶ discovery ──candidates──▶ autorelay
//	      │                       └──circuit addresses──▶ advertiser ──▶ identify push
//	      └──verdict──▶ relay host ──serving──▶ discovery (announce)
//
// Host is the escape hatch to everything of libp2p that is not said here.
package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/autorelay"
	"github.com/causeway-p2p/causeway/direct"
	"github.com/causeway-p2p/causeway/discovery"
	"github.com/causeway-p2p/causeway/internal/logging"
	"github.com/causeway-p2p/causeway/internal/maddr"
	"github.com/causeway-p2p/causeway/notice"
	"github.com/causeway-p2p/causeway/portmap"
	"github.com/causeway-p2p/causeway/reachability"
	"github.com/causeway-p2p/causeway/relay"
	"github.com/causeway-p2p/causeway/relay/usage"
	"github.com/causeway-p2p/causeway/service"
	"github.com/causeway-p2p/causeway/stranger"
)

var log = logging.For("node")

// Node is a libp2p node. Create it with New, start it once, close it once.
type Node struct {
	// static after New
	cfg         Config
	id          peer.ID
	events      *broadcaster
	credentials *credentials
	farewells   *farewells

	// static after Start
	host         host.Host
	circuits     *circuits
	dht          *dht.IpfsDHT
	autonat      *autonatv2.AutoNAT
	advertiser   *advertiser
	verifier     *verifier
	stranger     *stranger.Stranger
	reachability *reachability.Tracker
	discovery    *discovery.Discovery
	autorelay    *autorelay.AutoRelay // nil if no relays are sought
	upgrader     *direct.Upgrader     // nil if relayed connections stay relayed
	relay        *relay.Relay         // nil if relay.Off
	mapper       *portmap.Mapper      // nil if no ports are mapped
	services     *service.Registry
	cache        *discovery.Cache
	history      *autorelay.History
	usage        *usage.Store // nil if relay.Off
	recent       recent
	portal       portal
	strict       strict
	stopNotices  func()
	stopRecent   func()
	settled      chan struct{} // see Settled
	settleOnce   sync.Once
	shut         sync.Once
	shutErr      error
	startedAt    time.Time

	mu      sync.Mutex // guards the fields below
	started bool
	closed  bool
	run     context.Context // nil before Start; ends with Close
	cancel  context.CancelFunc
	changed chan struct{} // closed and replaced when reachability changes
	parts   sync.WaitGroup
}

// New validates cfg: every fault at once. It neither listens nor runs anything.
func New(cfg Config) (*Node, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	id, err := peer.IDFromPrivateKey(cfg.Identity)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	events := newBroadcaster()
	return &Node{
		cfg: cfg, id: id, events: events, credentials: newCredentials(cfg.Token, events.emit), farewells: newFarewells(),
		changed: make(chan struct{}), settled: make(chan struct{}),
	}, nil
}

// ID returns the node's peer ID.
func (n *Node) ID() peer.ID { return n.id }

// Host returns the libp2p host, or nil before Start. Its NewStream differs from
// go-libp2p's in two ways. It does not wait for a direct connection where only a
// limited one exists: it fails with a *LimitedError. And it opens nothing over a
// relay that says it leaves if there is another connection to the peer.
//
// In all else the swarm chooses the connection: an unlimited one before a limited
// one, a direct one before a relayed one, then the one with the most streams,
// whichever is faster. Host().Network().NewStream leaves everything to the swarm.
// Neither tries another path when a connection is silent; Dial does, so use that
// where it will do.
func (n *Node) Host() host.Host {
	if n.host == nil {
		return nil
	}
	return frank{n.host, n.farewells}
}

// Relay returns the relay host, for its figures and its controls; nil before
// Start and if the node is none.
func (n *Node) Relay() *relay.Relay { return n.relay }

// ErrNotRunning is returned by what needs a node that was started and not
// closed.
var ErrNotRunning = errors.New("the node is not running")

// Start listens and begins to join the network. It returns as soon as the
// node listens; everything else happens beside, and Events tells of it.
func (n *Node) Start(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.started || n.closed {
		return errors.New("the node was started or closed before")
	}
	n.started = true
	defer n.settle()
	if err := n.build(); err != nil {
		n.closed = true
		return errors.Join(err, n.teardown())
	}
	n.startedAt = time.Now()
	n.run, n.cancel = context.WithCancel(context.WithoutCancel(ctx))
	run := n.run
	part := func(name string, f func(context.Context) error) {
		n.parts.Go(func() {
			if err := f(run); err != nil {
				log.Error("part of the node stopped", "part", name, "err", err)
			}
		})
	}
	part("reachability", n.reachability.Run)
	part("stranger", n.stranger.Run)
	part("discovery", n.discovery.Run)
	part("advertiser", n.advertiser.run)
	part("verifier", n.verifier.run)
	part("paths", n.watchPaths)
	part("moves", n.moveAway)
	if n.mapper != nil {
		part("port mapping", n.mapper.Run)
	}
	if n.onNetwork() {
		part("network changes", n.watchNetwork)
	}
	if n.upgrader != nil {
		part("direct", n.upgrader.Run)
		part("witnesses", n.keepWitnesses)
	}
	part("hairpin", n.watchHairpin)
	part("foreign relays", n.sweepForeign)
	part("bootstrap", n.bootstrap)
	part("reunite", n.reunite)
	if n.autorelay != nil {
		n.autorelay.Want(true) // unknown counts as private: reserve at once
		part("autorelay", n.autorelay.Run)
	}
	if n.relay != nil {
		part("relay", n.relay.Run)
		part("usage", n.usage.Run)
	}
	return nil
}

// build makes the host and the rooms, and plugs them together.
func (n *Node) build() (err error) {
	n.advertiser = newAdvertiser(n.cfg, n.addrsChanged)
	if n.host, n.autonat, n.circuits, err = newHost(n.cfg, n.advertiser.addrs); err != nil {
		return err
	}
	n.credentials.attach(n.host)
	n.circuits.introduce = n.credentials.beforeCircuit
	if err = n.newStranger(); err != nil {
		return err
	}
	// Our tracker comes first: it puts "unknown" on the event bus before the
	// DHT looks there.
	if n.reachability, err = reachability.New(reachability.Config{
		Host: n.host, Announced: n.cfg.Announce, Strangers: strangers{n.stranger}, Dialled: direct.WeDialled, OnChange: n.verdictChanged,
	}); err != nil {
		return err
	}
	n.circuits.contacted = n.reachability.Contacted
	if err = n.newMapper(); err != nil {
		return err
	}
	if err = n.advertiser.attach(n.host); err != nil {
		return err
	}
	if n.dht, err = newDHT(dhtHost{frank{n.host, n.farewells}}, n.cfg); err != nil {
		return err
	}
	if n.verifier, err = newVerifier(n.host, n.dht, n.cfg.UserAgent); err != nil {
		return err
	}
	if !n.cfg.NoHolePunching {
		if n.upgrader, err = n.newUpgrader(); err != nil {
			return err
		}
	}
	n.services = service.New(n.host)
	if n.cfg.DataDir != "" {
		n.cache = discovery.OpenCache(filepath.Join(n.cfg.DataDir, "relays.json"))
		n.history = autorelay.OpenHistory(filepath.Join(n.cfg.DataDir, "relay-history.json"))
	}
	n.discovery = discovery.New(discovery.Config{
		Host: n.host, Static: n.cfg.StaticRelays, Cache: n.cache, Routing: n.dht,
		MDNS: n.cfg.mdns(), Found: n.relayFound, Announced: n.announced,
	})
	if n.cfg.Relays >= 0 {
		if n.autorelay, err = autorelay.New(autorelay.Config{
			Host: n.host, Relays: n.cfg.Relays, Standby: n.cfg.Standby,
			IdleProbeInterval: n.cfg.IdleProbeInterval, History: n.history, Registerer: n.cfg.Registerer,
			PrivateNetwork: n.cfg.private(), AllowPrivate: n.cfg.AllowPrivate,
			BeforeReserve: n.credentials.beforeReserve,
			OnNeed:        n.discovery.Want, OnAddrs: n.advertiser.setCircuits, OnEvent: n.relayEvent,
		}); err != nil {
			return err
		}
	}
	n.recent.end = make(map[hop]circuitsOf)
	n.stopRecent = n.recent.watch(n.host.Network(), n.circuitGone)
	n.stopNotices = notice.Receive(n.host, n.relayNotice)
	if n.cfg.Relay != relay.Off {
		file := ""
		if n.cfg.DataDir != "" {
			file = filepath.Join(n.cfg.DataDir, "usage.db")
		}
		if n.usage, err = usage.Open(file); err != nil {
			return err
		}
		if n.relay, err = relay.New(relay.Config{
			Host: n.host, Mode: n.cfg.Relay, Limits: n.cfg.RelayLimits, Access: n.cfg.RelayAccess,
			Usage: n.usage, Forwarder: n.cfg.RelayForwarder, Registerer: n.cfg.Registerer,
			AllowPrivate: n.cfg.AllowPrivate, Announced: n.cfg.Announce, OnChange: n.relayChanged,
		}); err != nil {
			return err
		}
	}
	return nil
}

// Settled returns a channel that is closed when Start has ended, well or not, or
// the node was closed instead: from then on it is known what the node is.
func (n *Node) Settled() <-chan struct{} { return n.settled }

func (n *Node) settle() { n.settleOnce.Do(func() { close(n.settled) }) }

// Close stops everything and waits for it. It may be called more than once.
func (n *Node) Close() error {
	n.shut.Do(func() {
		n.mu.Lock()
		running := n.started && !n.closed
		n.closed = true
		n.mu.Unlock()
		n.settle()
		if running {
			n.cancel()
			n.parts.Wait() // not under mu: what they report takes it
			n.shutErr = n.teardown()
		}
		n.events.close()
		n.wake()
	})
	return n.shutErr
}

func (n *Node) teardown() error {
	var errs []error
	if n.stopNotices != nil {
		n.stopNotices()
		n.stopRecent()
	}
	if n.services != nil {
		n.services.Close()
	}
	if n.dht != nil {
		errs = append(errs, n.dht.Close())
	}
	if n.autonat != nil {
		n.autonat.Close()
	}
	if n.advertiser != nil {
		n.advertiser.detach()
	}
	if n.host != nil {
		errs = append(errs, n.host.Close())
	}
	if n.usage != nil {
		errs = append(errs, n.usage.Close())
	}
	n.events.close()
	return errors.Join(errs...)
}

// Drain tells a relay host to take no new reservations and circuits, and its
// peers that it will be closed after the time given and to go to the siblings
// in the configuration. It returns when they know, after 2 seconds at most.
func (n *Node) Drain(left time.Duration) {
	if n.discovery != nil {
		n.discovery.Announce(false)
	}
	if n.relay != nil {
		n.relay.DrainFor(left, n.cfg.Siblings)
	}
}

// Events returns what happens from now on. The channel closes when ctx ends or
// the node is closed. A reader that falls behind by more than a few hundred
// events misses some. It may be called before Start.
func (n *Node) Events(ctx context.Context) <-chan Event { return n.events.subscribe(ctx, false) }

// History is Events, preceded by the last few hundred events.
func (n *Node) History(ctx context.Context) <-chan Event { return n.events.subscribe(ctx, true) }

// WaitReachable waits until others can reach the node: its own addresses are
// found to be dialable, or it advertises a circuit address.
func (n *Node) WaitReachable(ctx context.Context) error {
	for {
		n.mu.Lock()
		changed, running := n.changed, n.started && !n.closed
		n.mu.Unlock()
		if !running {
			return ErrNotRunning
		}
		if n.Reachable() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("not reachable yet (%s): %w", n.reachability.Verdict().Because, ctx.Err())
		}
	}
}

// Reachable reports whether others can reach the node now, as far as it knows.
func (n *Node) Reachable() bool {
	return n.reachability.Verdict().Reachability == reachability.Public || n.advertiser.circuitsShown() > 0
}

// wake lets WaitReachable look again.
func (n *Node) wake() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.changed)
	n.changed = make(chan struct{})
}

// The functions below are the ways between the rooms. They come from the
// rooms' own goroutines and never block.

func (n *Node) verdictChanged(v reachability.Verdict) {
	n.advertiser.setVerdict(v)
	n.stranger.SetPublic(v.Reachability == reachability.Public && v.Proven)
	if n.upgrader != nil {
		n.upgrader.Changed()
	}
	if n.autorelay != nil {
		n.autorelay.Want(v.NeedsRelay())
	}
	if n.relay != nil {
		n.relay.SetVerdict(v.Reachability == reachability.Public && v.Proven, v.Because) // strangers are to reach it
	}
	n.events.emit(ReachabilityChanged{At: now(), From: n.advertiser.lastVerdict(v), Verdict: v})
	n.wake()
}

func (n *Node) relayFound(c discovery.Candidate) {
	if n.autorelay != nil {
		n.autorelay.Add(autorelay.Candidate{
			AddrInfo: c.AddrInfo, Source: string(c.Source), Alive: c.Source == discovery.Connected,
		})
	}
}

func (n *Node) relayEvent(e autorelay.Event) {
	at := At{e.Time}
	switch e.Kind {
	case autorelay.Found:
		n.events.emit(RelayFound{At: at, Relay: e.Relay, Source: e.Detail})
	case autorelay.ReservedOn:
		n.events.emit(RelayReserved{At: at, Relay: e.Relay, Source: e.Detail, Took: e.Took})
		n.remember(e.Relay)
	case autorelay.Failed, autorelay.RefreshFailed:
		n.events.emit(RelayFailed{At: at, Relay: e.Relay, Reason: e.Reason, Detail: e.Detail})
	case autorelay.Drains:
		n.events.emit(RelayDraining{At: at, Relay: e.Relay})
	case autorelay.Lost:
		n.events.emit(RelayLost{At: at, Relay: e.Relay, Reason: e.Reason})
	case autorelay.Replaced:
		n.events.emit(RelayReplaced{At: at, Old: e.Old, New: e.Relay, Reason: e.Reason, Took: e.Took})
	}
}

// relayNotice takes what a relay tells us. Whether it is one of ours is for
// autorelay to know, and whether we have circuits over it for the mover.
func (n *Node) relayNotice(from peer.ID, m notice.Notice) {
	if m.Draining != nil {
		n.farewells.say(from, m.Draining.Within)
	}
	switch {
	case m.Ended != nil:
		n.circuitsEnded(from, m.Ended.Circuits)
	case n.autorelay == nil:
	case m.Draining != nil:
		n.autorelay.Draining(from, m.Draining.Within, m.Draining.Siblings)
	case m.Load != nil && m.Load.MaxReservations > 0:
		n.autorelay.Load(from, float64(m.Load.Reservations)/float64(m.Load.MaxReservations), m.Load.Full)
		if m.Load.RetryAfter > 0 {
			n.autorelay.RetryAfter(from, m.Load.RetryAfter)
		}
	}
}

// remember writes a relay to the cache, beside the caller: disks are slow.
func (n *Node) remember(id peer.ID) {
	if n.cache == nil {
		return
	}
	info := n.host.Peerstore().PeerInfo(id)
	n.parts.Go(func() {
		if err := n.cache.Remember(info); err != nil {
			log.Warn("relay not remembered", "relay", id, "err", err)
		}
	})
}

func (n *Node) relayChanged(s relay.Status) {
	n.discovery.Announce(s.Serving && !s.Draining)
	n.events.emit(RelayService{At: now(), Serving: s.Serving, Because: s.Because})
}

func (n *Node) announced(err error) {
	if err == nil {
		n.events.emit(Announced{At: now(), Namespace: discovery.Namespace})
	}
}

func (n *Node) addrsChanged(addrs []ma.Multiaddr) {
	e := AddrsChanged{At: now(), Addrs: make([]string, len(addrs))}
	for i, a := range addrs {
		e.Addrs[i] = a.String()
		if maddr.IsCircuit(a) {
			e.Circuits++
		}
	}
	n.events.emit(e)
	n.verifier.changed(addrs)
	n.discovery.AddrsChanged()
	n.wake()
}
