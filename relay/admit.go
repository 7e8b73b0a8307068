package relay

import (
	"context"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/auth"
	"github.com/causeway-p2p/causeway/internal/maddr"
	"github.com/causeway-p2p/causeway/relay/acl"
)

// Access says who may use a relay, and as what. The zero value lets in everybody
// as a stranger.
type Access struct {
	// ACL says who may; see SetACL.
	ACL *acl.List
	// Trust is whose tokens put peers into classes; see SetTrust. If it has no
	// issuers from the start, tokens are not taken.
	Trust auth.Trust
	// Validator, if not nil, decides on requests that nothing else refuses.
	Validator Validator
}

// Question is what a Validator is asked.
type Question struct {
	Peer peer.ID
	// Addr is where the peer comes from.
	Addr ma.Multiaddr
	// Connect is whom it wants a circuit to; empty if it wants a reservation.
	Connect peer.ID
}

// Answer is what a Validator says.
type Answer struct {
	Allow bool
	// Class is what the peer is put into. If empty, or not known, it stays
	// where the ACL or its token has put it.
	Class string
}

// Validator decides on requests that nothing else has refused. It may be called
// concurrently; it must heed ctx, which ends after 30 seconds at most.
type Validator func(ctx context.Context, q Question) Answer

// admit tells in which class a request is served, or why it is not. In order:
// what costs nothing first, what asks others last.
func (r *Relay) admit(ctx context.Context, q request) (*Class, Reason) {
	pol, now := r.policy.Load(), time.Now()
	switch {
	case r.draining.Load():
		return nil, Draining
	case maddr.IsCircuit(q.stream.Conn().RemoteMultiaddr()):
		return nil, OverCircuit
	}
	class, ok := r.standing(q.from, q.origin, pol, now)
	if !ok {
		return nil, Denied
	}
	if r.cfg.Access.Validator != nil {
		a := r.cfg.Access.Validator(ctx, Question{Peer: q.from, Addr: q.stream.Conn().RemoteMultiaddr(), Connect: q.to})
		if !a.Allow {
			return nil, Denied
		}
		// It may have taken its time, in which much can have changed.
		if r.draining.Load() {
			return nil, Draining
		}
		now = time.Now()
		r.words.set(q.from, a.Class, now.Add(pol.ReservationTTL))
		if class, ok = r.standing(q.from, q.origin, pol, now); !ok {
			return nil, Denied
		}
	}
	return class, ""
}

// standing is the best class of a peer by the ACL, its token and what the
// validator said last, and whether it is allowed at all.
func (r *Relay) standing(p peer.ID, from origin, pol *policy, now time.Time) (*Class, bool) {
	if r.bans.has(p, now) {
		return nil, false
	}
	class := pol.anonymous
	if rule, ok := r.acl.Load().Match(p, from.ip); ok {
		if !rule.Allow {
			return nil, false
		}
		if rule.Class != "" {
			class = pol.class(rule.Class)
		}
	}
	if c := r.grants.class(p, pol, now); c != nil && c.rank >= class.rank {
		class = c
	}
	if c, known := pol.byName[r.words.class(p, now)]; known && c.rank > class.rank {
		class = c
	}
	return class, true
}

// SetACL replaces the list of who may. Whoever may not any more is cut at once.
func (r *Relay) SetACL(l *acl.List) {
	r.acl.Store(l)
	r.cutDenied()
}

// cutDenied ends the reservations and circuits of those who may not be here.
func (r *Relay) cutDenied() {
	pol, now := r.policy.Load(), time.Now()
	for _, h := range r.table.list() {
		if _, ok := r.standing(h.peer, h.origin, pol, now); !ok {
			r.cut(h.peer, Denied)
		}
	}
	for _, c := range r.table.circuitsOf("") {
		for _, p := range []peer.ID{c.src, c.dst} {
			if _, ok := r.standing(p, r.originOfPeer(p), pol, now); !ok {
				c.end(Denied)
			}
		}
	}
}

// originOfPeer is where a connected peer comes from.
func (r *Relay) originOfPeer(p peer.ID) origin {
	for _, c := range r.cfg.Host.Network().ConnsToPeer(p) {
		if !maddr.IsCircuit(c.RemoteMultiaddr()) {
			return originOf(c.RemoteMultiaddr())
		}
	}
	return origin{}
}

// maxBans bounds the bans; an operator with more of them has a file.
const maxBans = 100_000

// bans are those whom the operator has sent away.
type bans struct {
	mu    sync.Mutex // guards the field below
	until map[peer.ID]time.Time
}

func (b *bans) has(p peer.ID, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	until, ok := b.until[p]
	if ok && !now.Before(until) {
		delete(b.until, p)
		return false
	}
	return ok
}

// set bans p until then, and reports whether there was room.
func (b *bans) set(p peer.ID, until, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.until) >= maxBans {
		for q, t := range b.until {
			if !now.Before(t) {
				delete(b.until, q)
			}
		}
		if len(b.until) >= maxBans {
			return false
		}
	}
	b.until[p] = until
	return true
}

func (b *bans) lift(p peer.ID, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	until, was := b.until[p]
	delete(b.until, p)
	return was && now.Before(until)
}

func (b *bans) list(now time.Time) map[peer.ID]time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make(map[peer.ID]time.Time, len(b.until))
	for p, t := range b.until {
		if now.Before(t) {
			out[p] = t
		}
	}
	return out
}

// maxGrants bounds the tokens that are remembered, 30 MB of them: each took a
// signature of the operator's, so that strangers cannot fill it.
const maxGrants = 100_000

// grants are what peers may by their tokens.
type grants struct {
	mu   sync.Mutex // guards the field below
	held map[peer.ID]auth.Token
}

// class is the class that a peer's token gives it, with the limits that the
// token has of its own; nil if there is none.
func (g *grants) class(p peer.ID, pol *policy, now time.Time) *Class {
	g.mu.Lock()
	t, ok := g.held[p]
	if ok && !now.Before(t.Expires) {
		delete(g.held, p)
		ok = false
	}
	g.mu.Unlock()
	if !ok {
		return nil
	}
	c, known := pol.byName[t.Class]
	if !known {
		return nil
	}
	return c.with(t.Limits)
}

func (g *grants) set(p peer.ID, t auth.Token, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, known := g.held[p]; !known && len(g.held) >= maxGrants {
		for q, old := range g.held {
			if !now.Before(old.Expires) {
				delete(g.held, q)
			}
		}
		if len(g.held) >= maxGrants {
			return false
		}
	}
	g.held[p] = t
	return true
}

func (g *grants) drop(p peer.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.held, p)
}

// dropIf forgets the tokens that bad says.
func (g *grants) dropIf(bad func(peer.ID, auth.Token) bool) (gone []peer.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for p, t := range g.held {
		if bad(p, t) {
			delete(g.held, p)
			gone = append(gone, p)
		}
	}
	return gone
}

// words are the classes that the validator has put peers into, for as long as a
// reservation holds: the peer is not asked about again when limits change.
type words struct {
	mu   sync.Mutex // guards the field below
	said map[peer.ID]word
}

type word struct {
	class string
	until time.Time
}

func (w *words) class(p peer.ID, now time.Time) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	said, ok := w.said[p]
	if ok && !now.Before(said.until) {
		delete(w.said, p)
		return ""
	}
	return said.class
}

// set notes what was said. Beyond maxGrants peers the oldest of a few is
// forgotten, who then counts as a stranger until it asks again.
func (w *words) set(p peer.ID, class string, until time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if class == "" {
		delete(w.said, p)
		return
	}
	if _, known := w.said[p]; !known && len(w.said) >= maxGrants {
		var oldest peer.ID
		looked := 0
		for q, x := range w.said {
			if oldest == "" || x.until.Before(w.said[oldest].until) {
				oldest = q
			}
			if looked++; looked == 16 {
				break
			}
		}
		delete(w.said, oldest)
	}
	w.said[p] = word{class, until}
}
