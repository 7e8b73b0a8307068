package node

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// overPaths runs f on a connection that stands. If nothing comes back for a
// while, it finds another path and runs f there too, while the first goes on:
// the first answer counts. A path may be slow, or may be dead without the
// transport having noticed, which takes it half a minute.
func overPaths[T any](ctx context.Context, n *Node, conn network.Conn, fresh bool, f use[T]) (T, error) {
	type outcome struct {
		value T
		err   error
		conn  network.Conn
	}
	ctx, cancel := context.WithCancel(ctx)
	outcomes := make(chan outcome, 2)
	over := func(c network.Conn, fresh bool) {
		ctx, cancel := context.WithTimeout(ctx, openTimeout)
		defer cancel()
		v, err := f(ctx, pinned{n.host, c}, fresh)
		outcomes <- outcome{v, err, c}
	}
	running := 1
	go over(conn, fresh)
	defer func() {
		cancel()
		for ; running > 0; running-- {
			o := <-outcomes
			if o.err == nil {
				discard(o.value)
			}
			if o.conn != nil && o.conn != conn && PathOf(o.conn).Relayed() && n.farewells.stays(conn) {
				o.conn.Close() // one circuit is enough, if it stays
			}
		}
	}()
	silent := time.After(max(silence, 4*n.host.Peerstore().LatencyEWMA(conn.RemotePeer())))
	var last outcome
	for running > 0 {
		select {
		case o := <-outcomes:
			running--
			if final(o.err) {
				if o.conn != conn {
					n.beside(func(ctx context.Context) { n.closeIfDead(ctx, conn) })
				}
				return o.value, o.err
			}
			if last.err == nil || o.conn == conn {
				last = o
			}
		case <-silent:
			running++
			go func() {
				c, err := n.anotherConn(ctx, conn)
				if err != nil {
					outcomes <- outcome{err: err}
					return
				}
				over(c, true)
			}()
		}
	}
	return last.value, last.err
}

// discard ends what nobody waits for any more.
func discard(v any) {
	if s, ok := v.(interface{ Reset() error }); ok {
		s.Reset()
	}
}

var errNoOtherPath = errors.New("no other path")

// anotherConn connects to the peer of a silent circuit over another path: at
// the addresses that are known, and at those that the DHT adds meanwhile. For
// a direct connection there is none: the swarm does not dial a second.
func (n *Node) anotherConn(ctx context.Context, silent network.Conn) (network.Conn, error) {
	relay := PathOf(silent).Relay
	if relay == "" {
		return nil, errNoOtherPath
	}
	p := silent.RemotePeer()
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	var working sync.WaitGroup
	defer working.Wait()
	defer cancel()
	// If the relay is dead, the circuits over it are, and all end now.
	working.Go(func() { closeStale(ctx, n.host, relay) })

	dctx := network.WithForceDirectDial(ctx, anotherPath)
	conns := make(chan network.Conn, 2)
	dial := func() {
		c, err := n.host.Network().DialPeer(dctx, p)
		if err != nil || c == silent {
			c = nil
		}
		conns <- c
	}
	working.Go(dial)
	working.Go(func() {
		if err := n.lookup(ctx, p, 0); err != nil {
			log.Debug("no fresh addresses for another path", "peer", p, "err", err)
		}
		dial() // joins the other, with the new addresses
	})
	for range 2 {
		if c := <-conns; c != nil {
			return c, nil
		}
	}
	return nil, errNoOtherPath
}

// closeIfDead closes a connection on which nothing comes back.
func (n *Node) closeIfDead(ctx context.Context, c network.Conn) {
	if isSilent(ctx, pinned{n.host, c}, c.RemotePeer(), openTimeout) {
		c.Close()
	}
}

// isSilent reports whether nothing comes back from p for so long. A peer that
// does not speak ping says so, and thereby is not silent.
func isSilent(ctx context.Context, h host.Host, p peer.ID, long time.Duration) bool {
	pctx, cancel := context.WithTimeout(ctx, long)
	defer cancel()
	_, _, err := pingOver(pctx, h, p)
	return err != nil && pctx.Err() != nil && ctx.Err() == nil
}

// beside runs f as a part of the node, unless that is closed.
func (n *Node) beside(f func(context.Context)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.started && !n.closed {
		n.parts.Go(func() { f(n.run) })
	}
}
