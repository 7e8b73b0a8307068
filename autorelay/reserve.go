package autorelay

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"

	"github.com/causeway-p2p/causeway/internal/dialerr"
)

// report is what work beside the loop found. Exactly one of its parts is set.
type report struct {
	relay   peer.ID
	reserve *reserved
	probe   *probed
	measure *probed // one probe of a relay that we hold no reservation on
}

// reserved is the outcome of one reserve call.
type reserved struct {
	reservation *client.Reservation
	reason      Reason // why not
	err         error
	took        time.Duration
}

const (
	// reserveTimeout bounds dialling a relay and reserving on it. A relay that
	// needs longer is not one to depend on.
	reserveTimeout = 10 * time.Second
	// restartTimeout takes its place for a relay that restarts, if its round
	// trip time allows: QUIC waits longer and longer between its attempts at a
	// closed port (RFC 9002, section 6.2.1), so that a new dial gets through
	// earlier. restartTrips is how many round trips it takes, and one to spare.
	restartTimeout = time.Second
	restartTrips   = 6
	// byeFor is for how long a refusal is put down to the relay having said
	// that it leaves.
	byeFor = 10 * time.Minute
	// refreshShare is when a reservation is refreshed, as a share of its life:
	// early enough for several attempts before it ends.
	refreshShare = 0.6
	// refreshSpread, of the same, spreads the refreshes of a crowd that came
	// at one moment.
	refreshSpread = 0.1
	// refreshRetry is the pause after a failed refresh while the reservation
	// itself is still good.
	refreshRetry = 15 * time.Second
)

// reserve asks r for a reservation, or to refresh the one we have.
func (a *AutoRelay) reserve(ctx context.Context, r *relay, now time.Time) {
	r.busy = true
	if r.state != Reserved {
		r.state, r.since = Reserving, now
	}
	info := peer.AddrInfo{ID: r.id, Addrs: r.addrs}
	timeout := reserveTimeout
	if a.restarting(r, now) {
		trips := time.Duration(restartTrips)
		if a.cfg.BeforeReserve != nil {
			trips++
		}
		timeout = min(max(restartTimeout, trips*r.rtt), reserveTimeout)
	}
	a.work.Go(func() {
		rctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		start := time.Now()
		a.clearDialBackoff(r.id)
		// A circuit cannot carry a reservation (circuit v2 spec, "reservation
		// over relayed connections"), so only a direct connection will do.
		h := &endingHost{Host: a.cfg.Host, end: rctx}
		if a.cfg.BeforeReserve != nil {
			h.before = func() {
				bctx, cancel := context.WithTimeout(rctx, timeout/2)
				defer cancel()
				a.cfg.BeforeReserve(bctx, r.id)
			}
		}
		rsvp, err := client.Reserve(network.WithForceDirectDial(rctx, "autorelay"), h, info)
		h.done()
		if err != nil && rctx.Err() != nil {
			err = rctx.Err()
		}
		out := &reserved{reservation: rsvp, err: err, reason: reasonOf(err), took: time.Since(start)}
		select {
		case a.reports <- report{relay: r.id, reserve: out}:
		case <-ctx.Done():
		}
	})
}

// clearDialBackoff makes go-libp2p dial when we say so: after a failed dial it
// refuses to dial again for 5 s and more (p2p/net/swarm/swarm_dial.go), and a
// relay that restarts is back before that. The pauses here are our own.
func (a *AutoRelay) clearDialBackoff(id peer.ID) {
	if sw, ok := a.cfg.Host.Network().(interface{ Backoff() *swarm.DialBackoff }); ok {
		sw.Backoff().Clear(id)
	}
}

// endingHost is a host whose stream ends with a context. client.Reserve heeds
// its context only until the stream is open, and then waits for a minute
// (go-libp2p v0.51, p2p/protocol/circuitv2/client/reservation.go).
type endingHost struct {
	host.Host
	end    context.Context
	before func() // if not nil, called between connecting and opening the stream
	stop   func() bool
}

func (h *endingHost) NewStream(ctx context.Context, p peer.ID, protos ...protocol.ID) (network.Stream, error) {
	if h.before != nil {
		if err := h.Connect(ctx, peer.AddrInfo{ID: p}); err != nil {
			return nil, err
		}
		h.before()
	}
	s, err := h.Host.NewStream(ctx, p, protos...)
	if err == nil {
		h.stop = context.AfterFunc(h.end, func() { s.Reset() })
	}
	return s, err
}

func (h *endingHost) done() {
	if h.stop != nil {
		h.stop()
	}
}

// reasonOf reads a refusal by its status: a relay that is full or does not
// want us is another matter than one that cannot be reached.
func reasonOf(err error) Reason {
	var re client.ReservationError
	if !errors.As(err, &re) {
		return Unreachable
	}
	switch re.Status {
	case pbv2.Status_RESERVATION_REFUSED, pbv2.Status_RESOURCE_LIMIT_EXCEEDED:
		return Full
	case pbv2.Status_PERMISSION_DENIED:
		return Forbidden
	case pbv2.Status_MALFORMED_MESSAGE, pbv2.Status_UNEXPECTED_MESSAGE:
		return Misbehaved
	}
	return Unreachable
}

// sentence makes an error short enough to show: go-libp2p's carry the whole
// history of a dial.
func sentence(err error) string {
	var re client.ReservationError
	if errors.As(err, &re) {
		if err = re.Unwrap(); err == nil {
			return re.Status.String()
		}
	}
	return dialerr.Short(err).Error()
}

func (a *AutoRelay) handleReport(ctx context.Context, rep report, now time.Time) {
	r := a.relays[rep.relay]
	if r != nil && rep.probe == nil && r.again {
		r.again = false
		defer a.askAgain(r, now)
	}
	switch {
	case r == nil:
	case r.removed && rep.probe == nil:
		delete(a.relays, r.id)
		a.release(r, ByUser, now) // it may just have given us a reservation
	case rep.probe != nil:
		a.handleProbe(r, *rep.probe, now)
	case rep.measure != nil:
		r.busy = false
		a.handleMeasured(ctx, r, *rep.measure, now)
	default:
		r.busy = false
		a.handleReserved(r, *rep.reserve, now)
	}
}

func (a *AutoRelay) handleReserved(r *relay, out reserved, now time.Time) {
	ousts := r.ousts
	r.ousts = ""
	if out.err == nil {
		if ttl := out.reservation.Expiration.Sub(now); ttl < minTTL {
			out.err, out.reason = errors.New("the reservation would end at once"), Misbehaved
		}
	}
	if out.err == nil {
		a.accept(r, out, ousts, now)
		return
	}
	if now.Sub(r.saidBye) < byeFor && (out.reason == Full || out.reason == Forbidden) {
		out.reason = Drained // it refuses everybody, and will be back
	}
	r.feeler = false
	detail := sentence(out.err)
	if !r.holds() {
		a.fail(r, out.reason, detail, now)
		a.emit(Event{Kind: Failed, Relay: r.id, Reason: out.reason, Detail: detail, Took: out.took, Time: now})
	} else {
		// A failed refresh does not end a reservation that is still good.
		r.detail = detail
		r.refreshAt = now.Add(refreshRetry)
		a.emit(Event{Kind: RefreshFailed, Relay: r.id, Reason: out.reason, Detail: detail, Time: now})
		if r.state == Reserved && (out.reason == Full || out.reason == Forbidden || out.reason == Drained) {
			a.lose(r, out.reason, detail, now) // the relay has dropped it
		}
	}
	if out.reason == Full {
		a.noteFull(r, now)
	}
}

// accept takes a reservation in.
func (a *AutoRelay) accept(r *relay, out reserved, ousts peer.ID, now time.Time) {
	clear(a.fullRelays)
	fresh := !r.holds()
	switch {
	case fresh && (!a.active || r.wish == Banned):
		a.release(r, NotNeeded, now)
		return
	case fresh && a.cfg.Host.Network().Connectedness(r.id) != network.Connected:
		a.fail(r, ConnectionLost, "gone right after it reserved", now)
		return
	}
	r.vouched = out.reservation.Addrs[:min(len(out.reservation.Addrs), maxRelayAddrs)]
	if fresh && !a.hasAddress(r) {
		a.fail(r, Unreachable, "no address that others could use", now)
		r.retryAt = now.Add(backoff(Forbidden, r.failures)) // seldom changes
		return
	}
	ttl := min(out.reservation.Expiration.Sub(now), maxTTL)
	r.expires = now.Add(ttl)
	r.refreshAt = now.Add(time.Duration(float64(ttl) * (refreshShare - refreshSpread*rand.Float64())))
	r.limitData, r.limitTime = out.reservation.LimitData, out.reservation.LimitDuration
	r.roomy = r.limitData == 0 || r.limitData >= smallData
	a.cfg.History.note(r.id, good, now)
	if !fresh {
		return
	}
	r.regained(now)
	old := a.relays[ousts]
	if old != nil && (!old.holds() || old.wish == Pinned) {
		old = nil
	}
	spare := now.Before(r.spareTil) && a.countReserved() < a.cfg.Relays+a.cfg.Standby
	if old == nil && r.wish != Pinned && !spare && a.missing(now) <= 0 {
		// A speculative call that came too late to be needed.
		a.release(r, NotNeeded, now)
		return
	}
	r.feeler = false // it came in useful
	r.state, r.since, r.held = Reserved, now, now
	r.failures, r.reason, r.detail = 0, "", ""
	r.lostAt, r.saidBye, r.leavesAt = time.Time{}, time.Time{}, time.Time{}
	a.cfg.Host.ConnManager().Protect(r.id, protectTag)
	a.emit(Event{Kind: ReservedOn, Relay: r.id, Detail: r.foundBy(), Took: out.took, Time: now})
	a.startProbe(r)
	if old != nil {
		// First the new one is shown, then the old one goes.
		r.shown = old.shown
		a.release(old, Better, now)
		a.emit(Event{Kind: Replaced, Relay: r.id, Old: old.id, Reason: Better, Time: now})
	}
	a.fillShown(now)
}
