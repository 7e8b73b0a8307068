// Package usage keeps accounts: what each peer has sent and received through
// the relay, in all and in this calendar month, and survives restarts.
//
//	Account ──▶ in use ──Release──▶ idle ──flush──▶ on disk only
//	               ▲                 │                  │
//	               └─────Account─────┴──────────────────┘
//
// An [Account] in use lives in memory, where counting costs one atomic
// addition. Every 30 seconds what changed is written in one transaction, so
// that a crash loses no more than that. Accounts that nobody uses are forgotten
// in memory once they are written, and at once if nothing was counted; most
// peers are strangers who come once.
//
// Both sides are bounded. On disk there are at most a million accounts; beyond
// that those with less than 1 MiB go first, the longest unseen before the
// others. In memory, idle accounts that wait to be written are at most 65536,
// and what is counted for more than that within 30 seconds is lost.
//
// Months are those of UTC. Several programs cannot share a file.
package usage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/internal/logging"
)

var log = logging.For("usage")

const (
	// flushEvery is what a crash may cost. Shorter, and a slow disk would be
	// at work all the time.
	flushEvery = 30 * time.Second
	// maxRecords bounds the accounts on disk: about 300 MB.
	maxRecords = 1_000_000
	// maxMemory is the same for a store without a file, in about 30 MB.
	maxMemory = 128 << 10
	// maxIdle bounds idle accounts that are not yet written, in about 20 MB. At
	// a quarter of it they are written early.
	maxIdle = 64 << 10
)

// Store holds the accounts. It may be used concurrently.
type Store struct {
	disk       backend
	maxRecords int
	maxIdle    int
	early      chan struct{} // asks Run to flush
	unread     atomic.Int64  // accounts that could not be read, for Run to tell

	closing sync.Once
	closed  error // of Close

	flushing sync.Mutex // held by Flush; taken before mu

	mu   sync.Mutex // guards the fields below, and in each account those it says
	live map[peer.ID]*Account
	idle int // of these without a user
}

// backend is where records are when they are not in memory.
type backend interface {
	get(peer.ID) (record, bool, error)
	// update puts and removes in one transaction.
	update(put []entry, remove []peer.ID) error
	each(func(peer.ID, record) error) error
	count() int
	close() error
}

type entry struct {
	id peer.ID
	record
}

// Open opens or makes the file at path; if path is empty, accounts are in
// memory only. A file that is damaged is moved to path.corrupt, with a warning
// in the log, and a new one made: a relay without its accounts is better than
// none.
func Open(path string) (*Store, error) {
	s := &Store{
		disk: newMemory(), maxRecords: maxMemory, maxIdle: maxIdle,
		early: make(chan struct{}, 1), live: make(map[peer.ID]*Account),
	}
	if path != "" {
		d, err := openDisk(path)
		if err != nil {
			return nil, err
		}
		s.disk, s.maxRecords = d, maxRecords
	}
	return s, nil
}

// Account returns the account of a peer, which is to be released.
func (s *Store) Account(p peer.ID) *Account {
	s.mu.Lock()
	a := s.live[p]
	switch {
	case a == nil:
		a = &Account{s: s, id: p}
		s.live[p] = a
	case a.users == 0:
		s.idle--
	}
	a.users++
	s.mu.Unlock()
	a.load.Do(a.read) // not under mu: it may wait for the disk
	return a
}

func (s *Store) release(a *Account) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.users--; a.users > 0 {
		return
	}
	s.idle++
	if a.cleanLocked() || s.idle > s.maxIdle {
		s.forgetLocked(a)
		return
	}
	if s.idle > s.maxIdle/4 {
		select {
		case s.early <- struct{}{}:
		default: // asked already
		}
	}
}

func (s *Store) forgetLocked(a *Account) {
	s.idle--
	delete(s.live, a.id)
}

// Get returns what is known of a peer.
func (s *Store) Get(p peer.ID) (Usage, bool) {
	s.mu.Lock()
	a := s.live[p]
	s.mu.Unlock()
	if a != nil {
		a.load.Do(a.read)
		u := a.Usage()
		return u, !u.First.IsZero()
	}
	r, ok, err := s.disk.get(p)
	if err != nil {
		log.Warn("account not read", "peer", p, "err", err)
	}
	return r.usage(p, time.Now()), ok
}

// Run writes what changed every 30 seconds, and when ctx ends.
func (s *Store) Run(ctx context.Context) error {
	early := s.early
	for {
		now := time.Now()
		// Not across the end of a month, or bytes of the new one would count
		// for the old.
		t := time.NewTimer(min(flushEvery, untilNextMonth(now)))
		select {
		case <-ctx.Done():
			t.Stop()
			return s.Flush()
		case <-early:
			t.Stop()
		case <-t.C:
		}
		early = s.early
		if err := s.Flush(); err != nil {
			log.Warn("accounts not written, they are kept for the next time", "err", err)
			early = nil // a disk that is full is asked at its time only
		}
		if n := s.unread.Swap(0); n > 0 {
			log.Warn("accounts not read, they start from zero", "accounts", n)
		}
	}
}

// Flush writes what changed since the last time. After an error, all of it is
// kept.
func (s *Store) Flush() error {
	s.flushing.Lock()
	defer s.flushing.Unlock()

	now := time.Now()
	var put []entry
	var of []*Account
	s.mu.Lock()
	for _, a := range s.live {
		a.roll(now)
		if !a.cleanLocked() {
			put, of = append(put, entry{a.id, a.recordLocked(now)}), append(of, a)
		}
	}
	s.mu.Unlock()
	if len(put) == 0 {
		return nil
	}
	if err := s.disk.update(put, nil); err != nil {
		return fmt.Errorf("write %d accounts: %w", len(put), err)
	}
	s.mu.Lock()
	for i, a := range of {
		a.saved = put[i].record
		a.first, a.last = put[i].first, put[i].last
		if a.users == 0 && a.cleanLocked() && s.live[a.id] == a {
			s.forgetLocked(a)
		}
	}
	s.mu.Unlock()
	if s.disk.count() > s.maxRecords {
		return s.prune()
	}
	return nil
}

// Close writes what changed and closes the file. Accounts that are still in use
// may be counted on, and are not written any more.
func (s *Store) Close() error {
	s.closing.Do(func() { s.closed = errors.Join(s.Flush(), s.disk.close()) })
	return s.closed
}
