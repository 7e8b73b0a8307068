// Package relay makes this node a relay host: circuit v2
// (github.com/libp2p/specs/blob/master/relay/circuit-v2.md) for whoever needs
// it, within limits, and in plain words for whoever runs it.
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
// A request comes in as a hop stream (hop.go), is admitted into a class or not
// (admit.go: rates, bans, ACL, token, Validator), and becomes a reservation
// (reserve.go) or a circuit (connect.go). What is owed to whom is in one table
// (table.go). A circuit is two pumps (pump.go), each with one buffer, which take
// their turn under the bandwidth cap (package fair) and behind those who write
// little to the same peer (package fastconn). Whatever is refused or ends does
// so for one of the reasons in reason.go.
//
// Peers that take relay notices (package notice) are told when the relay
// drains, when it is full, and why a circuit has ended.
//
// Locks: none is held while another is taken.
package relay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/causeway-p2p/causeway/auth"
	"github.com/causeway-p2p/causeway/internal/logging"
	"github.com/causeway-p2p/causeway/notice"
	"github.com/causeway-p2p/causeway/relay/acl"
	"github.com/causeway-p2p/causeway/relay/fair"
	"github.com/causeway-p2p/causeway/relay/usage"
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
	// Access says who may, and as what.
	Access Access
	// Usage keeps the accounts of peers. If nil, they are kept in memory. Its
	// Run is for the owner to call.
	Usage *usage.Store
	// Forwarder, if not nil, reaches destinations that hold no reservation
	// here.
	Forwarder Forwarder
	// Registerer receives the metrics (docs/metrics.md). If nil, there are
	// none.
	Registerer prometheus.Registerer
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
	cfg     Config
	self    *ma.Component // /p2p/ID
	table   *table
	fair    *fair.Scheduler
	meter   *meter
	ctx     context.Context // ends with Run
	end     context.CancelFunc
	verdict chan verdict
	waiters chan struct{} // a token for each refused peer that is being told when to come back
	full    chan struct{} // somebody was refused for lack of room
	drain   chan struct{}
	stop    sync.Once

	policy   atomic.Pointer[policy]
	acl      atomic.Pointer[acl.List]
	trust    atomic.Pointer[auth.Trust]
	draining atomic.Bool
	bytes    atomic.Int64 // relayed

	requests requests
	bans     bans
	grants   grants
	words    words
	guard    guard
	larges   larges
	endings  endings

	running sync.WaitGroup // hop streams, pumps, and what they started

	mu        sync.Mutex // guards the fields below, and the additions to running
	closed    bool
	status    Status
	drainEnds time.Time // if not zero
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
	Bytes int64 `json:"bytes"`
	// Overloaded says what there is too little of, while new work is refused.
	Overloaded string `json:"overloaded,omitempty"`
	Limits     Limits `json:"limits"`
}

// New validates cfg. Nothing runs, and nobody is served, before Run.
func New(cfg Config) (*Relay, error) {
	if cfg.Host == nil {
		return nil, errors.New("relay: Host is missing")
	}
	if err := cfg.Limits.Validate(); err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	cfg = cfg.withDefaults()
	self, err := ma.NewComponent("p2p", cfg.Host.ID().String())
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	r := &Relay{
		cfg: cfg, self: self, table: newTable(), fair: fair.New(cfg.Limits.Bandwidth, 0),
		verdict: make(chan verdict, 1), full: make(chan struct{}, 1), waiters: make(chan struct{}, maxWaiters), drain: make(chan struct{}),
		requests: newRequests(), bans: bans{until: make(map[peer.ID]time.Time)}, grants: grants{held: make(map[peer.ID]auth.Token)},
		words: words{said: make(map[peer.ID]word)},
		guard: guard{memory: memoryInUse, files: filesInUse},
	}
	if r.cfg.Usage == nil {
		if r.cfg.Usage, err = usage.Open(""); err != nil {
			return nil, fmt.Errorf("relay: %w", err)
		}
	}
	r.endings = endings{waiting: make(map[peer.ID][]notice.Circuit), run: r.running.Go, tell: func(ctx context.Context, p peer.ID, n notice.Notice) {
		if err := notice.Send(ctx, r.cfg.Host, p, n); err != nil {
			log.Debug("notice not delivered", "peer", p, "err", err)
		}
	}}
	r.ctx, r.end = context.WithCancel(context.Background())
	r.endings.ctx, r.endings.hurry = context.WithCancel(context.Background())
	r.policy.Store(newPolicy(cfg.Limits))
	r.acl.Store(cfg.Access.ACL)
	r.trust.Store(&cfg.Access.Trust)
	if r.meter, err = newMeter(r, cfg.Registerer); err != nil {
		return nil, err
	}
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
	s.Reservations, s.Circuits = int64(r.table.reservations()), int64(r.table.openCircuits())
	s.Bytes, s.Overloaded, s.Limits = r.bytes.Load(), r.guard.why(), r.policy.Load().Limits
	return s
}

// Run serves, as the mode and the verdicts say, until ctx ends. Then it ends
// what still stands, and waits for it.
func (r *Relay) Run(ctx context.Context) error {
	defer r.shut()
	defer r.startBackground(ctx)()
	if r.cfg.Mode == On {
		r.serve(true, "switched on")
	}
	var doubt, over <-chan time.Time // run while we serve although found unreachable, and while we drain
	var last verdict
	drain := r.drain
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-drain:
			drain = nil
			// Identify push tells our peers within a round trip, so that they
			// move to other relays while their circuits here run on.
			r.cfg.Host.RemoveStreamHandler(proto.ProtoIDv2Hop)
			if left, bounded := r.drainLeft(); bounded {
				over = time.After(left)
			}
			r.change(r.serving(), "draining: no new reservations")
		case <-over:
			r.endAll(Draining)
		case last = <-r.verdict:
			if r.cfg.Mode != Auto || r.draining.Load() {
				continue
			}
			switch {
			case last.public:
				doubt = nil
				r.serve(true, last.because)
			case !r.serving():
				r.change(false, last.because)
			case doubt == nil:
				doubt = time.After(r.cfg.Patience)
				r.change(true, "in doubt: "+last.because)
			}
		case <-doubt:
			// Reservations stay: who relies on us sees that hop is withdrawn and
			// leaves, and whoever stays is still served if the doubt was wrong.
			doubt = nil
			r.serve(false, last.because)
		}
	}
}

// serve begins or ends to take requests.
func (r *Relay) serve(on bool, because string) {
	switch was := r.serving(); {
	case on && !was:
		r.cfg.Host.SetStreamHandler(proto.ProtoIDv2Hop, r.handleHop)
	case !on && was:
		r.cfg.Host.RemoveStreamHandler(proto.ProtoIDv2Hop)
	}
	r.change(on, because)
}

func (r *Relay) serving() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status.Serving
}

// startBackground runs what goes on beside the requests, until stop is called.
func (r *Relay) startBackground(ctx context.Context) (stop func()) {
	watch := &network.NotifyBundle{DisconnectedF: r.disconnected}
	r.cfg.Host.Network().Notify(watch)
	stopTokens := func() {}
	if len(r.cfg.Access.Trust.Issuers) > 0 {
		stopTokens = auth.Receive(r.cfg.Host, auth.Relay{Accept: r.takeToken, Refused: r.meter.tokenRefused})
	}
	ctx, cancel := context.WithCancel(ctx)
	var beside sync.WaitGroup
	beside.Go(func() { r.tellFull(ctx) })
	beside.Go(func() { r.guard.run(ctx, r.policy.Load) })
	beside.Go(func() { r.sweep(ctx) })
	return func() {
		cancel()
		stopTokens()
		beside.Wait()
		r.cfg.Host.Network().StopNotify(watch)
	}
}

// sweep ends the reservations that were not refreshed.
func (r *Relay) sweep(ctx context.Context) {
	tick := time.NewTicker(wheelSlot)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, p := range r.table.sweep(time.Now()) {
				r.released(p, Expired)
			}
		}
	}
}

// begin notes that a hop stream is being served, unless the relay is closed.
func (r *Relay) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.running.Add(1)
	return true
}

// shut ends everything and waits for it.
func (r *Relay) shut() {
	r.cfg.Host.RemoveStreamHandler(proto.ProtoIDv2Hop)
	r.mu.Lock()
	r.closed = true
	r.status.Serving, r.status.Because = false, "stopped"
	r.mu.Unlock()
	why := Stopping
	if r.draining.Load() {
		why = Draining
	}
	r.endAll(why)
	r.end()       // of what waits for others
	r.endAll(why) // of what was agreed on between these two
	// Those who do not listen must not hold us up.
	late := time.AfterFunc(drainNotices, r.endings.hurry)
	r.running.Wait()
	late.Stop()
	r.endings.hurry()
	for _, p := range r.table.holders() {
		r.cancel(p, Stopping)
	}
	r.meter.unregister()
}

// endAll ends all circuits.
func (r *Relay) endAll(why Reason) {
	for _, c := range r.table.circuitsOf("") {
		c.end(why)
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

// memory is a span of the resource manager, which bounds what relays use.
func (r *Relay) memory() (span network.ResourceScopeSpan, err error) {
	err = r.cfg.Host.Network().ResourceManager().ViewService(serviceName, func(s network.ServiceScope) error {
		span, err = s.BeginSpan()
		return err
	})
	return span, err
}

// noteRefusal puts a refusal into the peer's account.
func (r *Relay) noteRefusal(p peer.ID) {
	a := r.cfg.Usage.Account(p)
	a.AddRefusal()
	a.Release()
}
