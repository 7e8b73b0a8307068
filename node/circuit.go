package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	circuitv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/direct"
	"github.com/causeway-p2p/causeway/internal/dialerr"
	"github.com/causeway-p2p/causeway/internal/maddr"
)

// circuits is the host's circuit v2 transport, in place of go-libp2p's, which
// opens the circuits to one peer one after another and does not let go when
// the dial is cancelled (v0.51, p2p/protocol/circuitv2/client/dial.go): a
// single dead relay holds up all others for 5 s, and one that accepts and
// never answers for a minute.
//
// The protocol itself stays go-libp2p's: each attempt gets a client of its
// own, on a stream that ends with the attempt. In which order and how far
// apart relays are tried is in hedge.go, what becomes of the connections to
// them afterwards in foreign.go. See docs/design/002-our-own-circuit-transport.md.
type circuits struct {
	*circuitv2.Client // takes the circuits that others open to us
	host              host.Host
	upgrader          transport.Upgrader
	foreign           *foreign
	introduce         func(ctx context.Context, relay peer.ID) // before each CONNECT; may be nil
	contacted         func(netip.Addr)                         // before each dial; may be nil
	door              *direct.Door                             // for connections that we make outside of the swarm
	quic              *quicreuse.ConnManager                   // nil with other transports than the machine's

	mu    sync.Mutex // guards the fields below
	races map[peer.ID]*race
}

const (
	// getTimeout bounds connecting to a relay on the way, as go-libp2p does
	// (client.DialRelayTimeout).
	getTimeout = 5 * time.Second
	// circuitTimeout bounds one CONNECT and the handshakes with the peer
	// behind it, about seven round trips. Relays give the peer some seconds.
	circuitTimeout = 10 * time.Second
	// staleAfter is how long a ping on a connection that stands may take, or
	// four round trips where that is longer, before the connection is given
	// up for a new one. Losing a living one costs the circuits on it.
	staleAfter = 1500 * time.Millisecond
)

// anotherPath is the reason, in network.WithForceDirectDial, for dialling a
// peer that we have a circuit to: it makes the swarm not be content with that
// one. Whoever else forces a direct dial gets none of ours.
const anotherPath = "causeway: another path"

// errSameRelay: one dial through a relay is enough; it uses all its addresses.
var errSameRelay = errors.New("dialled through another address of the same relay")

// attach is called while the host is built (see newHost).
func (c *circuits) attach(h host.Host, u transport.Upgrader) error {
	sw, ok := h.Network().(transport.TransportNetwork)
	if !ok {
		return fmt.Errorf("circuits: %T takes no transports", h.Network())
	}
	client, err := circuitv2.New(h, u)
	if err != nil {
		return fmt.Errorf("circuits: %w", err)
	}
	c.Client, c.host, c.upgrader = client, h, u
	c.foreign = newForeign(h)
	if err := sw.AddTransport(c); err != nil {
		return fmt.Errorf("circuits: %w", err)
	}
	if err := sw.Listen(ma.StringCast("/p2p-circuit")); err != nil {
		return fmt.Errorf("circuits: %w", err)
	}
	client.Start()
	return nil
}

// Proxy tells the swarm not to filter circuit addresses out of a dial for
// another path; Dial does so itself.
func (c *circuits) Proxy() bool { return false }

// Dial opens a circuit to p. The swarm calls it for all of p's circuit
// addresses at once.
func (c *circuits) Dial(ctx context.Context, a ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	relay := relayOf(a)
	if relay == nil {
		return nil, fmt.Errorf("%s names no relay", a)
	}
	if direct, why := network.GetForceDirectDial(ctx); direct && (why != anotherPath || c.carries(relay.ID, p)) {
		return nil, c.notThisTime(p)
	}
	r, rank := c.enter(p, relay.ID)
	if rank < 0 {
		return nil, errSameRelay
	}
	release := c.foreign.use(relay.ID)
	conn, err := c.through(ctx, r, rank, *relay, a, p)
	release()
	c.leave(p, r, err)
	if err != nil && ctx.Err() == nil && !answered(err) {
		c.forget(p, relay.ID)
	}
	return conn, err
}

// notThisTime ends the part of a hole punch that is not for us. The swarm keeps
// one dial per peer, and an address that failed in it is not dialled again
// until all others have ended too, which takes 5 s with a NAT that does not
// give in; only the word "back-off" lets somebody who joins that dial use the
// address (v0.51, p2p/net/swarm/dial_worker.go, dispatchError). The back-off
// itself, which the swarm notes at that, is taken back.
func (c *circuits) notThisTime(p peer.ID) error {
	if sw, ok := c.host.Network().(*swarm.Swarm); ok {
		time.AfterFunc(noBackoffAfter, func() { sw.Backoff().Clear(p) })
	}
	return swarm.ErrDialBackoff
}

// noBackoffAfter is when the swarm has surely noted the back-off.
const noBackoffAfter = 5 * time.Millisecond

// through gets to the relay and opens a circuit over it.
func (c *circuits) through(ctx context.Context, r *race, rank int, relay peer.AddrInfo, a ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	if err := r.begin(ctx, rank); err != nil {
		return nil, err
	}
	if c.host.Network().Connectedness(relay.ID) == network.Connected {
		conn, err := c.overStanding(ctx, r, relay.ID, a, p)
		if err == nil || ctx.Err() != nil || c.host.Network().Connectedness(relay.ID) == network.Connected {
			return conn, err
		}
	}
	if err := c.get(ctx, relay, p); err != nil {
		return nil, fmt.Errorf("relay %s: %w", ShortID(relay.ID), err)
	}
	return c.open(ctx, r, relay.ID, a, p)
}

// overStanding uses a connection that may have been dead for long: it is
// pinged meanwhile, and closed if nothing comes back.
func (c *circuits) overStanding(ctx context.Context, r *race, relay peer.ID, a ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	ctx, cancel := context.WithCancel(ctx)
	var checking sync.WaitGroup
	defer checking.Wait()
	defer cancel()
	checking.Go(func() { closeStale(ctx, c.host, relay) })
	return c.open(ctx, r, relay, a, p)
}

// closeStale pings a relay and closes the connections to it that stood before
// if nothing comes back.
func closeStale(ctx context.Context, h host.Host, relay peer.ID) {
	standing := h.Network().ConnsToPeer(relay)
	if !isSilent(ctx, h, relay, max(staleAfter, 4*h.Peerstore().LatencyEWMA(relay))) {
		return
	}
	for _, conn := range standing {
		conn.Close()
	}
}

// get connects to a relay at any of the addresses that p names for it.
// Concurrent calls for one relay share one connection: the swarm sees to that.
func (c *circuits) get(ctx context.Context, relay peer.AddrInfo, p peer.ID) error {
	ctx, cancel := context.WithTimeout(ctx, getTimeout)
	defer cancel()
	book := c.host.Peerstore()
	book.AddAddrs(relay.ID, relay.Addrs, peerstore.TempAddrTTL)
	for _, a := range c.via(p, relay.ID) {
		book.AddAddrs(relay.ID, relayOf(a).Addrs, peerstore.TempAddrTTL)
	}
	begun := time.Now()
	conn, err := c.host.Network().DialPeer(network.WithForceDirectDial(ctx, "relay on the way"), relay.ID)
	if err != nil {
		return dialerr.Short(err)
	}
	if conn.Stat().Opened.Before(begun) {
		return nil // somebody else's
	}
	c.foreign.opened(relay.ID)
	if book.LatencyEWMA(relay.ID) == 0 && maddr.Transport(conn.RemoteMultiaddr()) == "quic" {
		book.RecordLatency(relay.ID, time.Since(begun)) // its handshake is one round trip
	}
	return nil
}

// open asks the relay for a circuit, when it is its turn, and makes it a
// connection.
func (c *circuits) open(ctx context.Context, r *race, relay peer.ID, a ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	if c.introduce != nil {
		c.introduce(ctx, relay)
	}
	if err := r.turn(ctx, holdFor(c.host, relay)); err != nil {
		return nil, err
	}
	defer r.landed()
	ctx, cancel := context.WithTimeout(ctx, circuitTimeout)
	defer cancel()
	hop := &hopHost{Host: c.host, attempt: ctx, alive: r.alive}
	client, err := circuitv2.New(hop, c.upgrader)
	if err != nil {
		return nil, err
	}
	conn, err := client.Dial(ctx, a, p)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("circuit through %s: %w", ShortID(relay), ctx.Err())
	case err != nil:
		return nil, fmt.Errorf("circuit through %s: %w", ShortID(relay), err)
	case !hop.keep():
		conn.Close()
		return nil, ctx.Err()
	}
	return conn, nil
}

// carries reports whether a relay has a circuit from us to p.
func (c *circuits) carries(relay, p peer.ID) bool {
	return slices.ContainsFunc(c.host.Network().ConnsToPeer(p), func(conn network.Conn) bool {
		return PathOf(conn).Relay == relay
	})
}

// via lists the circuit addresses of p that go through a relay.
func (c *circuits) via(p, relay peer.ID) []ma.Multiaddr {
	return ma.FilterAddrs(c.host.Peerstore().Addrs(p), func(a ma.Multiaddr) bool {
		info := relayOf(a)
		return info != nil && info.ID == relay
	})
}

// forget drops the addresses of p that go through a dead relay.
func (c *circuits) forget(p, relay peer.ID) {
	c.host.Peerstore().SetAddrs(p, c.via(p, relay), 0)
}

// answered reports whether err is a relay's refusal, so that its address is
// good still. A relay without a reservation is none to find the peer at. The
// client gives the status as text only (go-libp2p v0.51, client/dial.go).
func answered(err error) bool {
	text := err.Error()
	return strings.Contains(text, "error opening relay circuit:") && !strings.Contains(text, pbv2.Status_NO_RESERVATION.String())
}

// relayOf takes the relay out of a circuit address; nil if a is no such.
func relayOf(a ma.Multiaddr) *peer.AddrInfo {
	before, circuit := ma.SplitFunc(a, func(c ma.Component) bool { return c.Protocol().Code == ma.P_CIRCUIT })
	if circuit == nil {
		return nil
	}
	info, err := peer.AddrInfoFromP2pAddr(before)
	if err != nil {
		return nil
	}
	return info
}

// hopHost is the host as one attempt's circuit client has it: its only stream
// ends with the attempt, and tells when the relay shows life.
type hopHost struct {
	host.Host
	attempt context.Context
	alive   func()
	stream  *lazyStream
	stop    func() bool
}

// NewStream opens the hop stream on the connection that stands, and without
// waiting for identify: a relay that does not speak hop says so.
func (h *hopHost) NewStream(_ context.Context, relay peer.ID, protos ...protocol.ID) (network.Stream, error) {
	s, err := h.Network().NewStream(network.WithNoDial(h.attempt, "circuit"), relay)
	if err != nil {
		return nil, err
	}
	if h.stream, err = negotiateLazily(s, protos[0]); err != nil {
		return nil, err
	}
	alive := h.alive
	h.stream.onRead.Store(&alive)
	h.stop = context.AfterFunc(h.attempt, func() { s.Reset() })
	return h.stream, nil
}

// keep lets the stream outlive the attempt. It reports false if it is too late.
func (h *hopHost) keep() bool {
	h.stream.onRead.Store(nil)
	return h.stop()
}
