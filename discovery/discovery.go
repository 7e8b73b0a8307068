// Package discovery finds relays, and announces this node as one.
//
// Relays come from sources, each behind one small interface and each with its
// own time-out, so that none can stall the others:
//
//	static     relays that the user named
//	cache      relays that served us before (a file in the data directory)
//	connected  peers at hand that speak the circuit v2 hop protocol
//	dht        providers of the rendezvous namespace in the DHT
//	mdns       neighbours on the LAN that say they are relays
//
// While somebody wants relays (Want), every source is asked again and again
// with a growing pause; what they find goes to Config.Found, one candidate at
// a time. While the node serves as a relay (Announce), it provides the
// rendezvous namespace, again whenever its addresses change and well before
// the record expires.
//
// With Config.MDNS, peers on the same LAN find each other, relays or not: their
// private addresses go to the peerstore for two minutes, so that a dial by peer
// ID needs nobody else. It is libp2p's mDNS, which stock nodes speak too.
//
// What it does not do: judge candidates. A peer that merely claims to be a
// relay is a candidate like any other; package autorelay finds out.
package discovery

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/routing"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/internal/logging"
)

var log = logging.For("discovery")

// Namespace is the rendezvous under which relays announce themselves. Its
// provider key is the SHA-256 of this string, as go-libp2p's routing discovery
// computes it.
const Namespace = "/causeway/relay/v1"

// Source names where a candidate came from.
type Source string

const (
	Static    Source = "static"
	Cached    Source = "cache"
	Connected Source = "connected"
	DHT       Source = "dht"
	MDNS      Source = "mdns"
)

// Candidate is a peer that may be a relay.
type Candidate struct {
	peer.AddrInfo
	Source Source
}

// Finder is one source of candidates.
type Finder interface {
	// Source names it.
	Source() Source
	// Find calls found for each candidate until it has no more or ctx ends.
	// It returns an error when it could not look at all.
	Find(ctx context.Context, found func(peer.AddrInfo)) error
}

// Config is what Discovery needs. Host and Found are required.
type Config struct {
	Host host.Host
	// Static are relays that the user named.
	Static []peer.AddrInfo
	// Cache remembers relays between runs. If nil, nothing is remembered.
	Cache *Cache
	// Routing is the DHT. If nil, there is no rendezvous.
	Routing routing.ContentRouting
	// Namespace is the rendezvous. If empty, the package's Namespace.
	Namespace string
	// MDNS is the service by which peers of the network are found on the LAN,
	// like StandardMDNS. If empty, none are looked for.
	MDNS string
	// Finders are further sources.
	Finders []Finder
	// Found receives the candidates, possibly from several goroutines at once
	// and the same one repeatedly. It must not block.
	Found func(Candidate)
	// Announced is called when an announcement succeeded or failed (err). It
	// must not block.
	Announced func(err error)
}

// Discovery runs the sources and the announcements.
type Discovery struct {
	cfg       Config
	finders   []Finder
	announcer *announcer
	mdns      *mdns // nil without Config.MDNS

	serves   *signal // we serve as a relay
	want     *signal // somebody needs relays
	searches sync.WaitGroup
}

// New wires the sources; nothing runs before Run.
func New(cfg Config) *Discovery {
	if cfg.Namespace == "" {
		cfg.Namespace = Namespace
	}
	if cfg.Announced == nil {
		cfg.Announced = func(error) {}
	}
	d := &Discovery{cfg: cfg, want: newSignal(), serves: newSignal()}
	if len(cfg.Static) > 0 {
		d.finders = append(d.finders, staticFinder(cfg.Static))
	}
	if cfg.Cache != nil {
		d.finders = append(d.finders, cfg.Cache)
	}
	d.finders = append(d.finders, cfg.Finders...)
	if cfg.Routing != nil {
		d.finders = append(d.finders, &rendezvousFinder{routing: cfg.Routing, namespace: cfg.Namespace, self: cfg.Host.ID()})
		d.announcer = newAnnouncer(cfg)
	}
	if cfg.MDNS != "" {
		d.mdns = newMDNS(cfg, d.serves, d.emit(MDNS))
	}
	return d
}

// Want tells whether relays are wanted. Wanting again makes every source look
// at once.
func (d *Discovery) Want(on bool) { d.want.set(on) }

// Announce tells whether this node serves as a relay and should say so.
func (d *Discovery) Announce(on bool) {
	if on != d.serves.isOn() {
		d.serves.set(on)
	}
	if d.announcer != nil {
		d.announcer.on.set(on)
	}
}

// AddrsChanged makes a running announcement repeat itself, so that the
// rendezvous shows our new addresses.
func (d *Discovery) AddrsChanged() {
	if d.announcer != nil {
		d.announcer.on.poke()
	}
}

// Neighbour returns where a peer is on the LAN; nothing if it is not there.
func (d *Discovery) Neighbour(p peer.ID) []ma.Multiaddr {
	if d.mdns == nil {
		return nil
	}
	return d.mdns.addrsOf(p)
}

// Run runs until ctx ends, and waits for what it started.
func (d *Discovery) Run(ctx context.Context) error {
	watch, err := newConnectedFinder(d.cfg.Host, d.emit(Connected))
	if err != nil {
		return fmt.Errorf("discovery: %w", err)
	}
	d.searches.Go(func() { watch.run(ctx, d.want) })
	if d.announcer != nil {
		d.searches.Go(func() { d.announcer.run(ctx) })
	}
	if d.mdns != nil {
		d.searches.Go(func() { d.mdns.run(ctx) })
	}
	for _, f := range d.finders {
		d.searches.Go(func() { d.search(ctx, f) })
	}
	d.searches.Wait()
	return nil
}

const (
	// findTimeout bounds one round of one source. A DHT lookup that has not
	// ended by then has lost itself in dead peers.
	findTimeout = 20 * time.Second
	// firstPause and maxPause bound the wait between two rounds of a source
	// while relays are still wanted: quick while the DHT is still joining,
	// then gentle.
	firstPause = 50 * time.Millisecond
	maxPause   = 30 * time.Second
)

// search asks one source, round after round, while relays are wanted.
func (d *Discovery) search(ctx context.Context, f Finder) {
	pause := firstPause
	for d.want.wait(ctx) {
		wanted := d.want.changes()
		fctx, cancel := context.WithTimeout(ctx, findTimeout)
		found := 0
		err := f.Find(fctx, func(info peer.AddrInfo) {
			found++
			d.emit(f.Source())(info)
		})
		cancel()
		log.Debug("source asked", "source", f.Source(), "found", found, "err", err)
		select {
		case <-ctx.Done():
			return
		case <-wanted:
			pause = firstPause
		case <-time.After(pause):
			pause = min(2*pause, maxPause)
		}
	}
}

func (d *Discovery) emit(s Source) func(peer.AddrInfo) {
	return func(info peer.AddrInfo) {
		if info.ID == "" || info.ID == d.cfg.Host.ID() {
			return
		}
		d.cfg.Found(Candidate{AddrInfo: info, Source: s})
	}
}
