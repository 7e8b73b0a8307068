package reachability

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/causeway-p2p/causeway/internal/maddr"
)

// An AutoNAT server that dials us back is a host that we have talked to. A NAT
// with address-dependent filtering (RFC 4787 section 5) lets it in for that,
// and nobody else. What proves that anybody gets in is a stranger that does: a
// host among none of our contacts.

// Strangers asks a peer to have a third node dial us back, one that we never
// talked to.
type Strangers interface {
	// Protocol is what peers that can be asked support.
	Protocol() protocol.ID
	// Ask asks via. It returns when via has said what became of it: nil, if a
	// third node has delivered the nonce to addr by AutoNAT v2's dial-back
	// protocol; an error that wraps ErrNotReached, if one has tried; any
	// other, if nobody has. It returns when ctx ends.
	Ask(ctx context.Context, via peer.ID, addr ma.Multiaddr, nonce uint64) error
}

// ErrNotReached is what Strangers.Ask returns when a stranger has tried and not
// got through.
var ErrNotReached = errors.New("the stranger could not get through")

const (
	// strangerPatience is the number of failures in a row, by different peers
	// where there are some, from which on a NAT is taken to tell strangers
	// from friends. A peer may lie, or its third node may lose packets. So
	// many are asked at once; where there are fewer, all are heard, and asked
	// again.
	strangerPatience = 3

	strangerAgain   = time.Second      // after a failure: somebody else
	strangerNobody  = 30 * time.Second // nobody is known who could dial
	strangerDecline = 5 * time.Minute  // so three times in a row
	proofAge        = time.Hour        // a proof that is older is renewed
	maxAsked        = 64               // peers that are remembered, and more only while they are connected
	strangerWait    = 20 * time.Second // for the answer of one peer
)

// strangers is how the test of one address by strangers goes.
type strangers struct {
	era      int // answers to what was asked in an earlier one are too late
	asking   int // peers that have said nothing yet
	failed   bool
	next     time.Time
	failures int // in a row
	declines int // rounds in a row
	asked    map[peer.ID]time.Time
}

// again starts over.
func (s strangers) again() strangers { return strangers{era: s.era + 1} }

// wantsStranger reports whether a stranger's dial of the address would tell
// something that is not known: it is public for our friends, behind a box.
func (c *candidate) wantsStranger(now time.Time) bool {
	if c.source != fromObserved && c.source != fromMapped {
		return false
	}
	// That a server got through shows that the address is ours, whoever named it.
	if dialledBy, _ := c.tally(); dialledBy == 0 && !c.trusted() {
		return false
	}
	return c.filtered || c.reachable == Public && (c.proof.IsZero() || c.proof.Before(c.renewed) || now.Sub(c.proof) > proofAge)
}

// startStrangers asks for the dial-backs by strangers that are due.
func (t *Tracker) startStrangers(ctx context.Context, now time.Time) {
	if t.cfg.Strangers == nil {
		return
	}
	all := t.byUrgency()
	for _, c := range all {
		s := &c.stranger
		if !c.wantsStranger(now) || s.asking == 0 && now.Before(s.next) || t.led(c, all) {
			continue
		}
		vias := t.pickVias(c)
		if s.asking == 0 {
			s.failed = false
			if len(vias) == 0 {
				s.next = now.Add(idleWake)
			}
		}
		for _, via := range vias {
			t.askVia(ctx, c, via, now)
		}
	}
}

func (t *Tracker) askVia(ctx context.Context, c *candidate, via peer.ID, now time.Time) {
	if c.stranger.asked == nil {
		c.stranger.asked = make(map[peer.ID]time.Time)
	}
	c.stranger.asking++
	c.stranger.asked[via] = now
	key, addr, era, in := c.key(), c.addr, c.stranger.era, c.comesIn()
	t.probes.Go(func() {
		r := result{kind: byStranger, key: key, server: via, era: era}
		r.outcome, r.why = t.client.askStranger(ctx, t.cfg.Strangers, via, addr, in)
		t.report(ctx, r)
	})
}

// pickVias takes connected peers that were not asked about c yet, also while
// others are being asked; or else those that were the longest ago. They are as
// many as it takes to know, or one to confirm a proof.
func (t *Tracker) pickVias(c *candidate) []peer.ID {
	most := 1
	if c.proof.IsZero() {
		most = strangerPatience - c.stranger.failures
	}
	most -= c.stranger.asking
	if most <= 0 || c.stranger.asking > 0 && !t.otherVia(c) {
		return nil
	}
	asked := c.stranger.asked
	if len(asked) >= maxAsked {
		maps.DeleteFunc(asked, func(id peer.ID, _ time.Time) bool { return !t.connected(id) })
	}
	var fresh, all []peer.ID // in map order, which spreads the load
	for id := range t.vias {
		if !t.connected(id) {
			continue
		}
		all = append(all, id)
		if _, known := asked[id]; !known {
			fresh = append(fresh, id)
		}
	}
	if len(fresh) > 0 {
		all = fresh
	}
	slices.SortStableFunc(all, func(a, b peer.ID) int { return asked[a].Compare(asked[b]) })
	return all[:min(len(all), most)]
}

// newVia has those asked about soon of whom nobody could tell anything yet.
func (t *Tracker) newVia(now time.Time) {
	for _, c := range t.addrs {
		if s := &c.stranger; s.failures == 0 && !c.filtered && c.proof.IsZero() && len(s.asked) < maxWitnesses {
			s.next = now
		}
	}
}

// otherVia reports whether somebody may be asked about c at once who was not
// yet. They are few: each is paid.
func (t *Tracker) otherVia(c *candidate) bool {
	if len(c.stranger.asked) >= maxWitnesses {
		return false
	}
	for id := range t.vias {
		if _, asked := c.stranger.asked[id]; !asked && t.connected(id) {
			return true
		}
	}
	return false
}

// recordStranger takes in what became of a stranger's dial. One that arrives is
// a fact, whatever others say. That none does is believed when all have answered
// who are asked together, and nobody else is there; what was proven before is
// taken back only when strangerPatience in a row have failed.
func (c *candidate) recordStranger(r result, others bool, now time.Time) {
	s := &c.stranger
	if r.outcome == dialled {
		c.prove(now)
		c.decide(false)
		s.next = now.Add(recheckPublic)
		return
	}
	if r.era != s.era {
		return
	}
	s.asking--
	if r.outcome.against() {
		s.failures++
		s.failed = true
	}
	switch {
	case s.asking > 0:
		// Somebody may get through yet.
	case s.failures >= strangerPatience:
		c.deny(s.failures)
		s.next, s.failures, s.declines = now.Add(recheckPrivate), 0, 0
	case others:
		s.next = now
	case s.failed:
		if c.proof.IsZero() {
			c.deny(s.failures)
		}
		s.next, s.declines = now.Add(strangerAgain), 0
	default:
		s.declines++
		s.next = now.Add(strangerNobody)
		if s.declines >= 3 {
			s.next = now.Add(strangerDecline)
		}
	}
}

// deny notes that strangers do not get through.
func (c *candidate) deny(strangers int) {
	c.filtered, c.proof = true, time.Time{}
	c.denied = max(c.denied, strangers)
	c.decide(false)
}

// askStranger has a stranger dial back.
func (c *dialBackClient) askStranger(ctx context.Context, s Strangers, via peer.ID, addr ma.Multiaddr, in func(ma.Multiaddr) bool) (outcome, string) {
	ctx, cancel := context.WithTimeout(ctx, strangerWait)
	defer cancel()
	nonce := rand.Uint64()
	arrived, forget := c.expect(nonce, in)
	defer forget()
	began, asked := time.Now(), make(chan error, 1)
	go func() { asked <- s.Ask(ctx, via, addr, nonce) }()
	var by arrival
	var err error
	select {
	case by = <-arrived:
		cancel()
		err = <-asked
	case err = <-asked:
		// The nonce is here already, or a moment away if there is one. Who
		// says that none comes is not believed sooner than others are heard.
		var moment time.Duration
		switch {
		case err == nil:
			moment = time.Second
		case errors.Is(err, ErrNotReached):
			moment = time.Until(began.Add(dialBackWait))
		}
		wait := time.NewTimer(moment)
		defer wait.Stop()
		select {
		case by = <-arrived:
		case <-wait.C:
		case <-ctx.Done():
		}
	}
	switch {
	case by.stranger && !by.crossed:
		return dialled, "a stranger got through"
	case by.came:
		return declined, "the dial came from a host that we talked to, or to another address"
	case errors.Is(err, ErrNotReached):
		return failed, err.Error()
	case err != nil:
		return declined, err.Error()
	}
	return declined, "the peer claims a dial-back that never arrived"
}

// inbound takes a connection that a stranger opened to one of our listening
// sockets for the proof that it is. The address that it dialled is what it
// saw us at; on our own interfaces the kernel knows better.
func (t *Tracker) inbound(ev event.EvtPeerIdentificationCompleted, now time.Time) {
	if ev.Conn == nil || t.dialled(ev.Conn) || ev.Conn.Stat().Limited || t.here.conn(ev.Conn) {
		return
	}
	ip, ok := remoteIP(ev.Conn)
	local := carrier(ev.Conn.LocalMultiaddr())
	if !ok || !manet.IsPublicAddr(ev.Conn.RemoteMultiaddr()) || !t.listening(local) {
		return
	}
	c := t.addrs[string(local.Bytes())]
	if c == nil && ev.ObservedAddr != nil {
		c = t.addrs[string(carrier(ev.ObservedAddr).Bytes())]
	}
	if c == nil || !c.probeable() || maddr.Transport(c.addr) != maddr.Transport(local) {
		return
	}
	// Somebody came in there, whoever it is: the door is open still.
	if d, _ := c.tally(); c.reachable == Public && c.failures == 0 && d >= 2 && !c.fleeting() {
		c.next = now.Add(recheckPublic)
	}
	if !t.contacts.stranger(ip, ev.Conn.Stat().Opened, now) || t.metBefore(ev.Conn) {
		return
	}
	// Where a peer says that it saw us counts for nothing until a server has
	// reached us there: it would be somebody else's address otherwise.
	if c.source == fromObserved && (c.reachable != Public || !c.trusted()) {
		return
	}
	c.prove(now)
	c.decide(false)
}

// metBefore reports whether the peer had another connection when it opened
// this one. Over a relay it may have asked for a hole punch.
func (t *Tracker) metBefore(conn network.Conn) bool {
	for _, other := range t.cfg.Host.Network().ConnsToPeer(conn.RemotePeer()) {
		if other.ID() != conn.ID() && !other.Stat().Opened.After(conn.Stat().Opened) {
			return true
		}
	}
	return false
}
