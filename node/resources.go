package node

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/libp2p/go-libp2p/x/rate"

	"github.com/causeway-p2p/causeway/relay"
)

const (
	// connMemory is what a connection with a reservation takes in libp2p's
	// books: QUIC reserves its window, yamux the window of a stream or two.
	connMemory = 1 << 20
	// circuitMemory is the same for a circuit that runs: two large buffers, and
	// windows beyond the first.
	circuitMemory = 1 << 20
	// sparePlaces are for connections and streams that are not of the relay:
	// the DHT, AutoNAT, identify.
	sparePlaces = 512
	// connRate is how many new connections a second an address may open beyond
	// a first burst. libp2p's 0.2 would keep an office out for minutes after
	// the relay was restarted.
	connRate = 5
)

// withResources gives a host the resource manager that make makes, unless it has
// one by an option before this.
func withResources(make func() (network.ResourceManager, error)) libp2p.Option {
	return func(c *libp2p.Config) error {
		if c.ResourceManager != nil {
			return nil
		}
		rm, err := make()
		if err != nil {
			return fmt.Errorf("resource manager: %w", err)
		}
		return c.Apply(libp2p.ResourceManager(rm))
	}
}

func relayResources(l relay.Limits) libp2p.Option {
	return withResources(func() (network.ResourceManager, error) { return resources(l) })
}

// peerResources are libp2p's, but for the pings.
func peerResources() libp2p.Option {
	return withResources(func() (network.ResourceManager, error) {
		scaling := defaultLimits()
		return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(scaling.AutoScale()))
	})
}

// pingsPerPeer is how many pings one peer may have under way with us, either
// way. libp2p takes 2 and resets others (v0.51, limits.go): as many are under way
// when a path is being changed, besides those that somebody asked for.
const pingsPerPeer = 16

// defaultLimits are libp2p's, and more pings.
func defaultLimits() rcmgr.ScalingLimitConfig {
	scaling := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&scaling)
	pings := rcmgr.BaseLimit{
		Streams: 2 * pingsPerPeer, StreamsInbound: pingsPerPeer, StreamsOutbound: pingsPerPeer,
		Memory: 2 * pingsPerPeer * (256<<10 + 16<<10), // a yamux window and a buffer each
	}
	scaling.AddServicePeerLimit(ping.ServiceName, pings, rcmgr.BaseLimitIncrease{})
	scaling.AddProtocolPeerLimit(ping.ID, pings, rcmgr.BaseLimitIncrease{})
	return scaling
}

// resources is libp2p's resource manager, with limits under which a relay can
// keep what its own limits promise. libp2p's (limits.go, and p2p/host/
// resource-manager/limit_defaults.go, v0.51) grow with the machine's memory
// alone: with 1 GB they end at 72 incoming connections, and at 8 from one
// address whatever the machine.
func resources(l relay.Limits) (network.ResourceManager, error) {
	l = l.WithDefaults()
	scaling := defaultLimits()
	auto := scaling.AutoScale()
	limits := auto.ToPartialLimitConfig()

	conns := l.Reservations + l.Circuits + sparePlaces // each circuit may have a caller of its own
	streams := 2*l.Circuits + 2*conns
	memory := int64(l.Reservations)*connMemory + int64(l.Circuits)*circuitMemory
	if most := relay.MemoryLimit() / 2; most > 0 {
		memory = min(memory, most) // windows grow less, and strangers cannot fill the machine
	}
	atLeast(&limits.System, conns, streams, memory)
	limits.System.FD = max(limits.System.FD, rcmgr.LimitVal(conns))
	// Connections and streams are transient while they are set up; after a
	// restart everybody comes at once.
	atLeast(&limits.Transient, conns/4, conns/4, int64(conns/4)*connMemory/8)

	// A hop stream comes in, a stop stream goes out.
	service := limits.Service[relayv2.ServiceName]
	atLeast(&service, 0, 2*l.Circuits+sparePlaces, memory)
	limits.Service[relayv2.ServiceName] = service
	perPeer := perPeerCircuits(l)
	one := limits.ServicePeer[relayv2.ServiceName]
	atLeast(&one, 0, 2*perPeer, int64(perPeer)*circuitMemory)
	limits.ServicePeer[relayv2.ServiceName] = one
	for _, id := range []protocol.ID{proto.ProtoIDv2Hop, proto.ProtoIDv2Stop} {
		all, peer := limits.Protocol[id], limits.ProtocolPeer[id]
		atLeast(&all, 0, l.Circuits+sparePlaces, memory)
		atLeast(&peer, 0, 2*perPeer, int64(perPeer)*circuitMemory)
		limits.Protocol[id], limits.ProtocolPeer[id] = all, peer
	}
	atLeast(&limits.PeerDefault, 0, 4*perPeer, int64(perPeer)*2*circuitMemory)

	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits.Build(auto)), rcmgr.WithLimitPerSubnet(
		// Twice the reservations: who comes back is here before the old
		// connection is seen to be gone.
		[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: 2 * l.ReservationsPerIP}, {PrefixLength: 24, ConnCount: 2 * l.ReservationsPerSubnet}},
		[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 64, ConnCount: 2 * l.ReservationsPerIP}, {PrefixLength: 48, ConnCount: 2 * l.ReservationsPerSubnet}},
	), rcmgr.WithConnRateLimiters(&rate.Limiter{
		NetworkPrefixLimits: []rate.PrefixLimit{
			{Prefix: netip.MustParsePrefix("127.0.0.0/8")}, {Prefix: netip.MustParsePrefix("::1/128")},
		},
		SubnetRateLimiter: rate.SubnetLimiter{
			IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: rate.Limit{RPS: connRate, Burst: 2 * l.ReservationsPerIP}}},
			IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 64, Limit: rate.Limit{RPS: connRate, Burst: 2 * l.ReservationsPerIP}}},
			GracePeriod:      time.Minute, // as libp2p's
		},
	}))
}

// perPeerCircuits is the most that any class may have.
func perPeerCircuits(l relay.Limits) int {
	most := l.CircuitsPerPeer
	for _, c := range l.Classes {
		if c.CircuitsPerPeer == 0 {
			return l.Circuits
		}
		most = max(most, c.CircuitsPerPeer)
	}
	return most
}

func atLeast(r *rcmgr.ResourceLimits, conns, streams int, memory int64) {
	for _, v := range []*rcmgr.LimitVal{&r.Conns, &r.ConnsInbound, &r.ConnsOutbound} {
		*v = max(*v, rcmgr.LimitVal(conns))
	}
	for _, v := range []*rcmgr.LimitVal{&r.Streams, &r.StreamsInbound, &r.StreamsOutbound} {
		*v = max(*v, rcmgr.LimitVal(streams))
	}
	r.Memory = max(r.Memory, rcmgr.LimitVal64(memory))
}
