package admin

import (
	"context"
	"net/http"

	"github.com/causeway-p2p/causeway/node"
)

func (s *Server) netcheck(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, s.node.Netcheck(r.Context()))
}

// Netcheck asks whether others can reach the node, and whom it can reach
// directly. The node measures before it answers, for 2 seconds at most.
func (c *Client) Netcheck(ctx context.Context) (node.Netcheck, error) {
	return ask[node.Netcheck](ctx, c, http.MethodGet, "/v1/netcheck", nil, nil)
}
