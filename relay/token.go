package relay

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/auth"
)

// takeToken decides on a token that a peer shows; nil gives back what was
// granted.
func (r *Relay) takeToken(from peer.ID, s *auth.Signed) (auth.Grant, error) {
	now, pol := time.Now(), r.policy.Load()
	if s == nil {
		r.grants.drop(from)
		r.reclass(from)
		return auth.Grant{}, nil
	}
	if err := r.trust.Load().Verify(s, from, now); err != nil {
		return auth.Grant{}, err
	}
	if _, known := pol.byName[s.Class]; !known || !r.grants.set(from, s.Token, now) {
		return auth.Grant{}, auth.NotTaken
	}
	class := r.reclass(from)
	return auth.Grant{Class: class.Name, Limits: class.granted(), Expires: s.Expires}, nil
}

// reclass puts a peer's reservation into the class that it has now. Circuits
// that stand keep the limits that their ends were told.
func (r *Relay) reclass(p peer.ID) *Class {
	pol := r.policy.Load()
	class, ok := r.standing(p, r.originOfPeer(p), pol, time.Now())
	if !ok {
		return pol.anonymous
	}
	r.table.setClass(p, class)
	return class
}

// SetTrust replaces whose tokens count and which are revoked. Who held one that
// does not count any more is a stranger again: the circuits that it had by that
// token are cut.
func (r *Relay) SetTrust(t auth.Trust) {
	r.trust.Store(&t)
	for _, p := range r.grants.dropIf(func(p peer.ID, tok auth.Token) bool {
		return t.Verify(&auth.Signed{Token: tok}, p, time.Now()) != nil
	}) {
		class := r.reclass(p)
		for _, c := range r.table.circuitsOf(p) {
			if c.payer == p && c.class.rank > class.rank {
				c.end(Denied)
			}
		}
	}
}

// with is the class with what a token says in the place of its limits.
func (c *Class) with(l auth.Limits) *Class {
	if l == (auth.Limits{}) {
		return c
	}
	over := l.Over(c.granted())
	out := *c
	out.HolePunchOnly = c.HolePunchOnly && l.CircuitBytes == 0 && l.CircuitTime == 0
	out.CircuitsPerPeer = int(lifted(over.Circuits))
	out.CircuitTime = lifted(over.CircuitTime)
	out.CircuitBytes = lifted(over.CircuitBytes)
	out.Rate, out.Burst, out.MonthlyBytes = lifted(over.Rate), lifted(over.Burst), lifted(over.MonthlyBytes)
	return &out
}

// granted are the limits of a class in the words of a token.
func (c *Class) granted() auth.Limits {
	d, n := c.circuit()
	return auth.Limits{
		Circuits: orLifted(int64(c.CircuitsPerPeer)), CircuitTime: orLifted(d), CircuitBytes: orLifted(n),
		Rate: orLifted(c.Rate), Burst: c.Burst, MonthlyBytes: orLifted(c.MonthlyBytes),
	}
}

// A class says 0 where there is no limit, a token Unlimited.
func lifted[N ~int64](n N) N { return max(n, 0) }

func orLifted[N ~int64](n N) N {
	if n == 0 {
		return auth.Unlimited
	}
	return n
}
