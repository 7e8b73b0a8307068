package direct

import (
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// grace is how long a direct connection must stand before the relayed one
	// is let go: a hole that closes again does so within seconds.
	grace = 10 * time.Second
	// settled is how long several direct connections to one peer are left
	// alone: both sides may have made one, and begun to use it.
	settled = 3 * time.Second
)

// letGo closes the connections that are not needed any more. One with a stream
// on it is never closed: whoever uses it finishes there.
func (u *Upgrader) letGo(records map[peer.ID]*record) {
	now := time.Now()
	for p, rec := range records {
		if rec.direct.IsZero() {
			continue
		}
		held := now.Sub(rec.direct)
		was := rec.idle
		rec.idle = make(map[string]bool)
		var best network.Conn
		for _, c := range u.host.Network().ConnsToPeer(p) {
			if c.IsClosed() {
				continue
			}
			rec.idle[c.ID()] = idle(c)
			if !Relayed(c) && (best == nil || nicer(c, best)) {
				best = c
			}
		}
		for _, c := range u.host.Network().ConnsToPeer(p) {
			// A stream may be on its way: only what nobody uses for long is closed.
			if c.IsClosed() || c == best || !was[c.ID()] || !idle(c) {
				continue
			}
			// Of several direct ones, those of the side that began go, so that
			// the two sides do not close one each.
			if Relayed(c) && held >= grace || !Relayed(c) && held >= settled && rec.ours {
				c.Close()
			}
		}
	}
}

func idle(c network.Conn) bool { return c.Stat().NumStreams == 0 }

// nicer: QUIC before TCP, what is in use before what is not, and then the newer,
// which is what the swarm opens streams on.
func nicer(a, b network.Conn) bool {
	_, qa, _ := plainAddr(a.RemoteMultiaddr())
	_, qb, _ := plainAddr(b.RemoteMultiaddr())
	switch {
	case qa != qb:
		return qa
	case idle(a) != idle(b):
		return !idle(a)
	}
	return a.Stat().Opened.After(b.Stat().Opened)
}
