//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	corenet "github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/bench/child"
	"github.com/causeway-p2p/causeway/internal/maddr"
	"github.com/causeway-p2p/causeway/node"
)

const (
	// patience is how long anything may take that is not measured.
	patience = 30 * time.Second
	// giveUp is how long a direct path may take. Stock gives up after 16 s,
	// or 21 where TCP has to time out.
	giveUp = 25 * time.Second
	// grace is how long both nodes are left alone once all that can be asked
	// for is there: for what observers said to be believed.
	grace = time.Second
	// memberPort is the port of all nodes but one.
	memberPort = 40001
)

// member is one of the two nodes that a trial is about.
type member struct {
	spec nodeSpec
	host host.Host
	node *node.Node // nil if stock
	key  crypto.PrivKey
	gate gate
	log  *judgement
}

func (m *member) actions() child.Actions {
	return child.Actions{
		"start":    child.Action(m.start),
		"settle":   child.Action(m.settle),
		"meet":     child.Action(m.meet),
		"call":     child.Action(m.call),
		"attempts": child.Action(m.attempts),
		"verdict":  child.Action(m.verdict),
	}
}

// start makes the node.
func (m *member) start(ctx context.Context, spec nodeSpec) (_ child.None, err error) {
	m.spec, m.gate.other, m.gate.strangers = spec, spec.Other, spec.Strangers
	if m.key, err = crypto.UnmarshalPrivateKey(spec.Key); err != nil {
		return child.None{}, err
	}
	// Two machines on one LAN need ports of their own.
	port := memberPort
	if spec.Relayed {
		port++
	}
	switch spec.Impl {
	case stock:
		err = m.startStock(listen(spec.Transport, port))
	case ours:
		err = m.startOurs(ctx, listen(spec.Transport, port))
	}
	return child.None{}, err
}

func (m *member) startStock(addrs []string) (err error) {
	opts := append(stockTransports(m.spec.Transport),
		libp2p.ListenAddrStrings(addrs...),
		libp2p.Identity(m.key),
		libp2p.ConnectionGater(&m.gate),
		libp2p.EnableRelay(),
		libp2p.EnableHolePunching(),
		libp2p.UDPBlackHoleSuccessCounter(nil),
		libp2p.IPv6BlackHoleSuccessCounter(nil),
		libp2p.DisableMetrics(),
	)
	switch {
	case m.spec.Judge:
		opts = append(opts, libp2p.EnableAutoNATv2())
	case m.spec.Relayed:
		opts = append(opts, libp2p.ForceReachabilityPrivate(),
			libp2p.EnableAutoRelayWithStaticRelays(m.spec.Servers[:1]))
	}
	begun := time.Now()
	if m.host, err = libp2p.New(opts...); err != nil || !m.spec.Judge {
		return err
	}
	m.log, err = judgeStock(m.host, begun)
	return err
}

func (m *member) startOurs(ctx context.Context, addrs []string) (err error) {
	m.node, err = node.New(node.Config{
		Identity: m.key, Network: networkName, Bootstrap: m.spec.Servers, Listen: multiaddrs(addrs),
		Libp2p: []libp2p.Option{libp2p.ConnectionGater(&m.gate)},
	})
	if err != nil {
		return err
	}
	if m.spec.Judge {
		m.log = judgeOurs(m.node, time.Now())
	}
	if err := m.node.Start(ctx); err != nil {
		return err
	}
	m.host = m.node.Host()
	return nil
}

// settle waits until the node is ready to be called, or to call: all servers
// have told it how they see it, it takes part in hole punching if it ever will,
// and, if it is the relayed one, it holds a reservation. It returns the circuit
// addresses.
func (m *member) settle(ctx context.Context, _ child.None) ([]ma.Multiaddr, error) {
	if err := m.meetServers(ctx); err != nil {
		return nil, err
	}
	var circuits []ma.Multiaddr
	if m.spec.Relayed {
		var err error
		if circuits, err = m.reserve(ctx); err != nil {
			return nil, err
		}
	}
	// A node that nobody told a public address takes no part; that is a result.
	limited, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	_ = poll(limited, "hole punching", func() bool {
		return slices.Contains(m.host.Mux().Protocols(), holepunch.Protocol)
	})
	select {
	case <-time.After(grace):
	case <-ctx.Done():
	}
	return circuits, ctx.Err()
}

// meetServers connects to all servers, with identify done both ways.
func (m *member) meetServers(ctx context.Context) error {
	for _, s := range m.spec.Servers {
		ctx, cancel := context.WithTimeout(ctx, patience)
		err := m.host.Connect(ctx, s)
		cancel()
		if err != nil {
			return fmt.Errorf("connect to a server: %w", err)
		}
	}
	return poll(ctx, "identify with all servers", func() bool {
		return !slices.ContainsFunc(m.spec.Servers, func(s peer.AddrInfo) bool {
			p, err := m.host.Peerstore().GetProtocols(s.ID)
			return err != nil || len(p) == 0
		})
	})
}

// reserve waits for the reservation with the first server. A node of ours that
// can be dialled by everybody wants none: it is made to hold one, as stock is
// told that it is private.
func (m *member) reserve(ctx context.Context) ([]ma.Multiaddr, error) {
	relay := m.spec.Servers[0]
	if m.spec.Impl == ours {
		if _, err := client.Reserve(ctx, m.host, relay); err != nil {
			return nil, fmt.Errorf("reserve: %w", err)
		}
	} else if err := poll(ctx, "a circuit address", func() bool {
		return slices.ContainsFunc(m.host.Addrs(), maddr.IsCircuit)
	}); err != nil {
		return nil, err
	}
	var list []ma.Multiaddr
	for _, a := range relay.Addrs {
		list = append(list, a.Encapsulate(ma.StringCast("/p2p/"+relay.ID.String()+"/p2p-circuit")))
	}
	return list, nil
}

// meet makes the node ready to meet the other, of whom it knows nothing yet.
func (m *member) meet(context.Context, child.None) (child.None, error) {
	m.host.Peerstore().ClearAddrs(m.gate.other)
	m.gate.open.Store(true)
	return child.None{}, nil
}

// outcome is what became of a call.
type outcome struct {
	Direct  bool    `json:"direct"`
	Seconds float64 `json:"seconds,omitempty"` // from relayed to direct
	Path    string  `json:"path,omitempty"`    // the other's direct address
	Err     string  `json:"err,omitempty"`
}

// call opens a connection through the relay and waits for a direct one on which
// a ping comes back.
func (m *member) call(ctx context.Context, circuits []ma.Multiaddr) (outcome, error) {
	callee := m.gate.other
	arrivals := make(chan arrival, 32)
	m.host.Network().Notify(&corenet.NotifyBundle{ConnectedF: func(_ corenet.Network, conn corenet.Conn) {
		if conn.RemotePeer() == callee {
			select {
			case arrivals <- arrival{conn, time.Now()}:
			default: // more than anybody would look at
			}
		}
	}})
	dialing, cancel := context.WithTimeout(corenet.WithAllowLimitedConn(ctx, "bench"), patience)
	defer cancel()
	if err := m.host.Connect(dialing, peer.AddrInfo{ID: callee, Addrs: circuits}); err != nil {
		return outcome{}, fmt.Errorf("call through the relay: %w", err)
	}
	waiting, cancel := context.WithTimeout(ctx, giveUp)
	defer cancel()
	var relayed time.Time
	result := outcome{Err: "no direct connection in " + giveUp.String()}
	for {
		select {
		case a := <-arrivals:
			if maddr.IsCircuit(a.conn.RemoteMultiaddr()) {
				if relayed.IsZero() {
					relayed = a.at
				}
				continue
			}
			if relayed.IsZero() {
				relayed = a.at
			}
			if err := m.works(waiting, callee); err != nil {
				result.Err = fmt.Sprintf("a direct connection (%s) did not work: %v", a.conn.RemoteMultiaddr(), err)
				continue
			}
			return outcome{Direct: true, Seconds: a.at.Sub(relayed).Seconds(), Path: a.conn.RemoteMultiaddr().String()}, nil
		case <-waiting.Done():
			return result, ctx.Err()
		}
	}
}

// arrival is a new connection.
type arrival struct {
	conn corenet.Conn
	at   time.Time
}

// works pings over a direct connection: a stream over a relayed one is refused
// without leave.
func (m *member) works(ctx context.Context, p peer.ID) error {
	ctx, cancel := context.WithTimeout(corenet.WithNoDial(ctx, "bench"), 5*time.Second)
	defer cancel()
	select {
	case r, ok := <-ping.Ping(ctx, m.host, p):
		if !ok {
			return errors.New("no answer")
		}
		return r.Error
	case <-ctx.Done():
		return ctx.Err()
	}
}

// attempts is what became of each attempt at a direct path to the other. Stock
// nodes do not tell.
func (m *member) attempts(ctx context.Context, _ child.None) (list []string, err error) {
	if m.node == nil {
		return nil, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	events := m.node.History(ctx)
	cancel() // closes the channel behind what is in it
	for e := range events {
		if e, ok := e.(node.DirectAttempt); ok && e.Peer == m.gate.other {
			list = append(list, fmt.Sprintf("%s: %s to %s, %d ms: %s", m.side(), e.Ours, e.Theirs, e.Took.Milliseconds(), e))
		}
	}
	return list, nil
}

func (m *member) side() string {
	if m.spec.Relayed {
		return "relayed"
	}
	return "caller"
}

func multiaddrs(list []string) []ma.Multiaddr {
	var addrs []ma.Multiaddr
	for _, s := range list {
		addrs = append(addrs, ma.StringCast(s))
	}
	return addrs
}
