package node

import (
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// farewells are the relays that say they leave.
type farewells struct {
	said chan farewell // to the mover

	mu   sync.Mutex // guards the field below
	left map[peer.ID]bool
}

type farewell struct {
	relay  peer.ID
	within time.Duration
}

func newFarewells() *farewells {
	return &farewells{said: make(chan farewell, maxLeaving), left: make(map[peer.ID]bool)}
}

// say takes in that a relay leaves. It never blocks: of very many at once, some
// are not heard.
func (f *farewells) say(relay peer.ID, within time.Duration) {
	select {
	case f.said <- farewell{relay, within}:
	default:
	}
}

// set notes that a relay leaves, or that this is long ago.
func (f *farewells) set(relay peer.ID, leaves bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if leaves {
		f.left[relay] = true
	} else {
		delete(f.left, relay)
	}
}

// from reports whether a relay leaves, or said a moment ago that it would.
func (f *farewells) from(relay peer.ID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.left[relay]
}

// none reports whether no relay leaves.
func (f *farewells) none() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.left) == 0
}

// stays reports whether a connection is open and not over a relay that leaves.
func (f *farewells) stays(c network.Conn) bool { return !c.IsClosed() && !f.from(PathOf(c).Relay) }

// staying are the connections that are open and not over a relay that leaves.
func (f *farewells) staying(conns []network.Conn) []network.Conn {
	return slices.DeleteFunc(slices.Clone(conns), func(c network.Conn) bool { return !f.stays(c) })
}

// bestConn is the connection to use out of several: the best one, but rather not
// over a relay that leaves.
func (n *Node) bestConn(p peer.ID) network.Conn {
	conns := n.host.Network().ConnsToPeer(p)
	if n.farewells.none() {
		return bestOf(conns)
	}
	if c := bestOf(n.farewells.staying(conns)); c != nil {
		return c
	}
	return bestOf(conns)
}
