package usage

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// By is what to rank peers by.
type By string

// What peers can be ranked by.
const (
	ByBytes      By = "bytes"
	ByMonthBytes By = "month"
	ByCircuits   By = "circuits"
	ByRefusals   By = "refusals"
)

// maxTop bounds what Top returns.
const maxTop = 1000

func (by By) of(u Usage) int64 {
	switch by {
	case ByMonthBytes:
		return u.MonthBytes
	case ByCircuits:
		return u.Circuits
	case ByRefusals:
		return u.Refusals
	}
	return u.Bytes
}

// Top returns the n peers with the most of something, the first first; n is at
// most 1000. Those with nothing of it are left out. It reads all accounts: a
// second or so for a million.
func (s *Store) Top(n int, by By) ([]Usage, error) {
	n = min(n, maxTop)
	if n <= 0 {
		return nil, nil
	}
	now := time.Now()
	var top []Usage
	consider := func(u Usage) {
		if by.of(u) <= 0 || len(top) == n && by.of(u) <= by.of(top[n-1]) {
			return
		}
		at, _ := slices.BinarySearchFunc(top, u, func(a, b Usage) int {
			return cmp.Or(cmp.Compare(by.of(b), by.of(a)), cmp.Compare(a.Peer, b.Peer))
		})
		if len(top) == n {
			top = top[:n-1]
		}
		top = slices.Insert(top, at, u)
	}
	s.mu.Lock()
	live := maps.Clone(s.live)
	s.mu.Unlock()
	for _, a := range live {
		a.load.Do(a.read)
		consider(a.Usage())
	}
	err := s.disk.each(func(p peer.ID, r record) error {
		if live[p] == nil {
			consider(r.usage(p, now))
		}
		return nil
	})
	return top, err
}
