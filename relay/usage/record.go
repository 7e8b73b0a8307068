package usage

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// record is an account as it is stored.
type record struct {
	bytes, monthBytes, circuits, refusals int64
	first, last                           int64 // in seconds since 1970, or 0
	month                                 int   // as monthOf, or 0
}

// recordSize is what a record has on disk: 7 numbers of 64 bits, big endian.
const recordSize = 7 * 8

var errRecord = errors.New("a record that is not one")

func (r record) encode() []byte {
	b := make([]byte, 0, recordSize)
	for _, n := range []int64{r.bytes, r.monthBytes, r.circuits, r.refusals, r.first, r.last, int64(r.month)} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return b
}

func decode(b []byte) (record, error) {
	if len(b) != recordSize {
		return record{}, errRecord
	}
	var n [7]int64
	for i := range n {
		if n[i] = int64(binary.BigEndian.Uint64(b[8*i:])); n[i] < 0 {
			return record{}, errRecord
		}
	}
	r := record{bytes: n[0], monthBytes: n[1], circuits: n[2], refusals: n[3], first: n[4], last: n[5], month: int(n[6])}
	if r.monthBytes > r.bytes || r.month > maxMonth {
		return record{}, errRecord
	}
	return r, nil
}

func (r record) sameCounts(o record) bool {
	return r.bytes == o.bytes && r.circuits == o.circuits && r.refusals == o.refusals
}

func (r *record) seen(now time.Time) {
	r.last = now.Unix()
	if r.first == 0 {
		r.first = r.last
	}
}

func (r record) usage(p peer.ID, now time.Time) Usage {
	u := Usage{Peer: p, Bytes: r.bytes, MonthBytes: r.monthBytes, Circuits: r.circuits, Refusals: r.refusals}
	if _, fresh := nextMonth(r.month, now); fresh {
		u.MonthBytes = 0
	}
	if r.first != 0 {
		u.First, u.Last = time.Unix(r.first, 0).UTC(), time.Unix(r.last, 0).UTC()
	}
	return u
}

const maxMonth = 12 * 10_000

// monthOf counts months, in UTC.
func monthOf(t time.Time) int {
	t = t.UTC()
	return 12*t.Year() + int(t.Month()) - 1
}

// nextMonth tells which month bytes count for that have so far been counted for
// month, and whether it begins. A clock that goes back begins none, or what was
// used would be forgotten twice: up to a month back, the later one goes on; if
// it is more, it was wrong before, and its bytes are taken along.
func nextMonth(month int, now time.Time) (next int, fresh bool) {
	switch m := monthOf(now); {
	case m > month:
		return m, true
	case m < month-1:
		return m, false
	}
	return month, false
}

func untilNextMonth(now time.Time) time.Duration {
	u := now.UTC()
	return time.Date(u.Year(), u.Month()+1, 1, 0, 0, 0, 0, time.UTC).Sub(u)
}
