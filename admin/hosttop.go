package admin

import (
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
	list, err := h.Top(n, by)
	if list == nil {
		list = []usage.Usage{} // not null
	}
	return list, err
}
