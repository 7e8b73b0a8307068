package node

import (
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/notice"
	"github.com/causeway-p2p/causeway/relay"
)

const (
	// endedFor is how long after a circuit has ended its relay is believed
	// about it: it tells within a second or two.
	endedFor = time.Minute
	// maxRecent bounds the circuits that are remembered.
	maxRecent = 4096
)

// recent are the circuits that we have, or had a moment ago: relays are heard
// about these only, or anybody who is connected could tell us tales.
type recent struct {
	mu  sync.Mutex // guards the field below
	end map[hop]circuitsOf
}

// circuitsOf are the circuits to one peer over one relay.
type circuitsOf struct {
	open     int
	end      time.Time // of the last
	upgraded bool      // a direct path was there when it ended
}

// hop is a peer behind a relay.
type hop struct{ relay, peer peer.ID }

// watch remembers the circuits of a host until stop is called, and hands on those
// that have ended.
func (r *recent) watch(nw network.Network, ended func(network.Conn)) (stop func()) {
	note := func(c network.Conn, n int) {
		if p := PathOf(c); p.Relayed() {
			upgraded := n < 0 && pathTo(nw, c.RemotePeer()).Direct()
			r.note(hop{p.Relay, c.RemotePeer()}, n, upgraded, time.Now())
			if n < 0 {
				ended(c)
			}
		}
	}
	bundle := &network.NotifyBundle{
		ConnectedF:    func(_ network.Network, c network.Conn) { note(c, 1) },
		DisconnectedF: func(_ network.Network, c network.Conn) { note(c, -1) },
	}
	nw.Notify(bundle)
	return func() { nw.StopNotify(bundle) }
}

// note takes in that there is one more, or one less.
func (r *recent) note(h hop, n int, upgraded bool, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.end[h]; !known && len(r.end) >= maxRecent {
		for k, c := range r.end {
			if c.open == 0 && now.Sub(c.end) > endedFor {
				delete(r.end, k)
			}
		}
		for k := range r.end {
			if len(r.end) < maxRecent {
				break
			}
			delete(r.end, k)
		}
	}
	c := r.end[h]
	c.open, c.end, c.upgraded = max(c.open+n, 0), now, upgraded
	r.end[h] = c
}

// lookup returns the circuits to a peer over a relay, if they may be news.
func (r *recent) lookup(h hop) (circuitsOf, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, known := r.end[h]
	return c, known && (c.open > 0 || time.Since(c.end) <= endedFor)
}

// circuitGone takes in that a circuit has ended. Where its relay is known to give
// no reasons, there is no word to wait for. One that ends beside another path may
// be one that we let go.
func (n *Node) circuitGone(c network.Conn) {
	via, p := PathOf(c).Relay, c.RemotePeer()
	if pathTo(n.host.Network(), p) != (Path{}) || !n.silentOnEndings(via) {
		return
	}
	n.events.emit(CircuitEnded{At: now(), Relay: via, Peer: p, Lasted: time.Since(c.Stat().Opened)})
}

// silentOnEndings reports whether a relay tells nobody why circuits end. Those of
// ours, which do, receive such notices themselves. Of one that has not said what it
// speaks, nothing is known.
func (n *Node) silentOnEndings(relay peer.ID) bool {
	known, err := n.host.Peerstore().GetProtocols(relay)
	return err == nil && len(known) > 0 && !notice.Speaks(n.host, relay)
}

// circuitsEnded takes what a relay says about circuits of ours.
func (n *Node) circuitsEnded(from peer.ID, list []notice.Circuit) {
	for _, c := range list {
		ended, known := n.recent.lookup(hop{from, c.Peer})
		if !known {
			continue
		}
		path := pathTo(n.host.Network(), c.Peer)
		replaced := ended.upgraded || path.Direct() || path.Relayed() && path.Relay != from && n.farewells.from(from)
		n.events.emit(CircuitEnded{
			At: now(), Relay: from, Peer: c.Peer, Reason: c.Reason, Sent: c.Sent, Received: c.Received, Lasted: c.Lasted,
			Upgraded: c.Reason == string(relay.PeerGone) && replaced,
		})
	}
}

func (e CircuitEnded) String() string {
	why := map[string]string{
		"byte-limit": "it has carried what the relay allows",
		"time-limit": "it has lasted as long as the relay allows",
		"quota":      "the month's bytes at the relay are used up",
		"peer-gone":  "one end has gone",
		"stalled":    "one end took nothing any more",
		"draining":   "the relay leaves",
		"stopping":   "the relay stops",
		"denied":     "the relay's operator does not allow it",
		"kicked":     "the relay's operator ended it",
	}[e.Reason]
	switch {
	case e.Reason == "":
		return fmt.Sprintf("circuit to %s via relay %s ended after %v; the relay does not say why",
			ShortID(e.Peer), ShortID(e.Relay), e.Lasted.Round(time.Millisecond))
	case why == "":
		why = e.Reason // of a later version
	}
	return fmt.Sprintf("circuit to %s via relay %s ended after %v: %s (%d bytes sent, %d received)",
		ShortID(e.Peer), ShortID(e.Relay), e.Lasted.Round(time.Millisecond), why, e.Sent, e.Received)
}
