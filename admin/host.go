package admin

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/relay"
	"github.com/causeway-p2p/causeway/relay/usage"
)

// The relay host, on nodes that are one:
//
//	GET  /v1/relay/reservations      []relay.ReservationInfo
//	GET  /v1/relay/circuits          []relay.CircuitInfo
//	GET  /v1/relay/top?n=20&by=bytes []usage.Usage
//	GET  /v1/relay/limits            relay.Limits
//	PUT  /v1/relay/limits            relay.Limits, all of them, as JSON
//	GET  /v1/relay/dump              State
//	POST /v1/relay/kick?peer=ID      Kicked
//	POST /v1/relay/ban?peer=ID&for=T Banned; without for, until the process ends
//	POST /v1/relay/unban?peer=ID     Banned
//	POST /v1/relay/drain?for=T       answers when it has begun; the body ends
//	                                 when the node stops
//
// A peer may be named by the last characters of its ID, 6 or more.

// Kicked is what was ended.
type Kicked struct {
	Peer         peer.ID `json:"peer"`
	Circuits     int     `json:"circuits"`
	Reservations int     `json:"reservations"`
}

// Banned is a ban, or one that was lifted.
type Banned struct {
	Peer peer.ID `json:"peer"`
	// Until is zero for a ban that holds until the process ends.
	Until time.Time `json:"until,omitzero"`
	// Was tells, of a ban that was lifted, whether there was one.
	Was bool `json:"was,omitempty"`
}

// State is relay.State with the bans by IDs that people can read: encoding/json
// writes the keys of a map as they are if they are strings, which a peer.ID is.
type State struct {
	relay.State
	Bans map[string]time.Time `json:"bans,omitempty"`
}

func dump(h *relay.Relay) State {
	s := State{State: h.Dump()}
	if len(s.State.Bans) > 0 {
		s.Bans = make(map[string]time.Time)
	}
	for p, t := range s.State.Bans {
		s.Bans[p.String()] = t
	}
	return s
}

// defaultTop is how many peers are listed: a screenful.
const defaultTop = 20

// maxBody bounds what is sent to us: limits with a thousand classes.
const maxBody = 1 << 20

// handleHost adds what is about the relay host.
func (s *Server) handleHost(mux *http.ServeMux) {
	on := func(pattern string, f func(*relay.Relay, *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			host := s.relayHost()
			if host == nil {
				fail(w, &Error{BadRequest, "this node is no relay"})
				return
			}
			answer, err := f(host, r)
			if err != nil {
				fail(w, &Error{kindOf(err), err.Error()})
				return
			}
			writeJSON(w, answer)
		})
	}
	on("GET /v1/relay/reservations", func(h *relay.Relay, _ *http.Request) (any, error) { return h.Reservations(), nil })
	on("GET /v1/relay/circuits", func(h *relay.Relay, _ *http.Request) (any, error) { return h.Circuits(), nil })
	on("GET /v1/relay/limits", func(h *relay.Relay, _ *http.Request) (any, error) { return h.Status().Limits, nil })
	on("GET /v1/relay/dump", func(h *relay.Relay, _ *http.Request) (any, error) { return dump(h), nil })
	on("GET /v1/relay/top", top)
	on("PUT /v1/relay/limits", setLimits)
	on("POST /v1/relay/kick", s.kick)
	on("POST /v1/relay/ban", s.ban)
	on("POST /v1/relay/unban", s.unban)
	mux.HandleFunc("POST /v1/relay/drain", s.drain)
}

// relayHost is the node's, or nil. The socket is there before the node has
// started, so the status is asked first: it knows.
func (s *Server) relayHost() *relay.Relay {
	if s.node.Status().Relay == nil {
		return nil
	}
	return s.node.Relay()
}

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

func setLimits(h *relay.Relay, r *http.Request) (any, error) {
	var l relay.Limits
	dec := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil {
		return nil, &Error{BadRequest, "limits: " + err.Error()}
	}
	if err := l.Validate(); err != nil {
		return nil, &Error{BadRequest, err.Error()}
	}
	if err := h.SetLimits(l); err != nil {
		return nil, err
	}
	log.Info("limits changed", "limits", h.Status().Limits)
	return h.Status().Limits, nil
}

func (s *Server) kick(h *relay.Relay, r *http.Request) (any, error) {
	p, err := s.peerAt(h, r.FormValue("peer"))
	if err != nil {
		return nil, err
	}
	circuits, reservations := h.Kick(p)
	log.Info("peer kicked", "peer", p, "circuits", circuits, "reservations", reservations)
	return Kicked{p, circuits, reservations}, nil
}

func (s *Server) ban(h *relay.Relay, r *http.Request) (any, error) {
	p, err := s.peerAt(h, r.FormValue("peer"))
	if err != nil {
		return nil, err
	}
	d, err := durationValue(r, "for", 0)
	if err != nil {
		return nil, &Error{BadRequest, err.Error()}
	}
	if err := h.Ban(p, d); err != nil {
		return nil, err
	}
	log.Info("peer banned", "peer", p, "dur", d)
	b := Banned{Peer: p}
	if d > 0 {
		b.Until = time.Now().Add(d)
	}
	return b, nil
}

func (s *Server) unban(h *relay.Relay, r *http.Request) (any, error) {
	p, err := s.peerAt(h, r.FormValue("peer"))
	if err != nil {
		return nil, err
	}
	_, was := h.Dump().Bans[p]
	h.Unban(p)
	log.Info("ban lifted", "peer", p)
	return Banned{Peer: p, Was: was}, nil
}

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
func banned(h *relay.Relay) []peer.ID { return slices.Collect(maps.Keys(h.Dump().Bans)) }

// accounts are the peers that a list of the first in something may show.
func accounts(h *relay.Relay) (list []peer.ID) {
	for _, by := range []usage.By{usage.ByBytes, usage.ByMonthBytes, usage.ByCircuits, usage.ByRefusals} {
		top, err := rank(h, maxTop, by)
		if err != nil {
			log.Warn("accounts not read", "err", err)
		}
		for _, u := range top {
			list = append(list, u.Peer)
		}
	}
	return list
}

// drain asks the program to drain and stop, as a signal would. The answer's end
// is that of the node.
func (s *Server) drain(w http.ResponseWriter, r *http.Request) {
	if s.onDrain == nil || s.relayHost() == nil {
		fail(w, &Error{BadRequest, "this node is no relay"})
		return
	}
	d, err := durationValue(r, "for", 0)
	if err != nil {
		fail(w, &Error{BadRequest, err.Error()})
		return
	}
	log.Info("asked to drain", "dur", d)
	s.onDrain(d)
	w.WriteHeader(http.StatusAccepted)
	if http.NewResponseController(w).Flush() != nil {
		return
	}
	select {
	case <-r.Context().Done():
	case <-s.ctx.Done():
	}
}
