package usage

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Account is one peer's, while it is in use. All who ask for a peer share one.
type Account struct {
	s    *Store
	id   peer.ID
	load sync.Once // read

	bytes, circuits, refusals atomic.Int64

	rolling sync.Mutex // guards the two below; innermost
	month   int
	before  int64 // bytes at the start of the month

	// Guarded by the store's mu.
	users       int
	saved       record // as it is on disk
	first, last int64  // as in record
}

// Usage is what is known of a peer.
type Usage struct {
	Peer peer.ID `json:"peer"`
	// Bytes went either way through circuits to or from the peer.
	Bytes int64 `json:"bytes"`
	// MonthBytes are those of the current calendar month (UTC).
	MonthBytes int64 `json:"month_bytes"`
	Circuits   int64 `json:"circuits"`
	Refusals   int64 `json:"refusals"`
	// First and Last are when something was counted, within half a minute; zero
	// if nothing ever was.
	First time.Time `json:"first,omitzero"`
	Last  time.Time `json:"last,omitzero"`
}

// read takes over what is on disk. It runs once, before anybody has the
// account.
func (a *Account) read() {
	r, _, err := a.s.disk.get(a.id)
	if err != nil {
		log.Debug("account not read, it starts from zero", "peer", a.id, "err", err)
		a.s.unread.Add(1)
	}
	a.s.mu.Lock() // at once, or a flush would find a difference
	defer a.s.mu.Unlock()
	a.saved, a.first, a.last = r, r.first, r.last
	a.bytes.Store(r.bytes)
	a.circuits.Store(r.circuits)
	a.refusals.Store(r.refusals)
	a.rolling.Lock()
	a.month, a.before = r.month, r.bytes-r.monthBytes
	a.rolling.Unlock()
	a.roll(time.Now())
}

// AddBytes counts bytes. It takes no lock.
func (a *Account) AddBytes(n int64) { a.bytes.Add(n) }

// AddCircuit counts a circuit.
func (a *Account) AddCircuit() { a.circuits.Add(1) }

// AddRefusal counts a reservation or a circuit that was refused.
func (a *Account) AddRefusal() { a.refusals.Add(1) }

// MonthBytes are those of the current calendar month (UTC), for a quota.
func (a *Account) MonthBytes() int64 { return a.roll(time.Now()) }

// Usage is what the account says now.
func (a *Account) Usage() Usage {
	now := time.Now()
	a.roll(now)
	a.s.mu.Lock()
	r := a.recordLocked(now)
	a.s.mu.Unlock()
	return r.usage(a.id, now)
}

// Release tells that the account is not used any more by whoever asked for it.
func (a *Account) Release() { a.s.release(a) }

// roll begins a new month if it is time, and returns the bytes of the current.
func (a *Account) roll(now time.Time) int64 {
	a.rolling.Lock()
	defer a.rolling.Unlock()
	bytes := a.bytes.Load()
	month, fresh := nextMonth(a.month, now)
	if a.month = month; fresh {
		a.before = bytes
	}
	return bytes - a.before
}

// recordLocked is what is to be written.
func (a *Account) recordLocked(now time.Time) record {
	r := record{circuits: a.circuits.Load(), refusals: a.refusals.Load(), first: a.first, last: a.last}
	a.rolling.Lock()
	r.bytes = a.bytes.Load() // not less than before, which is read from it
	r.month, r.monthBytes = a.month, r.bytes-a.before
	a.rolling.Unlock()
	if !r.sameCounts(a.saved) {
		r.seen(now)
	}
	return r
}

// cleanLocked tells whether nothing was counted since the account was written.
func (a *Account) cleanLocked() bool {
	return a.saved.sameCounts(record{bytes: a.bytes.Load(), circuits: a.circuits.Load(), refusals: a.refusals.Load()})
}
