package autorelay

import (
	"cmp"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// State is where a relay stands with us.
type State string

const (
	Known      State = "candidate"   // found, not asked
	Probing    State = "probing"     // its round trip time is being measured
	Reserving  State = "reserving"   // being asked for the first time
	Reserved   State = "reserved"    // we hold a reservation
	Draining   State = "draining"    // we hold one, and the relay is about to leave
	BackingOff State = "backing off" // it failed or refused, and is asked again later
)

// Reason says why a reservation ended or was not given.
type Reason string

const (
	ConnectionLost Reason = "connection lost"
	ProbesMissed   Reason = "no answer to probes"
	HopWithdrawn   Reason = "relay stopped serving"
	Expired        Reason = "expired"
	Drained        Reason = "relay is leaving"
	Full           Reason = "relay is full"
	Forbidden      Reason = "relay does not want us"
	Unreachable    Reason = "cannot be reached"
	Misbehaved     Reason = "breaks the protocol"
	NotNeeded      Reason = "not needed"
	Better         Reason = "a better relay was found"
	Shed           Reason = "given back, because others have none"
	ByUser         Reason = "the user said so"
)

var reasons = []Reason{
	ConnectionLost, ProbesMissed, HopWithdrawn, Expired, Drained, Full, Forbidden,
	Unreachable, Misbehaved, NotNeeded, Better, Shed, ByUser,
}

// Kind tells what an Event is about.
type Kind string

const (
	Found         Kind = "found"          // a source named a candidate for the first time
	ReservedOn    Kind = "reserved"       // a reservation was given
	Failed        Kind = "failed"         // a reservation was not given
	RefreshFailed Kind = "refresh failed" // the reservation stands for now
	Drains        Kind = "drains"         // the relay will leave; the reservation stands for now
	Lost          Kind = "lost"           // a reservation ended
	Replaced      Kind = "replaced"       // another relay took over from Old
)

// Event is one transition.
type Event struct {
	Time   time.Time
	Kind   Kind
	Relay  peer.ID
	Old    peer.ID // Replaced: which relay was lost
	Reason Reason
	Detail string
	// Took is how long reserving took, or, for Replaced, how long the lost
	// relay had no successor.
	Took time.Duration
}

// Status is a snapshot of everything.
type Status struct {
	// Wanted tells whether reservations are wanted at all.
	Wanted bool `json:"wanted"`
	// Addrs are the circuit addresses that are advertised.
	Addrs []string `json:"addrs"`
	// Without is since when there is no circuit address although one is
	// wanted; the zero time if there is one.
	Without time.Time `json:"without,omitzero"`
	// Scarce tells until when slots are taken to be scarce, so that only one
	// is held; the zero time if they are not.
	Scarce time.Time `json:"scarce_until,omitzero"`
	// Relays are all relays known, those we hold first.
	Relays []RelayStatus `json:"relays"`
}

// RelayStatus is a snapshot of one relay.
type RelayStatus struct {
	ID    string `json:"id"`
	State State  `json:"state"`
	// Sources are those that named it, the first first.
	Sources []string `json:"sources"`
	// Advertised tells a relay whose circuit addresses are told to others
	// from the warm standby.
	Advertised bool `json:"advertised"`
	Wish       Wish `json:"wish,omitempty"`
	// RTT is the smoothed round trip time, Load from 0 to 1 how full the
	// relay said it is; 0 if not known.
	RTT  time.Duration `json:"rtt_ns,omitzero"`
	Load float64       `json:"load,omitzero"`
	// Reliability is the share of good events in the relay's past, from 0 to 1.
	Reliability float64 `json:"reliability"`
	// Expires is when the reservation ends unless refreshed.
	Expires time.Time `json:"expires,omitzero"`
	// LimitBytes (each way) and LimitSeconds bound a circuit; 0 = unlimited.
	LimitBytes   uint64  `json:"limit_bytes,omitzero"`
	LimitSeconds float64 `json:"limit_seconds,omitzero"`
	// Reason and Detail tell why it failed last, Retry when it is asked again.
	Reason Reason    `json:"reason,omitempty"`
	Detail string    `json:"detail,omitempty"`
	Retry  time.Time `json:"retry,omitzero"`
}

func (a *AutoRelay) snapshot(now time.Time) {
	s := Status{Wanted: a.active, Without: a.withoutFrom, Addrs: stringsOf(a.advertised), Relays: make([]RelayStatus, 0, len(a.relays))}
	if a.scarce(now) {
		s.Scarce = a.scarceUntil
	}
	for _, r := range a.relays {
		if r.removed {
			continue
		}
		rs := RelayStatus{
			ID: r.text, State: r.state, Sources: slices.Clone(r.sources), Advertised: r.shown, Wish: r.wish,
			RTT: r.rtt, Load: r.load,
			Reliability: a.cfg.History.reliability(r.id, now),
			Expires:     r.expires, Reason: r.reason, Detail: r.detail,
		}
		if r.holds() {
			rs.LimitBytes, rs.LimitSeconds = r.limitData, r.limitTime.Seconds()
		}
		if r.state == BackingOff {
			rs.Retry = r.retryAt
		}
		s.Relays = append(s.Relays, rs)
	}
	slices.SortFunc(s.Relays, func(x, y RelayStatus) int {
		return cmp.Or(-cmp.Compare(rank(x.State), rank(y.State)), cmp.Compare(x.ID, y.ID))
	})
	a.status.Store(&s)
}

func rank(s State) int {
	return slices.Index([]State{BackingOff, Known, Probing, Reserving, Draining, Reserved}, s)
}

func stringsOf(addrs []ma.Multiaddr) []string {
	out := make([]string, len(addrs))
	for i, m := range addrs {
		out[i] = m.String()
	}
	return out
}
