package relay

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/notice"
)

const (
	// drainNotices bounds how long the notices of a relay that drains take in
	// all: whoever stops a process waits for it.
	drainNotices = 2 * time.Second
	// tellEach bounds one of them; several round trips on a bad path.
	tellEach = time.Second
	// drainWorkers is how many are under way at once. With the default limit
	// of 1024 reservations all who hold one are told, even if all but one hang.
	drainWorkers = 512

	// loadInterval and loadPeers bound what a full relay sends: 8 notices a
	// second, however many it refuses. A notice frees at most one slot, and
	// many of those who are asked cannot leave.
	loadInterval = time.Second
	loadPeers    = 8
	// loadAgain is how long a peer is left alone after it was asked. Whoever
	// could leave has done so by then; and the receiver's allowance of 10
	// notices a minute must have room for the one that we drain.
	loadAgain = 30 * time.Second
)

// tellDraining returns when all who rely on us know, or it took too long.
func (r *Relay) tellDraining(deadline time.Duration, siblings []peer.AddrInfo) {
	ctx, cancel := context.WithTimeout(context.Background(), drainNotices)
	defer cancel()
	var to []peer.ID
	for _, p := range r.relying() {
		if notice.Speaks(r.cfg.Host, p) {
			to = append(to, p)
		}
	}
	if len(to) == 0 {
		return
	}
	began := time.Now()
	told := r.tell(ctx, to, drainWorkers, notice.Notice{
		Draining: &notice.Draining{Within: deadline, Siblings: siblings},
	})
	log.Info("peers told that the relay drains", "peers", len(to), "told", told, "dur", time.Since(began))
}

// relying lists those who hold a reservation, and after them those who have
// circuits without holding one: they can open others elsewhere meanwhile.
func (r *Relay) relying() []peer.ID {
	list := r.table.holders()
	known := make(map[peer.ID]bool, len(list))
	for _, p := range list {
		known[p] = true
	}
	for _, c := range r.table.circuitsOf("") {
		for _, p := range []peer.ID{c.src, c.dst} {
			if !known[p] {
				known[p] = true
				list = append(list, p)
			}
		}
	}
	return list
}

// tell sends n to all, and returns how many have read it.
func (r *Relay) tell(ctx context.Context, to []peer.ID, workers int, n notice.Notice) int {
	var all sync.WaitGroup
	var read atomic.Int64
	next := make(chan peer.ID)
	for range min(workers, len(to)) {
		all.Go(func() {
			for p := range next {
				one, cancel := context.WithTimeout(ctx, tellEach)
				err := notice.Send(one, r.cfg.Host, p, n)
				cancel()
				if err != nil {
					log.Debug("notice not delivered", "peer", p, "err", err)
					continue
				}
				read.Add(1)
			}
		})
	}
feed:
	for _, p := range to {
		select {
		case next <- p:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	all.Wait()
	return int(read.Load())
}

const (
	// retryAfter is when a peer that found no room is told to ask again, spread
	// by as much again: by then those who were asked to make room have done so.
	retryAfter = 5 * time.Second
	// maxWaiters bounds how many are being told at once; others come back when
	// they see fit.
	maxWaiters = 64
)

// noRoom is called when a peer was refused because no reservation is free.
// Others are asked to make room, and the peer is told when to come back: circuit
// v2 has no word for that.
func (r *Relay) noRoom(p peer.ID) {
	select {
	case r.full <- struct{}{}:
	default: // one is waiting already
	}
	select {
	case r.waiters <- struct{}{}:
	default:
		return
	}
	// We are on the stream's own goroutine.
	defer func() { <-r.waiters }()
	if r.takesNotices(p) {
		r.tellLater(p)
	}
}

const (
	// identifyWait is how long a peer that comes and asks at once may take
	// until identify says what it speaks: several round trips on a bad path.
	identifyWait = time.Second
	identifyPoll = 50 * time.Millisecond
)

// takesNotices reports whether p does, for which identify may have to end first.
func (r *Relay) takesNotices(p peer.ID) bool {
	for began := time.Now(); time.Since(began) < identifyWait; {
		if known, err := r.cfg.Host.Peerstore().GetProtocols(p); err != nil || len(known) > 0 {
			break
		}
		select {
		case <-r.ctx.Done():
			return false
		case <-time.After(identifyPoll):
		}
	}
	return notice.Speaks(r.cfg.Host, p)
}

// tellLater tells a peer when to come back.
func (r *Relay) tellLater(p peer.ID) {
	r.tell(r.ctx, []peer.ID{p}, 1, notice.Notice{Load: &notice.Load{
		Reservations: r.table.reservations(), MaxReservations: r.policy.Load().Limits.Reservations,
		RetryAfter: retryAfter + rand.N(retryAfter),
	}})
}

// tellFull asks a few peers to make room when somebody found none: one who
// holds two reservations here and elsewhere can leave, so that nobody is left
// with none.
func (r *Relay) tellFull(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.full:
		}
		pause := time.After(loadInterval)
		now := time.Now()
		if to := r.table.askable(loadPeers, now.Add(-loadAgain), now, func(p peer.ID) bool { return notice.Speaks(r.cfg.Host, p) }); len(to) > 0 {
			r.tell(ctx, to, loadPeers, notice.Notice{Load: &notice.Load{
				Reservations: r.table.reservations(), MaxReservations: r.policy.Load().Limits.Reservations, Full: true,
			}})
		}
		select {
		case <-ctx.Done():
			return
		case <-pause:
		}
	}
}
