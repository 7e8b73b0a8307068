package admin

import (
	"context"
	"net/http"
	"net/url"

	"github.com/causeway-p2p/causeway/node"
)

func (s *Server) netcheck(w http.ResponseWriter, r *http.Request) {
	portal := r.FormValue("portal")
	if portal == "" {
		writeJSON(w, s.node.Netcheck(r.Context()))
		return
	}
	report, err := s.node.NetcheckAsking(r.Context(), portal)
	if err != nil {
		fail(w, &Error{BadRequest, err.Error()})
		return
	}
	writeJSON(w, report)
}

// Netcheck asks whether others can reach the node, and whom it can reach
// directly. The node measures before it answers, for 2 seconds at most. It
// fetches the URL given to find a captive portal; if that is empty, its own.
func (c *Client) Netcheck(ctx context.Context, portalURL string) (node.Netcheck, error) {
	q := url.Values{}
	if portalURL != "" {
		q.Set("portal", portalURL)
	}
	return ask[node.Netcheck](ctx, c, http.MethodGet, "/v1/netcheck", q, nil)
}
