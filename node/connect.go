package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"

	"github.com/causeway-p2p/causeway/internal/dialerr"
	"github.com/causeway-p2p/causeway/service"
)

// ErrPeerNotFound: nobody on the network knows an address of the peer.
var ErrPeerNotFound = errors.New("nobody on the network knows the peer")

// ErrSelf: the peer asked for is this node.
var ErrSelf = errors.New("that is this node itself")

// ErrNotJoined: this node is connected to nobody whom it could ask.
var ErrNotJoined = errors.New("this node is connected to nobody: the machine is offline, or no bootstrap peer can be reached")

// UnreachableError: addresses of the peer are known, and none of them answers.
type UnreachableError struct {
	Peer  peer.ID
	Addrs int // how many were tried
	Err   error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("none of %d known addresses of %s answers: %v", e.Addrs, e.Peer, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

const (
	// openTimeout bounds opening a stream on a connection that already
	// stands. If nothing comes back within it, the connection is dead: the
	// transports themselves take 30 s to notice.
	openTimeout = 3 * time.Second
	// silence is how long nothing may come back, or four round trips where
	// that is longer, before another path is tried beside the one that stands.
	// Cellular networks stall for that long all day, so nothing is given up.
	silence = 500 * time.Millisecond
	// connectTimeout bounds one attempt at all addresses of a peer.
	connectTimeout = 12 * time.Second
	// maxEnded is how many connections may end under a call before that counts
	// as a failure: as many as there may be to one peer.
	maxEnded = 3
	// retryPause is between two attempts, with jitter.
	retryPause = 250 * time.Millisecond
)

// Dial opens a named service of a peer, found by its ID alone, over a direct
// or a relayed path. It tries again, with fresh addresses, until ctx ends;
// without a deadline it gives up after a minute. Errors are
// *service.RefusedError if the peer was reached and said no, ErrNotJoined,
// ErrPeerNotFound, or *UnreachableError.
func (n *Node) Dial(ctx context.Context, p peer.ID, name string) (*service.Conn, error) {
	if err := service.CheckName(name); err != nil {
		return nil, err
	}
	return withPeer(ctx, n, p, func(ctx context.Context, h host.Host, _ bool) (*service.Conn, error) {
		return service.Open(ctx, h, p, name)
	})
}

// Listen offers a named service to all peers.
func (n *Node) Listen(name string) (net.Listener, error) {
	n.mu.Lock()
	run, services := n.run, n.services
	n.mu.Unlock()
	if run == nil || run.Err() != nil {
		return nil, ErrNotRunning
	}
	return services.Listen(name)
}

// Connect connects to a peer, found by its ID alone, over a direct or a
// relayed path, and makes sure that the connection is alive.
func (n *Node) Connect(ctx context.Context, p peer.ID) error {
	_, err := withPeer(ctx, n, p, func(ctx context.Context, h host.Host, fresh bool) (struct{}, error) {
		if fresh {
			return struct{}{}, nil // the handshakes have shown it
		}
		_, _, err := pingOver(ctx, h, p)
		return struct{}{}, err
	})
	return err
}

// use does something with a peer over the one connection that h has; fresh
// tells that it was made a moment ago.
type use[T any] func(ctx context.Context, h host.Host, fresh bool) (T, error)

// withPeer runs f on a connection to p. If connections turn out to be dead,
// they are closed, addresses are looked up afresh, and f runs again.
func withPeer[T any](ctx context.Context, n *Node, p peer.ID, f use[T]) (T, error) {
	var none T
	n.mu.Lock()
	run := n.run
	n.mu.Unlock()
	if run == nil || run.Err() != nil {
		return none, ErrNotRunning
	}
	if p == n.id {
		return none, ErrSelf
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(run, stop)() // Close ends it
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Minute)
		defer cancel()
	}
	ctx = allowLimited(ctx)
	var last error
	ended := 0
	for attempt := 0; ; attempt++ {
		conn, fresh, err := n.reach(ctx, p, attempt)
		if err == nil {
			var v T
			v, err = overPaths(ctx, n, conn, fresh, f)
			if final(err) {
				return v, err
			}
			// A connection that was there and has just ended says nothing against
			// the addresses, nor against trying at once.
			if !fresh && conn.IsClosed() && ended < maxEnded && ctx.Err() == nil {
				ended++
				attempt--
				continue
			}
			if ctx.Err() == nil {
				if !answeredReset(err) {
					n.abandon(conn)
				}
				err = &UnreachableError{Peer: p, Addrs: len(n.host.Peerstore().Addrs(p)), Err: err}
			}
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		if ctx.Err() == nil {
			pause(ctx, retryPause)
		}
		if run.Err() != nil {
			return none, ErrNotRunning
		}
		if ctx.Err() != nil && len(n.host.Network().Peers()) == 0 {
			return none, fmt.Errorf("%w (%w)", ErrNotJoined, last)
		}
		if ctx.Err() != nil {
			return none, last
		}
		log.Debug("peer not reached yet", "peer", p, "attempt", attempt, "err", err)
	}
}

// final reports whether the peer has said yes or no.
func final(err error) bool {
	var refused *service.RefusedError
	return err == nil || errors.As(err, &refused)
}

// answeredReset reports whether the peer has reset our stream, as it does when it
// has too many of ours: go-libp2p takes two pings at a time (v0.51, limits.go).
// The connection lives, and so may other streams on it.
func answeredReset(err error) bool {
	var reset *network.StreamError
	return errors.As(err, &reset) && reset.Remote
}

// pause waits about d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d/2 + rand.N(d)):
	case <-ctx.Done():
	}
}

// reach makes sure that some connection to p stands, and tells whether it is
// new. After a failed attempt, known addresses are forgotten first: they may
// be the reason for it.
func (n *Node) reach(ctx context.Context, p peer.ID, attempt int) (conn network.Conn, fresh bool, err error) {
	if conn = n.bestConn(p); conn != nil {
		return conn, false, nil
	}
	n.clearDialBackoff(p)
	if attempt > 0 {
		n.host.Peerstore().ClearAddrs(p)
	}
	if len(n.host.Peerstore().Addrs(p)) == 0 {
		if err := n.lookup(ctx, p, time.Duration(attempt)*lookupGrace); !n.recallNeighbour(p) && err != nil {
			return nil, false, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	begun := time.Now()
	conn, err = n.host.Network().DialPeer(ctx, p) // and not Connect, which waits for identify
	if err != nil {
		return nil, false, &UnreachableError{Peer: p, Addrs: len(n.host.Peerstore().Addrs(p)), Err: dialerr.Short(err)}
	}
	return conn, !conn.Stat().Opened.Before(begun), nil
}

// bestConn is the connection to use out of several: a direct one, an
// unlimited one, and the newest of these, since a silent one may have been
// the reason for it.
func bestConn(nw network.Network, p peer.ID) network.Conn { return bestOf(nw.ConnsToPeer(p)) }

func bestOf(conns []network.Conn) network.Conn {
	var best network.Conn
	for _, c := range conns {
		if !c.IsClosed() && (best == nil || better(c, best)) {
			best = c
		}
	}
	return best
}

func better(a, b network.Conn) bool {
	if x, y := a.Stat().Limited, b.Stat().Limited; x != y {
		return y
	}
	if x, y := PathOf(a).Direct(), PathOf(b).Direct(); x != y {
		return x
	}
	return a.Stat().Opened.After(b.Stat().Opened)
}

// clearDialBackoff makes go-libp2p dial although a dial failed a moment ago
// (p2p/net/swarm/swarm_dial.go): the pauses between attempts are our own.
func (n *Node) clearDialBackoff(p peer.ID) {
	if sw, ok := n.host.Network().(*swarm.Swarm); ok {
		sw.Backoff().Clear(p)
	}
}

// abandon gives up a connection, because nothing comes back on it. The others to
// the same peer may be dead for the same reason, or carry somebody's streams:
// which, a ping tells.
func (n *Node) abandon(conn network.Conn) {
	conn.Close()
	for _, c := range n.host.Network().ConnsToPeer(conn.RemotePeer()) {
		if c != conn && !c.IsClosed() {
			n.beside(func(ctx context.Context) { n.closeIfDead(ctx, c) })
		}
	}
}
