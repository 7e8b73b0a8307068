package reachability

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
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
	// from friends. A peer may lie, or its third node may lose packets.
	strangerPatience = 3

	strangerAgain   = time.Second      // after a failure: somebody else
	strangerNobody  = 30 * time.Second // nobody is known who could dial
	strangerDecline = 5 * time.Minute  // so three times in a row
	proofAge        = time.Hour        // a proof that is older is renewed
	strangerWait    = 20 * time.Second // for the answer of one peer
)

// strangers is how the test of one address by strangers goes.
type strangers struct {
	asking             bool
	next               time.Time
	failures, declines int // in a row
	asked              map[peer.ID]time.Time
}

// wantsStranger reports whether a stranger's dial of the address would tell
// something that is not known: it is public for our friends, behind a box.
func (c *candidate) wantsStranger(now time.Time) bool {
	if c.stranger.asking || now.Before(c.stranger.next) || c.source != fromObserved && c.source != fromMapped {
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
	for _, c := range t.byUrgency() {
		if !c.wantsStranger(now) {
			continue
		}
		via, ok := t.pickVia(c)
		if !ok {
			c.stranger.next = now.Add(idleWake)
			continue
		}
		if c.stranger.asked == nil {
			c.stranger.asked = make(map[peer.ID]time.Time)
		}
		c.stranger.asking = true
		c.stranger.asked[via] = now
		key, addr := c.key(), c.addr
		in := c.comesIn()
		t.probes.Go(func() {
			r := result{kind: byStranger, key: key, server: via}
			r.outcome, r.why = t.client.askStranger(ctx, t.cfg.Strangers, via, addr, in)
			t.report(ctx, r)
		})
	}
}

// pickVia takes the connected peer that was asked about c the longest ago.
func (t *Tracker) pickVia(c *candidate) (best peer.ID, ok bool) {
	for id := range t.vias {
		if !t.connected(id) {
			continue
		}
		if !ok || c.stranger.asked[id].Before(c.stranger.asked[best]) {
			best, ok = id, true
		}
	}
	return best, ok
}

// recordStranger takes in what became of a stranger's dial.
func (c *candidate) recordStranger(r result, now time.Time) {
	s := &c.stranger
	s.asking = false
	switch r.outcome {
	case dialled:
		c.prove(now)
		c.decide(false)
		c.stranger.next = now.Add(recheckPublic)
	case failed, silent:
		s.failures++
		s.declines = 0
		s.next = now.Add(strangerAgain)
		if s.failures >= strangerPatience {
			c.filtered, c.proof = true, time.Time{}
			c.decide(false)
			s.next, s.failures = now.Add(recheckPrivate), 0
		}
	default:
		s.declines++
		s.next = now.Add(strangerNobody)
		if s.declines >= 3 {
			s.next = now.Add(strangerDecline)
		}
	}
}

// askStranger has a stranger dial back.
func (c *dialBackClient) askStranger(ctx context.Context, s Strangers, via peer.ID, addr ma.Multiaddr, in func(ma.Multiaddr) bool) (outcome, string) {
	ctx, cancel := context.WithTimeout(ctx, strangerWait)
	defer cancel()
	nonce := rand.Uint64()
	arrived, forget := c.expect(nonce, in)
	defer forget()
	asked := make(chan error, 1)
	go func() { asked <- s.Ask(ctx, via, addr, nonce) }()
	var by arrival
	var err error
	select {
	case by = <-arrived:
		cancel()
		err = <-asked
	case err = <-asked:
		// The nonce is here already or a moment away.
		wait := time.NewTimer(time.Second)
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
	local := ev.Conn.LocalMultiaddr()
	if !ok || !manet.IsPublicAddr(ev.Conn.RemoteMultiaddr()) || !t.listening(local) {
		return
	}
	c := t.addrs[string(local.Bytes())]
	if c == nil && ev.ObservedAddr != nil {
		c = t.addrs[string(ev.ObservedAddr.Bytes())]
	}
	if c == nil || !c.probeable() || transportOf(c.addr) != transportOf(local) {
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
