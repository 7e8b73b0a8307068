package relay

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/relay/usage"
)

// ReservationInfo is a reservation as an operator sees it.
type ReservationInfo struct {
	Peer     peer.ID   `json:"peer"`
	Class    string    `json:"class"`
	IP       string    `json:"ip,omitempty"`
	Made     time.Time `json:"made"`
	Expires  time.Time `json:"expires"`
	Circuits int       `json:"circuits"`
}

// CircuitInfo is a circuit as an operator sees it.
type CircuitInfo struct {
	ID     uint64    `json:"id"`
	From   peer.ID   `json:"from"`
	To     peer.ID   `json:"to"`
	Class  string    `json:"class"`
	Opened time.Time `json:"opened"`
	// Up and Down are the bytes carried so far, from the one who opened it and
	// to it.
	Up   int64 `json:"bytes_up"`
	Down int64 `json:"bytes_down"`
	// Rate is in bytes per second, both ways together, since the circuits were
	// listed last, or since this one was opened.
	Rate float64 `json:"rate"`
}

// Reservations lists those held, the oldest first.
func (r *Relay) Reservations() []ReservationInfo {
	list := r.table.list()
	out := make([]ReservationInfo, 0, len(list))
	for _, h := range list {
		i := ReservationInfo{Peer: h.peer, Class: h.class.Name, Made: h.made, Expires: h.expires, Circuits: h.circuits}
		if h.origin.ip.IsValid() {
			i.IP = h.origin.ip.String()
		}
		out = append(out, i)
	}
	slices.SortFunc(out, func(a, b ReservationInfo) int { return a.Made.Compare(b.Made) })
	return out
}

// Circuits lists those that are open or being opened, the oldest first.
func (r *Relay) Circuits() []CircuitInfo {
	now := time.Now()
	list := r.table.circuitsOf("")
	out := make([]CircuitInfo, 0, len(list))
	for _, c := range list {
		out = append(out, CircuitInfo{
			ID: c.id, From: c.src, To: c.dst, Class: c.class.Name, Opened: c.opened,
			Up: c.up.bytes.Load(), Down: c.down.bytes.Load(), Rate: c.rate(now),
		})
	}
	slices.SortFunc(out, func(a, b CircuitInfo) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Top lists the n peers with the most of something, of all that are known.
func (r *Relay) Top(n int, by usage.By) ([]usage.Usage, error) { return r.cfg.Usage.Top(n, by) }

// Kick ends the circuits and the reservation of a peer, which may come back. It
// tells how many of each there were.
func (r *Relay) Kick(p peer.ID) (circuits, reservations int) { return r.cut(p, Kicked) }

func (r *Relay) cut(p peer.ID, why Reason) (circuits, reservations int) {
	for _, c := range r.table.circuitsOf(p) {
		c.end(why)
		circuits++
	}
	if r.cancel(p, why) {
		reservations++
	}
	if circuits+reservations > 0 {
		r.showOut(p)
	}
	return circuits, reservations
}

// outAfter leaves a peer time to read why its circuits have ended.
const outAfter = 500 * time.Millisecond

// showOut closes the connection to a peer whose reservation was taken away:
// circuit v2 has no word for that, and the peer would go on telling others that
// it can be reached here.
func (r *Relay) showOut(p peer.ID) {
	if !r.begin() {
		return
	}
	go func() {
		defer r.running.Done()
		select {
		case <-time.After(outAfter):
			r.cfg.Host.Network().ClosePeer(p)
		case <-r.ctx.Done():
		}
	}()
}

// Ban is Kick for a peer that may not come back for a while; 0 is for good, or
// until the process ends.
func (r *Relay) Ban(p peer.ID, d time.Duration) error {
	now := time.Now()
	if d <= 0 {
		d = forGood
	}
	if !r.bans.set(p, now.Add(d), now) {
		return fmt.Errorf("relay: %d peers are banned already; more of them belong into a deny list", maxBans)
	}
	r.cut(p, Denied)
	return nil
}

const forGood = 100 * 365 * 24 * time.Hour

// Unban lifts a ban, and tells whether there was one.
func (r *Relay) Unban(p peer.ID) bool { return r.bans.lift(p, time.Now()) }

// BanInfo is a ban as an operator sees it.
type BanInfo struct {
	Peer peer.ID `json:"peer"`
	// Until is zero for a ban that holds until the process ends.
	Until time.Time `json:"until,omitzero"`
}

// Bans lists those that hold, the next to end first.
func (r *Relay) Bans() []BanInfo {
	now := time.Now()
	var out []BanInfo
	for p, until := range r.bans.list(now) {
		b := BanInfo{Peer: p, Until: until}
		if until.Sub(now) > forGood/2 {
			b.Until = time.Time{}
		}
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b BanInfo) int { return a.Until.Compare(b.Until) })
	return out
}

// SetLimits replaces the limits. Nobody is dropped: what stands keeps what it
// was told, other than rates, which hold at once.
func (r *Relay) SetLimits(l Limits) error {
	if err := l.Validate(); err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	pol := newPolicy(l)
	r.policy.Store(pol)
	r.fair.SetRate(pol.Bandwidth, 0)
	now := time.Now()
	for _, h := range r.table.list() {
		if class, ok := r.standing(h.peer, h.origin, pol, now); ok {
			r.table.setClass(h.peer, class)
		}
	}
	for _, c := range r.table.circuitsOf("") {
		if class, ok := r.standing(c.payer, r.originOfPeer(c.payer), pol, now); ok {
			r.table.setRate(c.payer, class)
		}
	}
	return nil
}

// State is all that the relay knows, for an operator who wonders.
type State struct {
	Status       Status            `json:"status"`
	Reservations []ReservationInfo `json:"reservations"`
	Circuits     []CircuitInfo     `json:"circuits"`
	Bans         []BanInfo         `json:"bans,omitempty"`
	// Inconsistent is what Check found, or empty.
	Inconsistent string `json:"inconsistent,omitempty"`
}

// Dump returns a snapshot of everything.
func (r *Relay) Dump() State {
	s := State{Status: r.Status(), Reservations: r.Reservations(), Circuits: r.Circuits(), Bans: r.Bans()}
	if err := r.Check(); err != nil {
		s.Inconsistent = err.Error()
	}
	return s
}
