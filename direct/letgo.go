package direct

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"

	"github.com/causeway-p2p/causeway/fastconn"
)

const (
	// grace is how long a direct connection must stand before the relayed one
	// is let go: a hole that closes again does so within seconds.
	grace = 10 * time.Second
	// emptyFor is how long a connection must have had no streams: one may be on
	// its way. It is less than the time between two looks.
	emptyFor = sweepEvery - time.Second
	// forgotten is how long nothing must have moved on a relayed connection with
	// streams: whoever waits for something that long does not wait for the relay,
	// whose operator pays for keeping it. Most relays end a circuit sooner.
	forgotten = 15 * time.Minute
	// spareFor is how long a direct connection beside a better one must have had
	// no streams here. It costs next to nothing, and the peer may read still what
	// came on a stream that is closed here.
	spareFor = 30 * time.Second
	// othersTurn is how long the peer has, if it is for it to close them: one
	// that is not of ours may never do it.
	othersTurn = time.Minute
	// maxAsked bounds the peers that are asked at a time whether all has arrived;
	// the others are after the next look.
	maxAsked = 64
)

// use is what is seen of a connection's streams.
type use struct {
	streams int
	moved   int64     // bytes
	since   time.Time // when it was seen first
}

// letGo closes the connections that are not needed any more. A stream is never
// cut while something moves on it: whoever uses it finishes there.
func (u *Upgrader) letGo(ctx context.Context, records map[peer.ID]*record) {
	now := time.Now()
	asked := 0
	for p, rec := range records {
		if rec.direct.IsZero() {
			rec.uses = nil
			continue
		}
		held := now.Sub(rec.direct)
		conns := u.host.Network().ConnsToPeer(p)
		rec.see(conns, now)
		best := bestDirect(conns)
		for _, c := range conns {
			if c.IsClosed() || c == best {
				continue
			}
			seen := rec.uses[c.ID()]
			still := now.Sub(seen.since)
			switch {
			case !Relayed(c):
				if seen.streams == 0 && still >= spareFor && u.tidies(p, rec, held) {
					c.Close()
				}
			case held < grace:
			case seen.streams == 0 && still >= emptyFor && asked < maxAsked:
				asked++
				u.begin(func() { u.closeEmpty(ctx, c) })
			case still >= forgotten:
				log.Debug("streams over a relay are forgotten", "peer", p, "count", seen.streams)
				c.Close()
			}
		}
	}
}

// tidies reports whether it is for us to close the direct connections beside the
// one that stays. Both sides may have made some, and each has its own idea of the
// one that stays, as it alone knows who uses which: so only one of them closes any,
// whose peer ID is the smaller.
func (u *Upgrader) tidies(p peer.ID, rec *record, held time.Duration) bool {
	return u.host.ID() < p || !rec.either && held >= othersTurn
}

// see takes in how the connections are used.
func (r *record) see(conns []network.Conn, now time.Time) {
	was := r.uses
	r.uses = make(map[string]use, len(conns))
	for _, c := range conns {
		n, counted := moved(c)
		is := use{streams: streams(c), moved: n, since: now}
		old, known := was[c.ID()]
		if known && old.streams == is.streams && old.moved == is.moved && (counted || is.streams == 0) {
			is.since = old.since
		}
		r.uses[c.ID()] = is
	}
}

// moved is how many bytes the streams of a connection have moved, if they are
// counted, as on all relayed connections.
func moved(c network.Conn) (n int64, counted bool) {
	var fast *fastconn.Conn
	if !c.As(&fast) {
		return 0, false
	}
	return fast.Moved(), true
}

// closeEmpty closes a relayed connection if nothing is on its way on it any more:
// a stream that is closed here may have bytes left, for long where the relay
// limits the rate.
func (u *Upgrader) closeEmpty(ctx context.Context, c network.Conn) {
	if u.cfg.Arrived(ctx, c) && idle(c) {
		c.Close()
	}
}

// bestDirect is the direct connection that stays.
func bestDirect(conns []network.Conn) (best network.Conn) {
	for _, c := range conns {
		if !c.IsClosed() && !Relayed(c) && (best == nil || nicer(c, best)) {
			best = c
		}
	}
	return best
}

func countDirect(conns []network.Conn) (count int) {
	for _, c := range conns {
		if !c.IsClosed() && !Relayed(c) {
			count++
		}
	}
	return count
}

func idle(c network.Conn) bool { return streams(c) == 0 }

// streams counts those of a connection, but for pings: with one of them the other
// side asks us whether all has arrived.
func streams(c network.Conn) (count int) {
	for _, s := range c.GetStreams() {
		if s.Protocol() != ping.ID {
			count++
		}
	}
	return count
}

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
