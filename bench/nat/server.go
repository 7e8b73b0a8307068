//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	libp2ptcp "github.com/libp2p/go-libp2p/p2p/transport/tcp"

	"github.com/causeway-p2p/causeway/bench/child"
	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/reachability"
	"github.com/causeway-p2p/causeway/relay"
)

// An impl is whose nodes, public and private, take part in a trial.
type impl string

const (
	stock impl = "stock"
	ours  impl = "ours"
	// Of one pair, one node each: first the one that is relayed, then the one
	// that calls it. The public machines are ours.
	oursStock impl = "ours-stock"
	stockOurs impl = "stock-ours"
)

func (i impl) mixed() bool { return i == oursStock || i == stockOurs }

// sides are what the two nodes of a pair are.
func (i impl) sides() (relayed, caller impl) {
	switch i {
	case oursStock:
		return ours, stock
	case stockOurs:
		return stock, ours
	}
	return i, i
}

// servers are what the public machines are.
func (i impl) servers() impl {
	if i.mixed() {
		return ours
	}
	return i
}

// nodeSpec is what a node is to be.
type nodeSpec struct {
	Impl      impl
	Transport string // quic, tcp or both
	// Servers are those that are up already.
	Servers []peer.AddrInfo
	// Key is the node's identity, and Other the node it must not meet before
	// the call; for members only.
	Key   []byte  `json:",omitempty"`
	Other peer.ID `json:",omitempty"`
	// Strangers are those that a member is never to dial.
	Strangers []peer.ID
	// Relayed: the node holds a reservation with the first server.
	Relayed bool
	// Judge: the node finds out by itself what it is. Otherwise stock is told,
	// so that it need not wait.
	Judge bool
}

// network is the name of our private one.
const networkName = "nat"

// listen are the addresses of a node. Only IPv4: the NATs have no other.
func listen(transport string, port int) []string {
	var list []string
	if transport != tcp {
		list = append(list, fmt.Sprintf("/ip4/0.0.0.0/udp/%d/quic-v1", port))
	}
	if transport != quic {
		list = append(list, fmt.Sprintf("/ip4/0.0.0.0/tcp/%d", port))
	}
	return list
}

const (
	serverPort = 4001
	// relaxedPort is open even where hardly anything is.
	relaxedPort = 443
)

func serverListen(transport string) []string {
	list := listen(transport, serverPort)
	if transport != quic {
		list = append(list, fmt.Sprintf("/ip4/0.0.0.0/tcp/%d", relaxedPort))
	}
	return list
}

// stockTransports are those that a node listens on, so that it dials by no
// other.
func stockTransports(transport string) []libp2p.Option {
	var list []libp2p.Option
	if transport != tcp {
		list = append(list, libp2p.Transport(libp2pquic.NewTransport))
	}
	if transport != quic {
		list = append(list, libp2p.Transport(libp2ptcp.NewTCPTransport))
	}
	return list
}

// server is a public machine: relay, observer, and one who dials back.
type server struct {
	host host.Host
	node *node.Node // nil if stock
}

func (s *server) actions() child.Actions {
	return child.Actions{"start": child.Action(s.start), "settle": child.Action(s.settle)}
}

// start returns when the server serves.
func (s *server) start(ctx context.Context, spec nodeSpec) (peer.AddrInfo, error) {
	var err error
	switch spec.Impl {
	case stock:
		s.host, err = libp2p.New(append(stockTransports(spec.Transport),
			libp2p.ListenAddrStrings(serverListen(spec.Transport)...),
			libp2p.EnableRelayService(),
			libp2p.ForceReachabilityPublic(),
			libp2p.EnableNATService(),
			libp2p.EnableAutoNATv2(),
			// As ours: with the detectors on, no UDP address is ever verified
			// in a network as small as this.
			libp2p.UDPBlackHoleSuccessCounter(nil),
			libp2p.IPv6BlackHoleSuccessCounter(nil),
			libp2p.DisableMetrics(),
		)...)
	case ours:
		var addrs []string
		n, fault := node.New(node.Config{
			Network: networkName, Bootstrap: spec.Servers, Server: true, Relay: relay.On, Relays: -1,
			NoHolePunching: true, // as relayd
			Listen:         multiaddrs(append(addrs, serverListen(spec.Transport)...)),
		})
		if err = fault; err == nil {
			if err = n.Start(ctx); err == nil {
				s.node, s.host = n, n.Host()
			}
		}
	}
	if err != nil {
		return peer.AddrInfo{}, err
	}
	err = poll(ctx, "the relay to serve", func() bool {
		return slices.Contains(s.host.Mux().Protocols(), protocol.ID(proto.ProtoIDv2Hop))
	})
	return peer.AddrInfo{ID: s.host.ID(), Addrs: s.host.Addrs()}, err
}

// settle waits until a server of ours is sure that it is public: a network's
// servers are older than those who come to it. It tells how long that took.
func (s *server) settle(ctx context.Context, _ child.None) (seconds float64, err error) {
	begun := time.Now()
	if s.node != nil {
		err = poll(ctx, "the server to be sure that it is public", func() bool {
			v := s.node.Status().Reachability
			return v.Reachability == reachability.Public && v.Proven
		})
	}
	return time.Since(begun).Seconds(), err
}

// poll waits for what has no event.
func poll(ctx context.Context, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waited %s for %s", patience, what)
		}
	}
	return nil
}
