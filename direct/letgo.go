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
	// settle is how long several direct connections to one peer are left
	// alone: both sides may have made one, and begun to use it.
	settle = 3 * time.Second
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
		var best network.Conn
		for _, c := range u.host.Network().ConnsToPeer(p) {
			switch {
			case c.IsClosed():
			case Relayed(c):
				if held >= grace && idle(c) {
					c.Close()
				}
			case best == nil:
				best = c
			case rec.ours && held >= settle:
				// Who began tidies up, so that the two sides do not close one each.
				worse := c
				if nicer(c, best) {
					best, worse = c, best
				}
				if idle(worse) {
					worse.Close()
				}
			}
		}
	}
}

func idle(c network.Conn) bool { return c.Stat().NumStreams == 0 }

// nicer: QUIC before TCP, what is in use before what is not, and then the older.
func nicer(a, b network.Conn) bool {
	_, qa, _ := plainAddr(a.RemoteMultiaddr())
	_, qb, _ := plainAddr(b.RemoteMultiaddr())
	switch {
	case qa != qb:
		return qa
	case idle(a) != idle(b):
		return !idle(a)
	}
	return a.Stat().Opened.Before(b.Stat().Opened)
}
