package autorelay

import (
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
)

// release gives a slot back that somebody else may need more. Circuit v2 has
// no message for that, but a relay forgets who disconnects.
func (a *AutoRelay) release(r *relay, why Reason, now time.Time) {
	if r.holds() {
		a.drop(r, why, "", now)
	}
	r.state, r.since = Known, now
	if why == Shed || r.feeler {
		// The DHT keeps its nearest neighbours connected. Somebody who has no
		// relay at all needs the slot more; it connects again when it wants to
		// know something.
		a.cfg.Host.ConnManager().Unprotect(r.id, kadTag)
	}
	r.feeler = false
	a.disconnect(r)
}

// kadTag is how kad-dht protects the peers in its first buckets (v0.42,
// dht.go, kbucketTag).
const kadTag = "kbucket"

// disconnect closes the connection to a relay, unless somebody else uses it.
func (a *AutoRelay) disconnect(r *relay) {
	if a.cfg.Host.ConnManager().IsProtected(r.id, "") {
		return
	}
	for _, c := range a.cfg.Host.Network().ConnsToPeer(r.id) {
		if inUse(c) {
			return
		}
	}
	a.work.Go(func() { a.cfg.Host.Network().ClosePeer(r.id) })
}

const protectTag = "causeway/autorelay"

// inUse reports whether a connection carries more than what libp2p and the DHT
// do by themselves: a circuit, or a stream of the application.
func inUse(c network.Conn) bool {
	for _, s := range c.GetStreams() {
		switch p := s.Protocol(); {
		case p == "", p == noticeID, p == ping.ID, p == identify.ID, p == identify.IDPush,
			p == autonatv2.DialProtocol, strings.Contains(string(p), "/kad/"):
		default:
			return true
		}
	}
	return false
}

// noticeID is package notice's protocol. The stream over which a relay asks for
// its slot is still there when we give it back.
const noticeID protocol.ID = "/causeway/relay-notice/1.0.0"
