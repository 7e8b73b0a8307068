package direct

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// record is a peer that we have a relayed connection to.
//
//	  relayed connection
//	          │                  ┌── after 1, 5, 15 min, or on a change ──┐
//	          ▼                  ▼                                        │
//	(they begin: wait)      due ─▶ running ──no direct connection──▶ failed
//	                                  │
//	                                  └──▶ direct ──lost──▶ due
type record struct {
	since    time.Time
	ours     bool // we begin, because they came to us
	either   bool // they are one of ours: we may begin as well
	running  bool
	attempts int
	next     time.Time // of the next attempt; zero: none is planned
	direct   time.Time // since when there is a direct connection; zero: there is none
	told     Event     // the last that was
	asked    time.Time // when the last attempt that they began had ended, as far as seen
	// uses are those of the connections, by their ID, while one is direct.
	uses map[string]use
}

const (
	// maxRunning bounds our own attempts that are under way at once: far more
	// than a handful of peers that take their time can hold up.
	maxRunning = 128
	// soonest is the pause between two attempts when something has changed:
	// changes come in groups.
	soonest = 2 * time.Second
	// oneAttempt is longer than the rounds of an attempt take, and shorter than
	// the pause before the next.
	oneAttempt = 30 * time.Second
	// sweepEvery is how often connections are looked through.
	sweepEvery = 5 * time.Second
)

// again is the pause after the nth attempt in vain: NATs change when people
// move, and a relay's bytes cost somebody money as long as they do not.
func again(attempts int) time.Duration {
	pauses := []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute}
	d := pauses[max(0, min(attempts-1, len(pauses)-1))]
	return d - d/10 + rand.N(d/5)
}

// look brings the record of a peer up to date with its connections.
func (u *Upgrader) look(ctx context.Context, records map[peer.ID]*record, p peer.ID) {
	now := time.Now()
	rec := records[p]
	relayed, direct := relayedConn(u.host.Network(), p), directConn(u.host.Network(), p)
	if relayed == nil {
		several := rec != nil && !rec.direct.IsZero() && countDirect(u.host.Network().ConnsToPeer(p)) > 1
		switch {
		case several: // letGo sees to it
		case rec != nil && rec.running:
		case direct == nil:
			delete(records, p)
			u.forget(p)
		case rec != nil: // the relayed one has done its duty
			if rec.direct.IsZero() {
				rec.direct = now
			}
			rec.next = time.Time{}
			u.note(p, rec, nil)
			delete(records, p)
		}
		return
	}
	if rec == nil {
		rec = &record{since: now}
		records[p] = rec
	}
	if !rec.ours && u.begins(p) {
		rec.ours, rec.next = true, now
	}
	switch {
	case direct == nil && !rec.direct.IsZero():
		held := now.Sub(rec.direct)
		rec.direct = time.Time{}
		if rec.ours && held >= grace {
			rec.attempts, rec.next = 0, now
		} else if rec.ours {
			rec.next = now.Add(again(rec.attempts)) // it was not worth much
		}
	case direct != nil && rec.direct.IsZero():
		rec.direct, rec.next = now, time.Time{}
	}
	u.note(p, rec, nil)
	u.startOne(ctx, p, rec, now)
}

// begins reports whether it is for us to begin: a peer that came to us over a
// relay. Where both have come to the other, it is for one of them.
func (u *Upgrader) begins(p peer.ID) bool {
	var came, went bool
	for _, c := range u.host.Network().ConnsToPeer(p) {
		if !c.IsClosed() && Relayed(c) {
			inbound := c.Stat().Direction == network.DirInbound
			came, went = came || inbound, went || !inbound
		}
	}
	return came && (!went || u.host.ID() < p)
}

// soon plans another attempt, because something has changed.
func (r *record) soon(now time.Time) {
	if (r.ours || r.either) && !r.running && r.direct.IsZero() {
		r.attempts, r.next = 0, now.Add(soonest/2+rand.N(soonest/2))
	}
}

// startDue starts what is due, and says how long to wait for the next.
func (u *Upgrader) startDue(ctx context.Context, records map[peer.ID]*record) time.Duration {
	wait := time.Hour
	now := time.Now()
	for p, rec := range records {
		u.startOne(ctx, p, rec, now)
		if !rec.next.IsZero() && !rec.running {
			// Those that are due now wait for one that runs to end.
			wait = min(wait, max(rec.next.Sub(now), time.Second))
		}
	}
	return wait
}

func (u *Upgrader) startOne(ctx context.Context, p peer.ID, rec *record, now time.Time) {
	if rec.running || rec.next.IsZero() || now.Before(rec.next) || u.running >= maxRunning {
		return
	}
	conn := relayedConn(u.host.Network(), p)
	if conn == nil {
		return
	}
	if !u.rates.allow(p, now) {
		rec.next = now.Add(perPeerEvery + rand.N(perPeerEvery))
		return
	}
	rec.attempts++
	n := rec.attempts
	started := u.begin(func() {
		r := u.initiate(ctx, conn)
		r.attempt = n
		u.results <- r
	})
	if started {
		rec.running, rec.next = true, time.Time{}
		u.running++
	}
}

// record takes in how an attempt ended.
func (u *Upgrader) record(records map[peer.ID]*record, r result) {
	rec := records[r.peer]
	if r.ours {
		u.running--
	}
	if rec != nil {
		rec.either = rec.either || r.known
		if r.ours {
			rec.running = false
		} else {
			rec.wasAsked(time.Now())
			r.attempt = rec.attempts
		}
		if r.ours && !r.outcome.Direct() && rec.direct.IsZero() {
			if rec.ours { // or else it is theirs to try again
				rec.next = time.Now().Add(again(rec.attempts))
			}
			if r.outcome == Unsupported && rec.attempts > 1 {
				rec.next = time.Time{} // it will not learn it
			}
		}
		u.note(r.peer, rec, &r)
	}
	e := r.event()
	u.meter.ended(e)
	if rec != nil {
		// Who is asked sees each round of an attempt, and hears of it once.
		if !e.Outcome.Direct() && e.Outcome == rec.told.Outcome && e.Time.Sub(rec.told.Time) < oneAttempt {
			return
		}
		rec.told = e
	}
	log.Debug("attempt at a direct connection ended", "peer", e.Peer, "outcome", e.Outcome, "reason", e.Why,
		"dur", e.Took, "attempt", e.Attempt, "ours", e.Ours, "theirs", e.Theirs)
	u.cfg.OnEvent(e)
}

// wasAsked counts an attempt that they began. Each round of it is seen by
// itself.
func (r *record) wasAsked(now time.Time) {
	if r.attempts == 0 || now.Sub(r.asked) >= oneAttempt {
		r.attempts++
	}
	r.asked = now
}

// note brings the status up to date.
func (u *Upgrader) note(p peer.ID, rec *record, r *result) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.status[p]
	s.Peer, s.Since, s.Attempts, s.Again = p, rec.since, rec.attempts, rec.next
	s.Direct, s.DirectSince = !rec.direct.IsZero(), rec.direct
	if r != nil {
		e := r.event()
		s.Outcome, s.Why = e.Outcome, e.Why
	}
	u.status[p] = s
}

// forgetGone forgets the peers without any connection, of which word may have
// been missed.
func (u *Upgrader) forgetGone() {
	for _, s := range u.Status() {
		if u.host.Network().Connectedness(s.Peer) == network.NotConnected {
			u.forget(s.Peer)
		}
	}
}

func (u *Upgrader) forget(p peer.ID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.status, p)
}
