package admin

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/relay"
)

// The relay host, on nodes that are one:
//
//	GET  /v1/relay/reservations      []relay.ReservationInfo
//	GET  /v1/relay/circuits          []relay.CircuitInfo
//	GET  /v1/relay/top?n=20&by=bytes []usage.Usage
//	GET  /v1/relay/limits            relay.Limits
//	PUT  /v1/relay/limits            relay.Limits, all of them, as JSON
//	GET  /v1/relay/dump              relay.State
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
	on("GET /v1/relay/dump", func(h *relay.Relay, _ *http.Request) (any, error) { return h.Dump(), nil })
	on("GET /v1/relay/top", top)
	on("PUT /v1/relay/limits", setLimits)
	on("POST /v1/relay/kick", s.kick)
	on("POST /v1/relay/ban", s.ban)
	on("POST /v1/relay/unban", s.unban)
	mux.HandleFunc("POST /v1/relay/drain", s.drain)
}

// relayHost is the node's, or nil. The node may have failed to start, so the
// status is asked first: it knows.
func (s *Server) relayHost() *relay.Relay {
	if s.node.Status().Relay == nil {
		return nil
	}
	return s.node.Relay()
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
	was := h.Unban(p)
	log.Info("ban lifted", "peer", p)
	return Banned{Peer: p, Was: was}, nil
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
