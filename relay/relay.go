// Package relay makes this node a relay host: it decides when to serve circuit
// v2 (github.com/libp2p/specs/blob/master/relay/circuit-v2.md), under which
// limits, and says so in plain words.
//
//	              public, or mode "on"
//	┌──────────┐ ─────────────────────▶ ┌─────────┐
//	│ waiting  │                        │ serving │
//	└──────────┘ ◀───────────────────── └─────────┘
//	         not public for 3 minutes        │ Drain
//	                                         ▼
//	               those who hold reservations are told,
//	                hop withdrawn, running circuits go on
//
// A peer that holds a reservation and takes relay notices (package notice) is
// told when the relay drains, and now and then when it is full.
//
// Reservations and circuits themselves are go-libp2p's relay service for now;
// this package owns its life, its policy and its figures.
package relay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/causeway-p2p/causeway/internal/logging"
)

var log = logging.For("relay")

// Mode says when to serve.
type Mode string

const (
	Auto Mode = "auto" // while the internet can dial us
	On   Mode = "on"   // always
	Off  Mode = "off"  // never
)

// ParseMode reads a mode from a flag or a file.
func ParseMode(s string) (Mode, error) {
	switch m := Mode(s); m {
	case Auto, On, Off:
		return m, nil
	}
	return "", fmt.Errorf("relay mode %q is not one of auto, on, off", s)
}

// Config is what a relay host needs. Only Host is required.
type Config struct {
	Host host.Host
	// Mode says when to serve. If empty, Auto.
	Mode Mode
	// Limits bound what strangers may use.
	Limits Limits
	// Patience is how long the node must have been found unreachable before a
	// relay that serves stops. If zero, 3 minutes: dial-backs fail for reasons
	// of their own, and those who rely on us would lose their addresses.
	Patience time.Duration
	// AllowPrivate names private addresses in reservations. Without it only
	// public and announced ones are named.
	AllowPrivate bool
	// Announced are the operator's own words on our addresses; private ones
	// among them are named in reservations too.
	Announced []ma.Multiaddr
	// OnChange is called when serving starts or stops, from one goroutine. It
	// must not block.
	OnChange func(Status)
}

func (c Config) withDefaults() Config {
	if c.Mode == "" {
		c.Mode = Auto
	}
	if c.Patience == 0 {
		c.Patience = 3 * time.Minute
	}
	c.Limits = c.Limits.WithDefaults()
	if c.OnChange == nil {
		c.OnChange = func(Status) {}
	}
	return c
}

// Relay is a relay host. Create it with New and start it with Run.
type Relay struct {
	// static after New
	cfg      Config
	meter    meter
	holders  holders
	verdict  chan verdict
	asking   sync.Map      // peers whose RESERVE is being handled; as many as hop streams
	waiters  chan struct{} // a token for each refused peer that is being told when to come back
	full     chan struct{} // somebody was refused for lack of room
	drain    chan struct{}
	draining atomic.Bool
	stop     sync.Once

	mu     sync.Mutex // guards the fields below
	status Status
}

type verdict struct {
	public  bool
	because string
}

// Status is a snapshot.
type Status struct {
	Mode    Mode `json:"mode"`
	Serving bool `json:"serving"`
	// Draining tells that no new reservations are taken.
	Draining bool `json:"draining"`
	// Because says why it serves, or why not, in one sentence.
	Because      string `json:"because"`
	Reservations int64  `json:"reservations"`
	Circuits     int64  `json:"circuits"`
	// Bytes were relayed since the start, both directions together.
	Bytes  int64  `json:"bytes"`
	Limits Limits `json:"limits"`
}

// New validates cfg. Nothing runs, and nobody is served, before Run.
func New(cfg Config) (*Relay, error) {
	if cfg.Host == nil {
		return nil, errors.New("relay: Host is missing")
	}
	if err := cfg.Limits.Validate(); err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	r := &Relay{
		cfg: cfg.withDefaults(), holders: holders{told: make(map[peer.ID]time.Time)},
		verdict: make(chan verdict, 1), full: make(chan struct{}, 1), waiters: make(chan struct{}, maxWaiters), drain: make(chan struct{}),
	}
	r.meter.onRefused = r.refused
	r.status = Status{Mode: r.cfg.Mode, Because: "waiting for a verdict on reachability"}
	switch r.cfg.Mode {
	case Off:
		r.status.Because = "switched off"
	case On:
		r.status.Because = "switched on"
	}
	return r, nil
}

// SetVerdict tells whether the internet can dial us, and the evidence. It
// never blocks; only the latest verdict counts.
func (r *Relay) SetVerdict(public bool, because string) {
	for {
		select {
		case r.verdict <- verdict{public, because}:
			return
		default:
		}
		select {
		case <-r.verdict:
		default:
		}
	}
}

// Status returns a snapshot. It may be called at any time.
func (r *Relay) Status() Status {
	r.mu.Lock()
	s := r.status
	r.mu.Unlock()
	s.Draining = r.draining.Load()
	s.Reservations, s.Circuits, s.Bytes = r.meter.reservations.Load(), r.meter.circuits.Load(), r.meter.bytes.Load()
	s.Limits = r.cfg.Limits
	return s
}

// Drain is DrainFor with nothing known about when and where to.
func (r *Relay) Drain() { r.DrainFor(0, nil) }

// DrainFor stops taking new reservations and new circuits; those that run go
// on, and who starts the draining closes them after deadline (0: at any
// moment). Peers with a reservation are told this, and the siblings to go to
// instead: it returns when they know, after 2 seconds at most. Then the hop
// protocol is withdrawn, which those see who take no notices. Only the first
// call counts; the others wait for it.
func (r *Relay) DrainFor(deadline time.Duration, siblings []peer.AddrInfo) {
	r.draining.Store(true)
	r.stop.Do(func() {
		r.tellDraining(deadline, siblings)
		close(r.drain)
	})
}

// Run serves, as the mode and the verdicts say, until ctx ends.
func (r *Relay) Run(ctx context.Context) error {
	stopNotices := r.startNotices(ctx)
	defer stopNotices()
	var service *relayv2.Relay
	defer func() {
		if service != nil {
			service.Close()
		}
		r.mu.Lock()
		r.status.Serving, r.status.Because = false, "stopped"
		r.mu.Unlock()
	}()
	serve := func(on bool, because string) error {
		if on && service == nil {
			s, err := r.newService()
			if err != nil {
				return fmt.Errorf("relay: start: %w", err)
			}
			service = s
		} else if !on && service != nil {
			service.Close()
			service = nil
		}
		r.change(service != nil, because)
		return nil
	}
	if r.cfg.Mode == On {
		if err := serve(true, "switched on"); err != nil {
			return err
		}
	}
	var doubt <-chan time.Time // runs while we serve although found unreachable
	var last verdict
	drain := r.drain
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-drain:
			drain = nil
			if service != nil {
				// Identify push tells our peers within a round trip, so that
				// they move to other relays while their circuits here run on.
				r.cfg.Host.RemoveStreamHandler(proto.ProtoIDv2Hop)
			}
			r.change(service != nil, "draining: no new reservations")
		case last = <-r.verdict:
			if r.cfg.Mode != Auto || r.draining.Load() {
				continue
			}
			switch {
			case last.public:
				doubt = nil
				if err := serve(true, last.because); err != nil {
					return err
				}
			case service == nil:
				r.change(false, last.because)
			case doubt == nil:
				doubt = time.After(r.cfg.Patience)
				r.change(true, "in doubt: "+last.because)
			}
		case <-doubt:
			doubt = nil
			if err := serve(false, last.because); err != nil {
				return err
			}
		}
	}
}

func (r *Relay) change(serving bool, because string) {
	r.mu.Lock()
	flipped := r.status.Serving != serving
	same := !flipped && r.status.Because == because
	r.status.Serving, r.status.Because = serving, because
	r.mu.Unlock()
	if same {
		return
	}
	if flipped {
		log.Info("relay service changed", "serving", serving, "reason", because)
	}
	r.cfg.OnChange(r.Status())
}

func (r *Relay) newService() (*relayv2.Relay, error) {
	return relayv2.New(watchedHost{r.cfg.Host, &r.holders, r.handled},
		relayv2.WithResources(r.cfg.Limits.resources()),
		relayv2.WithMetricsTracer(&r.meter),
		relayv2.WithACL((*acl)(r)),
		relayv2.WithReservationAddressFilter(r.namesInReservation),
	)
}

// namesInReservation says which of our addresses a reservation names. Stock
// relays name public ones only, and so nothing at all on a private network.
func (r *Relay) namesInReservation(a ma.Multiaddr) bool {
	if _, err := a.ValueForProtocol(ma.P_CIRCUIT); err == nil {
		return false
	}
	if manet.IsPublicAddr(a) || r.cfg.AllowPrivate {
		return true
	}
	for _, m := range r.cfg.Announced {
		if m.Equal(a) {
			return true
		}
	}
	return false
}

// acl refuses newcomers while we drain.
type acl Relay

func (a *acl) AllowReserve(p peer.ID, _ ma.Multiaddr) bool {
	a.asking.Store(p, struct{}{})
	return !a.draining.Load()
}

func (a *acl) AllowConnect(peer.ID, ma.Multiaddr, peer.ID) bool { return !a.draining.Load() }
