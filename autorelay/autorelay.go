// Package autorelay keeps a node that cannot be dialled reachable: it holds
// circuit v2 reservations with a few relays and says which circuit addresses
// follow from them.
//
// One goroutine owns the state; everything that takes time (dialling,
// reserving, probing) runs beside it and reports back as a value.
//
//	   found by discovery
//	          │            given
//	          ▼  ask      ┌──────▶ reserved ◀─────────────┐ refreshed
//	┌──▶ candidate ─▶ reserving     │ │ │ └──────────────┘
//	│         │  ▲        ▲ │       │ │ │ it says that it leaves
//	│  measure│  │no      │ │       │ │ └──────▶ draining ──┐
//	│         ▼  │better  │ │refused│ │                     │ it has left,
//	│        probing ─────┘ │       │ │lost: connection     │ or another
//	│               better  │       │ │gone, probes missed, │ took over
//	│                       ▼       │ ▼hop withdrawn        │
//	└── pause over ───── backing off ◀──────────────────────┘
//	                                │ not needed, shed, banned
//	                                └──────▶ candidate
//
// Of the relays that are reserved, Relays are advertised and Standby are kept
// warm: when one goes, the next address is there in the same moment. When all
// of them missed a probe or are about to leave, one more is taken before they
// are gone; a draining relay that is all we have when its time is over is asked
// to stay, and is reserved again.
//
// It does not wait: there is no minimum number of candidates and no delay at
// start. The first candidates are asked in parallel while the verdict on our
// reachability is still out, so that the first circuit address is there after
// one dial and one reservation. A relay that stops answering is noticed by
// probes rather than by the transport's own time-out, which takes half a
// minute and more.
//
// What it does not do: find relays (package discovery), or publish addresses
// (package node hands them to go-libp2p's address manager).
package autorelay

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/internal/logging"
)

var log = logging.For("autorelay")

// AutoRelay holds the reservations. Create it with New and start it with Run.
type AutoRelay struct {
	// static after New
	cfg        Config
	candidates chan Candidate
	commands   chan func(time.Time)
	poke       chan struct{}
	ended      chan struct{} // closed when Run has
	wanted     atomic.Bool
	status     atomic.Pointer[Status]
	metrics    *metrics

	// owned by Run
	relays      map[peer.ID]*relay
	reports     chan report
	answer      func() // to the command of this round; nil if there is none
	work        sync.WaitGroup
	active      bool // wanted, as the loop last saw it
	needed      bool // what OnNeed was last told
	advertised  []ma.Multiaddr
	publishAt   time.Time // when a pending address change goes out; zero if none
	withoutFrom time.Time // since when there is no circuit address although wanted
	lastLost    *relay    // was advertised; its successor is still to come
	lostAt      time.Time
	fullRelays  map[peer.ID]bool // refused for lack of room, since the last reservation
	scarceUntil time.Time        // see noteFull
	feelAt      time.Time        // when it is felt next whether slots are scarce
	improveAt   time.Time        // when a better relay is looked for next
	saveAt      time.Time        // when the history is saved next
}

// New validates cfg. Nothing runs before Run.
func New(cfg Config) (*AutoRelay, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	a := &AutoRelay{
		cfg:        cfg.withDefaults(),
		candidates: make(chan Candidate, maxQueued),
		commands:   make(chan func(time.Time), maxCommands),
		poke:       make(chan struct{}, 1),
		ended:      make(chan struct{}),
		relays:     make(map[peer.ID]*relay),
		fullRelays: make(map[peer.ID]bool),
		reports:    make(chan report),
	}
	a.status.Store(&Status{Relays: []RelayStatus{}})
	var err error
	if a.metrics, err = newMetrics(a); err != nil {
		return nil, err
	}
	return a, nil
}

// coalesce gathers address changes: receivers accept an identify push every 5 s
// from one /24 (go-libp2p v0.51, p2p/protocol/identify/id.go), and two
// reservations of one burst should make one push.
const coalesce = 50 * time.Millisecond

// Want tells whether reservations are wanted, that is, whether the node cannot
// be dialled or does not know yet.
func (a *AutoRelay) Want(on bool) {
	a.wanted.Store(on)
	select {
	case a.poke <- struct{}{}:
	default:
	}
}

// Status returns a snapshot. It may be called at any time.
func (a *AutoRelay) Status() Status { return *a.status.Load() }

// Run holds reservations until ctx ends, and waits for what it started.
func (a *AutoRelay) Run(ctx context.Context) error {
	sub, err := a.cfg.Host.EventBus().Subscribe([]any{
		new(event.EvtPeerConnectednessChanged),
		new(event.EvtPeerProtocolsUpdated),
		new(event.EvtPeerIdentificationCompleted), // and so after every push
		new(event.EvtLocalAddressesUpdated),
	}, eventbus.Name("causeway/autorelay"), eventbus.BufSize(256))
	if err != nil {
		return fmt.Errorf("autorelay: subscribe: %w", err)
	}
	defer close(a.ended)
	defer sub.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer a.save()
	defer a.work.Wait()
	defer cancel()
	defer a.metrics.unregister()

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			a.releaseAll(NotNeeded, time.Now())
			return nil
		case c := <-a.candidates:
			a.addCandidate(c, time.Now())
		case <-a.poke:
			a.setActive(a.wanted.Load(), time.Now())
		case r := <-a.reports:
			a.handleReport(ctx, r, time.Now())
		case f := <-a.commands:
			f(time.Now())
		case ev, ok := <-sub.Out():
			if !ok {
				a.releaseAll(NotNeeded, time.Now())
				return nil
			}
			a.handleEvent(ev, time.Now())
		case <-timer.C:
		}
		now := time.Now()
		a.expire(now)
		a.saveNowAndThen(now)
		a.startWork(ctx, now)
		a.updateAddrs(now)
		a.noteWithout(now)
		a.tellNeed()
		a.snapshot(now)
		if a.answer != nil {
			a.answer()
			a.answer = nil
		}
		timer.Reset(a.nextWake(now))
	}
}

func (a *AutoRelay) setActive(on bool, now time.Time) {
	if on == a.active {
		return
	}
	a.active = on
	if !on {
		a.releaseAll(NotNeeded, now)
	}
}

// releaseAll lets go of every reservation. Circuit v2 has no message for that:
// the relay forgets us when the reservation expires or we disconnect.
func (a *AutoRelay) releaseAll(why Reason, now time.Time) {
	for _, r := range a.relays {
		if r.holds() {
			a.drop(r, why, "", now)
			r.state, r.retryAt = Known, time.Time{}
		}
	}
	a.lastLost = nil
	a.improveAt, a.scarceUntil, a.feelAt = time.Time{}, time.Time{}, time.Time{}
}

// saveEvery is the pause between two writes of the history.
const saveEvery = time.Minute

func (a *AutoRelay) saveNowAndThen(now time.Time) {
	if a.saveAt.IsZero() {
		a.saveAt = now.Add(saveEvery)
	}
	if now.Before(a.saveAt) {
		return
	}
	a.saveAt = now.Add(saveEvery)
	a.work.Go(a.save) // disks are slow
}

func (a *AutoRelay) save() {
	if err := a.cfg.History.Save(); err != nil {
		log.Warn("relay history not saved", "err", err)
	}
}

// tellNeed keeps discovery looking exactly while relays are missing.
func (a *AutoRelay) tellNeed() {
	need := a.active && a.countReserved() < a.cfg.Relays+a.cfg.Standby
	if need != a.needed {
		a.needed = need
		a.cfg.OnNeed(need)
	}
}

func (a *AutoRelay) countReserved() (n int) {
	for _, r := range a.relays {
		if r.state == Reserved {
			n++
		}
	}
	return n
}

func (a *AutoRelay) countHeld() (n int) {
	for _, r := range a.relays {
		if r.holds() {
			n++
		}
	}
	return n
}

func (a *AutoRelay) emit(e Event) {
	a.metrics.count(e)
	log.Debug("event", "kind", e.Kind, "relay", e.Relay, "reason", e.Reason, "detail", e.Detail, "dur", e.Took)
	a.cfg.OnEvent(e)
}

// nextWake says how long the loop may sleep.
func (a *AutoRelay) nextWake(now time.Time) time.Duration {
	wake := time.Minute
	at := func(t time.Time) {
		if !t.IsZero() {
			wake = min(wake, max(t.Sub(now), time.Millisecond))
		}
	}
	at(a.publishAt)
	switch {
	case a.scarce(now):
		at(a.scarceUntil)
	case a.active && a.missing(now) <= 0:
		at(a.improveAt)
		at(a.feelAt)
	}
	for _, r := range a.relays {
		switch {
		case r.holds():
			at(r.expires)
			at(r.leavesAt)
			if !r.busy && r.state == Reserved {
				at(r.refreshAt)
			}
		case !r.busy && (a.needed || r.wish == Pinned) && r.retryAt.After(now):
			// Those whose time has come wait for a call under way to end.
			at(r.retryAt)
		case r.busy && a.needed && r.since.Add(hedge).After(now):
			at(r.since.Add(hedge))
		}
	}
	return wake
}
