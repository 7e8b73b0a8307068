package admin

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"

	"github.com/causeway-p2p/causeway/relay"
	"github.com/causeway-p2p/causeway/relay/usage"
)

// defaultTop is how many peers are listed: a screenful.
const defaultTop = 20

func top(h *relay.Relay, r *http.Request) (any, error) {
	n, err := intValue(r, "n", defaultTop)
	if err != nil {
		return nil, &Error{BadRequest, err.Error()}
	}
	by := usage.By(r.FormValue("by"))
	if by == "" {
		by = usage.ByBytes
	}
	if !slices.Contains([]usage.By{usage.ByBytes, usage.ByMonthBytes, usage.ByCircuits, usage.ByRefusals}, by) {
		return nil, &Error{BadRequest, fmt.Sprintf("%.40q is nothing to rank peers by: bytes, month, circuits, refusals", by)}
	}
	list, err := rank(h, n, by)
	if list == nil {
		list = []usage.Usage{} // not null
	}
	return list, err
}

// maxTop is as many as a relay lists.
const maxTop = 1000

// rank lists the n peers with the most of something. A relay that ranks them by
// what was relayed alone is asked for as many as it lists, and these are put in
// order: those with nothing relayed are then not among them.
func rank(h *relay.Relay, n int, by usage.By) ([]usage.Usage, error) {
	if r, ok := any(h).(interface {
		Top(int, usage.By) ([]usage.Usage, error)
	}); ok {
		return r.Top(n, by)
	}
	if by == usage.ByBytes {
		return h.TopTalkers(n)
	}
	list, err := h.TopTalkers(maxTop)
	list = slices.DeleteFunc(list, func(u usage.Usage) bool { return count(u, by) == 0 })
	slices.SortStableFunc(list, func(a, b usage.Usage) int { return cmp.Compare(count(b, by), count(a, by)) })
	return list[:min(n, len(list))], err
}

func count(u usage.Usage, by usage.By) int64 {
	switch by {
	case usage.ByMonthBytes:
		return u.MonthBytes
	case usage.ByCircuits:
		return u.Circuits
	case usage.ByRefusals:
		return u.Refusals
	}
	return u.Bytes
}
