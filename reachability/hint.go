package reachability

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/autonat"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/internal/maddr"
)

// AutoNAT v1 (github.com/libp2p/specs/blob/master/autonat/autonat-v1.md): the
// server says whether it could dial any of our addresses, and not which, and
// nothing proves that it tried. It is asked when nobody else is there.

const (
	// hintPatience is how long we wait for a server of v2.
	hintPatience = 5 * time.Second
	// hintWait is how long a v1 server may take; go-libp2p's dials for 15 s
	// (p2p/host/autonat/options.go, dialTimeout).
	hintWait = 20 * time.Second
	// hintAgain is when the next is asked: after an answer, and without one.
	hintAgain, hintRetry = 10 * time.Minute, time.Minute
	// hintTTL is how long a hint counts.
	hintTTL = 30 * time.Minute
)

// hint is what an AutoNAT v1 server said.
type hint struct {
	reachable Reachability
	v4, v6    bool // the family of the connection that it was asked over
	at        time.Time

	alone  time.Time // since when there is no server of v2
	next   time.Time
	asking bool
}

// startHint asks a v1 server if it is time to.
func (t *Tracker) startHint(ctx context.Context, now time.Time) {
	h := &t.hint
	if len(t.servers) > 0 {
		h.alone = time.Time{}
		return
	}
	if h.alone.IsZero() {
		h.alone = now
	}
	if h.asking || now.Sub(h.alone) < hintPatience || now.Before(h.next) {
		return
	}
	srv, over := t.hintServer()
	if over == nil {
		h.next = now.Add(idleWake)
		return
	}
	h.asking = true
	v4, v6 := families(over)
	h.v4, h.v6 = v4, v6
	var addrs []ma.Multiaddr
	for _, c := range t.byUrgency() {
		addrs = append(addrs, c.addr)
	}
	t.probes.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, hintWait)
		defer cancel()
		err := autonat.NewAutoNATClient(t.cfg.Host, func() []ma.Multiaddr { return addrs }, nil).DialBack(ctx, srv)
		r := result{kind: byHint, server: srv}
		switch {
		case err == nil:
			r.outcome, r.why = dialled, "the server says that it could dial us"
		case autonat.IsDialError(err):
			r.outcome, r.why = failed, err.Error()
		default:
			r.outcome, r.why = declined, err.Error()
		}
		t.report(ctx, r)
	})
}

// hintServer is a connected peer that speaks AutoNAT v1, and over which address
// we are connected.
func (t *Tracker) hintServer() (peer.ID, ma.Multiaddr) {
	for _, c := range t.cfg.Host.Network().Conns() {
		if maddr.IsCircuit(c.RemoteMultiaddr()) || t.isHere(c.RemotePeer()) {
			continue
		}
		if p, err := t.cfg.Host.Peerstore().SupportsProtocols(c.RemotePeer(), autonat.AutoNATProto); err == nil && len(p) > 0 {
			return c.RemotePeer(), c.RemoteMultiaddr()
		}
	}
	return "", nil
}

func (h *hint) record(r result, now time.Time) {
	h.asking = false
	h.next = now.Add(hintAgain)
	switch r.outcome {
	case dialled:
		h.reachable, h.at = Public, now
	case failed:
		h.reachable, h.at = Private, now
	default:
		h.next = now.Add(hintRetry)
	}
}

// apply gives a verdict that nothing is known for the hint, if there is one.
// It reports whether that is so.
func (h *hint) apply(v *Verdict, now time.Time) bool {
	if v.Reachability != Unknown || h.at.IsZero() || now.Sub(h.at) > hintTTL {
		return false
	}
	v.Reachability, v.Confidence, v.Weak = h.reachable, Hint, true
	if h.v4 {
		v.IPv4 = h.reachable
	}
	if h.v6 {
		v.IPv6 = h.reachable
	}
	could := "could not dial us"
	if h.reachable == Public {
		v.Insured = true
		could = "could dial us, which nothing proves: a relay is kept"
	}
	v.Because = fmt.Sprintf("a server of AutoNAT v1 says that it %s; %s", could, v.Because)
	return true
}
