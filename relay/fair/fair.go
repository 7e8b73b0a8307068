// Package fair divides a relay's bandwidth: between circuits under the relay's
// cap, and between the circuits of one peer under the rate of its class.
//
//	flow ─┐
//	flow ─┼─ Share: rate of one peer ──┐
//	flow ─┘                            ├─ Scheduler: the relay's cap ── the wire
//	flow ─── Share: no rate ───────────┘
//
// A circuit has one [Flow] per direction and asks it for each piece that it is
// about to write. Where there is neither a cap nor a rate, that costs a few
// nanoseconds. Where there is one, the piece goes through up to two queues that
// work alike, first the Share's, then the Scheduler's:
//
//	            sparse: at most a quantum ahead of the others
//	          ┌────────────────────────────────────┐
//	Acquire ──┤                                    ├── token bucket ──▶ passes
//	          └────────────────────────────────────┘
//	            backlogged: whoever passed least, first
//
// Backlogged flows get equal numbers of bytes, whatever the size of their
// pieces. Sparse flows (a shell, a call) go before them, so that one download
// is not felt by those who type beside it. A flow is sparse as long as it takes
// less than its fair share, and for one quantum beyond; from then on it is
// backlogged. Its haste gains it no bytes. Both follow from one number per
// flow, the start tag of start-time fair queueing; the preference for sparse
// flows and the rule against its abuse are those of RFC 8290, section 4, held
// against that tag and not against rounds: in rounds, a flow that speaks twice
// in one of them would wait for all of it.
//
// What this does not do: tell peers apart beyond their Share. A peer with many
// circuits has as many flows under the cap, and each new flow begins as a sparse
// one; how many circuits a peer may have, and how fast it may open them, is for
// the relay to bound.
package fair

import (
	"errors"
	"sync/atomic"
)

const (
	// MaxPiece is the most that Acquire may be asked for, in bytes.
	MaxPiece = 64 << 10
	// maxCapped bounds a piece where bytes are counted: what others have to
	// wait for once it is on its way.
	maxCapped = 16 << 10
	// minCapped keeps slow rates from being cut into single packets.
	minCapped = 2 << 10
	// pieceTime is how long a piece should take at a slow rate, as the divisor
	// of a second: 5 ms, a quarter of what a voice call sends at once.
	pieceTime = 200
)

// ErrStopped is returned by Acquire when the flow was closed, or done was,
// before the bytes could pass.
var ErrStopped = errors.New("flow stopped")

var errBusy = errors.New("fair: two calls of Acquire on one flow")

// Scheduler holds the cap of a relay. It has no goroutine, and nothing to
// close.
type Scheduler struct{ q queue }

// New returns a scheduler that lets rate bytes pass per second, and at most
// burst at once; see [Scheduler.SetRate].
func New(rate, burst int64) *Scheduler {
	s := new(Scheduler)
	s.q.setRate(rate, burst)
	return s
}

// SetRate changes the cap, also for those who wait already. The rate is in
// bytes per second; if zero or less, there is no cap. The burst is in bytes; if
// zero or less, 5 ms of the rate, and at least two pieces; the largest piece
// that is asked for raises it. A burst of less than 2 ms of the rate costs some
// of it, since that is how late timers may be.
func (s *Scheduler) SetRate(rate, burst int64) { s.q.setRate(rate, burst) }

// Waiting is how many flows wait for the cap now.
func (s *Scheduler) Waiting() int { return s.q.waiting() }

// Share holds the rate of one peer. It may be dropped when its flows are
// closed.
type Share struct {
	s *Scheduler
	q queue
}

// Share returns a share for the circuits of one peer. Rate and burst are as for
// [Scheduler.SetRate].
func (s *Scheduler) Share(rate, burst int64) *Share {
	sh := &Share{s: s}
	sh.q.setRate(rate, burst)
	return sh
}

// SetRate changes the rate, as [Scheduler.SetRate] does.
func (sh *Share) SetRate(rate, burst int64) { sh.q.setRate(rate, burst) }

// Flow is one direction of a circuit.
type Flow struct {
	share, relay *queue
	closed       atomic.Bool

	atShare, atRelay waiter
}

// Flow returns a flow. It is to be closed.
func (sh *Share) Flow() *Flow {
	return &Flow{share: &sh.q, relay: &sh.s.q}
}

// Piece is how many bytes to ask for at once: MaxPiece if nothing is capped,
// and less otherwise. It changes with the rates.
func (f *Flow) Piece() int {
	return min(piece(f.share.rate.Load()), piece(f.relay.rate.Load()))
}

// Acquire waits until n bytes may pass; n is at most MaxPiece, and better
// [Flow.Piece]. It returns [ErrStopped] as soon as done or the flow is closed.
// Only one call may run at a time on one flow.
func (f *Flow) Acquire(n int, done <-chan struct{}) error {
	if f.closed.Load() {
		return ErrStopped
	}
	if f.share.rate.Load() == 0 && f.relay.rate.Load() == 0 || n <= 0 {
		return nil
	}
	return f.acquire(int64(n), done)
}

func (f *Flow) acquire(n int64, done <-chan struct{}) error {
	if err := f.share.acquire(&f.atShare, n, &f.closed, done); err != nil {
		return err
	}
	if err := f.relay.acquire(&f.atRelay, n, &f.closed, done); err != nil {
		f.share.giveBack(&f.atShare, n)
		return err
	}
	return nil
}

// Close ends a call of Acquire that waits, and all later ones. It may be called
// at any time, and again.
func (f *Flow) Close() {
	f.closed.Store(true) // before the locks: who takes one later sees it
	f.share.leave(&f.atShare)
	f.relay.leave(&f.atRelay)
}

// piece is how much to write at once at a rate.
func piece(rate int64) int {
	if rate == 0 {
		return MaxPiece
	}
	return int(min(max(rate/pieceTime, minCapped), maxCapped))
}
