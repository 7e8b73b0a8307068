package admin

import (
	"fmt"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/relay"
	"github.com/causeway-p2p/causeway/relay/usage"
)

// minTail is how many characters of an ID name a peer. Two of a thousand peers
// have the same 6 with a chance of 1 in 76 000.
const minTail = 6

// peerAt finds whom a person means: an ID, or its end, also as it is printed
// (12D3…znuEPX). The end is looked for among those who are connected, as all with a
// reservation or a circuit are, then the banned, and then those with an account.
func (s *Server) peerAt(h *relay.Relay, text string) (peer.ID, error) {
	if p, err := peer.Decode(text); err == nil {
		return p, nil
	}
	tail := text
	if _, end, short := strings.Cut(text, "…"); short {
		tail = end
	}
	if len(tail) < minTail || len(tail) > 64 {
		return "", &Error{BadRequest, fmt.Sprintf("%.80q is not a peer ID, nor the last %d characters of one or more", text, minTail)}
	}
	var found []peer.ID
	connected := func(*relay.Relay) []peer.ID { return s.node.Host().Network().Peers() }
	for _, among := range []func(*relay.Relay) []peer.ID{connected, banned, accounts} {
		if found = withTail(among(h), tail); len(found) > 0 {
			break
		}
	}
	switch len(found) {
	case 0:
		return "", &Error{NotFound, fmt.Sprintf("no peer here has an ID that ends with %q", tail)}
	case 1:
		return found[0], nil
	}
	return "", &Error{BadRequest, fmt.Sprintf("%d peers have an ID that ends with %q: name more of it", len(found), tail)}
}

func withTail(list []peer.ID, tail string) (out []peer.ID) {
	for _, p := range list {
		if strings.HasSuffix(p.String(), tail) && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// banned are the peers that are.
func banned(h *relay.Relay) (list []peer.ID) {
	for _, b := range h.Bans() {
		list = append(list, b.Peer)
	}
	return list
}

// maxTop is as many as a relay lists.
const maxTop = 1000

// accounts are the peers that a list of the first in something may show.
func accounts(h *relay.Relay) (list []peer.ID) {
	for _, by := range []usage.By{usage.ByBytes, usage.ByMonthBytes, usage.ByCircuits, usage.ByRefusals} {
		top, err := h.Top(maxTop, by)
		if err != nil {
			log.Warn("accounts not read", "err", err)
		}
		for _, u := range top {
			list = append(list, u.Peer)
		}
	}
	return list
}
