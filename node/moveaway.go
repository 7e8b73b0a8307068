package node

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
)

// What becomes of our circuits over a relay that says it leaves:
//
//	told ──▶ is there another path to the peer?
//	           no  ──▶ one is dialled beside the circuit; if that fails, again later
//	           yes ──▶ what is new goes there; when nothing runs on the circuit, and
//	                   all has arrived that was sent over it, it is let go
//
// Both ends are told. Whoever opened the circuit dials at once, the other only
// if that has led to nothing: its peer may be stock, or cannot dial.

const (
	// leaveAgain is how long a relay that said it leaves is not heard again: one
	// that lies about it has us dial once a minute, and no others than those
	// whom we reach through it.
	leaveAgain = time.Minute
	// leastLeave is how long those are moved who rely on a relay that may go at
	// any moment: a dial, and a second attempt.
	leastLeave = 15 * time.Second
	// maxLeaving bounds the relays that leave at a time; with more, the circuits
	// over the others last until they are cut.
	maxLeaving = 64
	// maxMoves is how many paths are dialled at once. One takes some ten round
	// trips, half a second on a usual path: more than a hundred peers have moved
	// in the 10 s that a relay gives them by default.
	maxMoves = 8
	// maxMoveTries bounds the dials for one peer: the pauses are a minute and a
	// half at most.
	maxMoveTries = 8
	// joinTime is for circuits that the relay let through just before it said
	// that it leaves: the CONNECT and the handshakes, on a bad path.
	joinTime = 5 * time.Second
	// otherSide is how long whoever opened a circuit has, before the other end
	// dials. Were it told as well, it has another path within half a second.
	otherSide = 2 * time.Second
	// moveRetry is the first pause between two dials for one peer, and
	// moveRetryMax the longest. A peer that has to find another relay itself
	// takes about a second.
	moveRetry    = time.Second
	moveRetryMax = 30 * time.Second
	// moveLook is how often it is looked at what runs on the circuits, and
	// moveIdle how long nothing may have: a stream may be on its way.
	moveLook = 500 * time.Millisecond
	moveIdle = 500 * time.Millisecond
	// otherIdle is moveIdle for the end that did not open the circuit, so that
	// only one asks whether all has arrived.
	otherIdle = 4 * moveIdle
)

// mover is the state of moveAway, which alone touches it.
type mover struct {
	*Node
	ctx     context.Context
	leaving map[peer.ID]*departure
	dials   int // under way
	dialled chan *farEnd
	work    sync.WaitGroup
}

// departure is a relay that leaves.
type departure struct {
	relay        peer.ID
	since, until time.Time
	ends         map[peer.ID]*farEnd
	withdrawn    bool // it has ceased to offer its service
	back         bool // and offers it again; see comeback.go
}

// farEnd is a peer with circuits over a relay that leaves.
type farEnd struct {
	dialling bool
	tries    int
	next     time.Time                  // when it is dialled, if there is no other path
	idle     map[network.Conn]time.Time // since when nothing runs on a circuit
}

// moveAway is a part of the node: it moves circuits away from relays that leave.
func (n *Node) moveAway(ctx context.Context) error {
	m := &mover{
		Node: n, ctx: ctx, leaving: make(map[peer.ID]*departure),
		dialled: make(chan *farEnd, maxMoves), // takes all that there can be
	}
	defer m.work.Wait()
	said, err := identified(n.host)
	if err != nil {
		return err
	}
	defer said.Close()
	var look <-chan time.Time
	for {
		if len(m.leaving) > 0 && look == nil {
			look = time.After(moveLook)
		}
		select {
		case <-ctx.Done():
			return nil
		case f := <-n.farewells.said:
			m.begin(f, time.Now())
		case e := <-said.Out():
			if e, ok := e.(event.EvtPeerIdentificationCompleted); ok {
				m.heard(e)
			}
			continue // nothing to be done
		case e := <-m.dialled:
			m.dials--
			e.dialling = false
		case <-look:
			look = nil
		}
		m.look(time.Now())
	}
}

// begin takes in that a relay leaves, if that concerns us.
func (m *mover) begin(f farewell, now time.Time) {
	if m.leaving[f.relay] != nil || len(m.leaving) >= maxLeaving || !m.uses(f.relay) {
		return
	}
	m.leaving[f.relay] = &departure{
		relay: f.relay, since: now, until: now.Add(max(f.within, leastLeave)), ends: make(map[peer.ID]*farEnd),
	}
	m.farewells.set(f.relay, true)
}

// uses reports whether we have circuits over a relay, or are dialling one.
func (m *mover) uses(relay peer.ID) bool {
	foreign := m.circuits.foreign
	foreign.mu.Lock()
	dials := foreign.using[relay]
	foreign.mu.Unlock()
	return dials > 0 || foreign.circuits()[relay] > 0
}

// look does what is to be done now.
func (m *mover) look(now time.Time) {
	for _, d := range m.leaving {
		if now.Sub(d.since) < joinTime && !d.back {
			m.join(d)
		}
		// Nobody waits for those who are tried again and again.
		fewest := func(p, q peer.ID) int { return cmp.Compare(d.ends[p].tries, d.ends[q].tries) }
		for _, p := range slices.SortedFunc(maps.Keys(d.ends), fewest) {
			m.move(d, p, d.ends[p], now)
		}
		if now.Sub(d.since) >= leaveAgain && (len(d.ends) == 0 || now.After(d.until)) {
			delete(m.leaving, d.relay)
			m.farewells.set(d.relay, false)
		}
	}
}

// join finds the peers that are to be moved.
func (m *mover) join(d *departure) {
	for _, c := range m.host.Network().Conns() {
		p := c.RemotePeer()
		if d.ends[p] != nil || c.IsClosed() || PathOf(c).Relay != d.relay {
			continue
		}
		e := &farEnd{next: d.since, idle: make(map[network.Conn]time.Time)}
		if c.Stat().Direction != network.DirOutbound {
			e.next = d.since.Add(otherSide)
		}
		d.ends[p] = e
	}
}

// move finds a peer another path, and lets go of what is not needed any more.
func (m *mover) move(d *departure, p peer.ID, e *farEnd, now time.Time) {
	var over []network.Conn
	moved := false
	for _, c := range m.host.Network().ConnsToPeer(p) {
		switch {
		case m.farewells.stays(c):
			moved = true
		case !c.IsClosed() && PathOf(c).Relay == d.relay:
			over = append(over, c)
		}
	}
	switch {
	case e.dialling:
	case len(over) == 0:
		delete(d.ends, p)
	case moved:
		m.letGo(over, e, now)
	case e.tries < maxMoveTries && m.dials < maxMoves && !now.Before(e.next) && now.Before(d.until):
		m.dial(over[0], e, d.until)
	}
}

// dial looks for a path to the other end of a circuit, beside that. The relay
// itself is not tried (see circuits.Dial).
func (m *mover) dial(over network.Conn, e *farEnd, until time.Time) {
	wait := min(moveRetry<<e.tries, moveRetryMax)
	e.dialling, e.next = true, time.Now().Add(wait/2+rand.N(wait/2))
	e.tries++
	m.dials++
	m.work.Go(func() {
		ctx, cancel := context.WithDeadline(m.ctx, until)
		defer cancel()
		begun, p := time.Now(), over.RemotePeer()
		m.clearDialBackoff(p)
		if c, err := m.anotherConn(ctx, over); err != nil {
			log.Debug("circuit not moved", "peer", p, "relay", PathOf(over).Relay, "err", err)
		} else {
			log.Debug("circuit moved", "peer", p, "relay", PathOf(over).Relay, "to", PathOf(c), "dur", time.Since(begun))
		}
		m.dialled <- e
	})
}

// letGo closes the circuits on which nothing has run for a moment. What runs on
// one ends there.
func (m *mover) letGo(over []network.Conn, e *farEnd, now time.Time) {
	for _, c := range over {
		since, idle := e.idle[c]
		switch {
		case m.busy(c):
			delete(e.idle, c)
		case !idle:
			e.idle[c] = now
		case now.Sub(since) >= idleFor(c):
			e.idle[c] = now // or asked again after as long
			m.work.Go(func() { m.closeEmpty(c) })
		}
	}
}

func idleFor(c network.Conn) time.Duration {
	if c.Stat().Direction == network.DirOutbound {
		return moveIdle
	}
	return otherIdle
}

// closeEmpty closes a circuit if all has arrived that was sent over it.
func (m *mover) closeEmpty(c network.Conn) {
	if m.arrived(m.ctx, c) && !m.busy(c) {
		c.Close()
	}
}

// arrived reports whether all has arrived that was sent over a circuit: a stream
// that is closed here may have bytes on their way, for long where the relay
// limits the rate. What comes back was sent after them, also if it is that the peer
// does not speak ping. If we lack the resources to ask, nothing is known.
func (n *Node) arrived(ctx context.Context, c network.Conn) bool {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	_, _, err := pingOver(ctx, pinned{n.host, c}, c.RemotePeer())
	return ctx.Err() == nil && !errors.Is(err, network.ErrResourceLimitExceeded)
}

// busy reports whether somebody uses a connection. The DHT keeps streams for its
// next query, and identify says everything on the other path as well.
func (m *mover) busy(c network.Conn) bool {
	return slices.ContainsFunc(c.GetStreams(), func(s network.Stream) bool {
		switch s.Protocol() {
		case m.cfg.dhtProtocol(), identify.ID, identify.IDPush:
			return false
		}
		return true
	})
}
