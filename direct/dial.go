package direct

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
)

// role is who we are in the handshakes above the packets.
type role int

const (
	client role = iota // as in any dial
	server             // in QUIC: let the other's handshake in
)

var errNoTransport = errors.New("no transport for it")

// dial dials an address beside the caller, and hands what comes of it to the
// swarm.
func (a *attempt) dial(ctx context.Context, to ma.Multiaddr, as role, how Outcome) {
	if !a.spend(to) {
		return
	}
	a.dials.Go(func() {
		if err := a.u.dial(ctx, to, a.peer, as, how, nil); err != nil && ctx.Err() == nil {
			log.Debug("dial failed", "peer", a.peer, "addr", to, "reason", err.Error())
		}
	})
}

// spend reports whether another dial to an IP address is all right.
func (a *attempt) spend(to ma.Multiaddr) bool {
	ap, _, _ := plainAddr(to)
	if !a.u.rates.ips.take(ap.Addr(), time.Now()) {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.spent == nil {
		a.spent = make(map[netip.Addr]int)
	}
	a.spent[ap.Addr()]++
	return true
}

// repay gives back what was spent on a peer that was there.
func (a *attempt) repay() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for ip, n := range a.spent {
		a.u.rates.ips.give(ip, n, time.Now())
	}
}

// dial dials one address, whatever connections to the peer there are, and hands
// the connection to the swarm.
func (u *Upgrader) dial(ctx context.Context, to ma.Multiaddr, p peer.ID, as role, how Outcome, progress chan<- transport.DialUpdate) error {
	t := u.swarm.TransportForDialing(to)
	if t == nil {
		return errNoTransport
	}
	if ip, _, ok := plainAddr(to); ok {
		u.cfg.OnDial(ip.Addr())
	}
	if as == server {
		ctx = network.WithSimultaneousConnect(ctx, false, "hole punch")
	}
	var conn transport.CapableConn
	var err error
	if du, ok := t.(transport.DialUpdater); ok && progress != nil {
		conn, err = du.DialWithUpdates(ctx, to, p, progress)
	} else {
		conn, err = t.Dial(ctx, to, p)
	}
	if err != nil {
		return fmt.Errorf("dial %s: %w", to, err)
	}
	return u.cfg.Door.hand(conn, how)
}

// Dial makes a connection to a peer at one address, although there may be
// others already: a second path, or a witness of where packets of that
// transport come from.
func (u *Upgrader) Dial(ctx context.Context, to ma.Multiaddr, p peer.ID) error {
	return u.dial(ctx, to, p, client, Dialled, nil)
}

// early are dials that do not wait for the agreed moment: a peer that is
// public, or behind a full cone, is reached sooner so.
type early struct {
	mu      sync.Mutex
	pending map[*earlyDial]struct{}
}

type earlyDial struct {
	cancel context.CancelFunc
	done   chan struct{}
	far    bool // TCP stands, and the handshakes are under way
	udp    bool
}

func (a *attempt) early(where []ma.Multiaddr) *early {
	e := &early{pending: make(map[*earlyDial]struct{})}
	for _, to := range where {
		_, udp, _ := plainAddr(to)
		if !udp && a.nat.TCPMapping.unpredictable() {
			// A SYN that is lost is repeated after a second, and until then no
			// other can be sent to that address from our port.
			continue
		}
		if a.spend(to) {
			e.dial(a, to, udp)
		}
	}
	return e
}

func (e *early) dial(a *attempt, to ma.Multiaddr, udp bool) {
	ctx, cancel := context.WithCancel(a.ctx)
	d := &earlyDial{cancel: cancel, udp: udp, done: make(chan struct{})}
	e.mu.Lock()
	e.pending[d] = struct{}{}
	e.mu.Unlock()
	progress := make(chan transport.DialUpdate, 1)
	a.dials.Go(func() {
		select {
		case <-progress:
			e.mu.Lock()
			d.far = true
			e.mu.Unlock()
		case <-d.done:
		}
	})
	a.dials.Go(func() {
		defer close(d.done)
		defer cancel()
		if err := a.u.dial(ctx, to, a.peer, client, Dialled, progress); err != nil && ctx.Err() == nil {
			log.Debug("direct dial failed", "peer", a.peer, "addr", to, "reason", err.Error())
		}
		e.mu.Lock()
		delete(e.pending, d)
		e.mu.Unlock()
	})
}

// settle ends the TCP dials of which nothing is known yet, and waits for it:
// they hold the very ports that the hole punch needs, and go-libp2p takes any
// other port without a word where those are taken (v0.51,
// p2p/net/reuseport/reuseport.go).
func (e *early) settle() {
	e.mu.Lock()
	var ended []*earlyDial
	for d := range e.pending {
		if !d.udp && !d.far {
			d.cancel()
			ended = append(ended, d)
		}
	}
	e.mu.Unlock()
	for _, d := range ended {
		<-d.done // at once: connect ends with its context
	}
}

func (e *early) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for d := range e.pending {
		d.cancel()
	}
}
