package usage

import (
	"cmp"
	"math"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// small is what an account must have to be kept before others: dear enough
	// that nobody pushes out other people's accounts with strangers' names.
	small = 1 << 20
	// pruneShare of the records go at once, as a divisor, since all have to be
	// read for it.
	pruneShare = 20
)

// worth orders records by what they are worth keeping: small ones less than all
// others, then by when they were last seen.
func (r record) worth() int64 {
	if r.bytes < small {
		return r.last - math.MaxInt64/2
	}
	return r.last
}

// prune removes what is worth least.
func (s *Store) prune() error {
	worths := make([]int64, 0, s.disk.count())
	if err := s.disk.each(func(_ peer.ID, r record) error {
		worths = append(worths, r.worth())
		return nil
	}); err != nil {
		return err
	}
	many := min(len(worths), cmp.Or(max(len(worths)-s.maxRecords, 0)+s.maxRecords/pruneShare, 1))
	slices.Sort(worths)
	most := worths[many-1]
	var remove []peer.ID
	if err := s.disk.each(func(p peer.ID, r record) error {
		if r.worth() <= most && len(remove) < many {
			remove = append(remove, p)
		}
		return nil
	}); err != nil {
		return err
	}
	log.Info("accounts pruned", "removed", len(remove), "of", len(worths))
	return s.disk.update(nil, remove)
}
