package main

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/relay"
	"github.com/causeway-p2p/causeway/testnet"
)

// side is who is measured.
type side string

const (
	stock side = "stock" // go-libp2p's node on go-libp2p's relays
	ours  side = "ours"  // our node on our relays
	mixed side = "mixed" // our node on go-libp2p's relays
)

func (s side) stockRelays() bool { return s != ours }
func (s side) stockNode() bool   { return s == stock }

const (
	// oneWay makes the round trip time 50 ms.
	oneWay = 25 * time.Millisecond
	port   = 4001
)

// world is a simulated internet in virtual time, in which one measurement
// takes place. The process ends with it, so nothing in it is closed unless the
// measurement asks for that.
type world struct {
	*testing.T
	side   side
	seed   uint64
	net    *testnet.Net
	keys   uint64
	boxes  int
	relays []*relayHost
	size   size
}

func newWorld(t *testing.T, s side, seed uint64) *world {
	return &world{T: t, side: s, seed: seed, net: testnet.New(testnet.Config{Latency: oneWay, Seed: seed})}
}

// key makes the next key; the same for the same seed and order.
func (w *world) key() crypto.PrivKey {
	w.Helper()
	w.keys++
	var seed [ed25519.SeedSize]byte
	binary.LittleEndian.PutUint64(seed[:], w.seed)
	binary.LittleEndian.PutUint64(seed[8:], w.keys)
	k, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed[:]))
	w.must(err, "key")
	return k
}

func (w *world) must(err error, what string) {
	w.Helper()
	if err != nil {
		w.Fatalf("%s: %v", what, err)
	}
}

func (w *world) public(name string) *testnet.Host {
	w.boxes++
	return w.net.Host(fmt.Sprint(name, w.boxes))
}

// behindNAT adds a machine behind a box of its own, of the kind that most homes
// have.
func (w *world) behindNAT() *subject {
	w.boxes++
	s := &subject{w: w, nat: w.net.NAT(fmt.Sprint("nat", w.boxes), testnet.PortRestricted())}
	s.box = s.nat.Host(fmt.Sprint("node", w.boxes))
	return s
}

// stockHost starts a host with the options that everybody shares. Resource
// limits are off on all sides: they are not what is compared.
func (w *world) stockHost(box *testnet.Host, key crypto.PrivKey, opts ...libp2p.Option) host.Host {
	w.Helper()
	h, err := libp2p.New(append([]libp2p.Option{
		libp2p.Identity(key),
		box.Transport(),
		libp2p.ListenAddrs(box.ListenAddr(port)),
		libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.DisableMetrics(),
	}, opts...)...)
	w.must(err, "libp2p host")
	return h
}

// ownNode starts one of ours.
func (w *world) ownNode(box *testnet.Host, cfg node.Config) *node.Node {
	w.Helper()
	cfg.Network = "bench"
	if cfg.Identity == nil {
		cfg.Identity = w.key()
	}
	cfg.Listen = []ma.Multiaddr{box.ListenAddr(port)}
	cfg.Transports = []libp2p.Option{box.Transport()}
	cfg.Libp2p = append(cfg.Libp2p, libp2p.ResourceManager(&network.NullResourceManager{}))
	n, err := node.New(cfg)
	w.must(err, "node")
	w.must(n.Start(w.Context()), "start node")
	return n
}

// limits are what a relay grants; zero is each side's own default.
type limits struct {
	ttl          time.Duration
	reservations int
	perIP        int // also per ASN
}

// relayHost is a relay on a machine of its own, stock or ours.
type relayHost struct {
	w      *world
	stock  bool
	box    *testnet.Host
	key    crypto.PrivKey
	boot   []peer.AddrInfo
	limits limits

	host    host.Host
	node    *node.Node     // nil if stock
	service *relayv2.Relay // nil if ours
	up      bool           // the process runs, on a machine with power
	deny    atomic.Bool    // stock only: refuse reservations
}

// relay starts a relay of the kind that the side asks for.
func (w *world) relay(l limits, boot ...peer.AddrInfo) *relayHost {
	w.Helper()
	r := &relayHost{w: w, stock: w.side.stockRelays(), box: w.public("relay"), key: w.key(), limits: l, boot: boot}
	r.start()
	w.relays = append(w.relays, r)
	return r
}

func (w *world) relaysOf(n int, l limits) []*relayHost {
	w.Helper()
	list := make([]*relayHost, n)
	for i := range list {
		list[i] = w.relay(l)
	}
	return list
}

// start starts the process, again after stop or crash with the same key and
// port.
func (r *relayHost) start() {
	r.w.Helper()
	if r.stock {
		// As many connections as one of ours keeps.
		cm, err := connmgr.NewConnManager(4096, 6144)
		r.w.must(err, "connection manager")
		r.host = r.w.stockHost(r.box, r.key, libp2p.ForceReachabilityPublic(), libp2p.ConnectionManager(cm),
			// Else every relay measures its own way to the world first.
			libp2p.UDPBlackHoleSuccessCounter(nil), libp2p.IPv6BlackHoleSuccessCounter(nil))
		r.serve()
	} else {
		r.node = r.w.ownNode(r.box, node.Config{
			Identity: r.key, Relay: relay.On, Server: true, Relays: -1, Bootstrap: r.boot,
			RelayLimits: relay.Limits{
				ReservationTTL: r.limits.ttl, Reservations: r.limits.reservations,
				ReservationsPerIP: r.limits.perIP, ReservationsPerASN: r.limits.perIP,
			},
		})
		r.host = r.node.Host()
		for !r.serving() {
			time.Sleep(time.Millisecond)
		}
	}
	r.up = true
}

// serve starts go-libp2p's relay service, the one that EnableRelayService
// starts; it is held here so that it can be stopped alone.
func (r *relayHost) serve() {
	rc := relayv2.DefaultResources()
	if r.limits.ttl > 0 {
		rc.ReservationTTL = r.limits.ttl
	}
	if r.limits.reservations > 0 {
		rc.MaxReservations = r.limits.reservations
	}
	if r.limits.perIP > 0 {
		rc.MaxReservationsPerIP, rc.MaxReservationsPerASN = r.limits.perIP, r.limits.perIP
	}
	var err error
	r.service, err = relayv2.New(r.host, relayv2.WithResources(rc), relayv2.WithACL(r))
	r.w.must(err, "relay service")
}

// AllowReserve and AllowConnect make it a relay.ACLFilter.
func (r *relayHost) AllowReserve(peer.ID, ma.Multiaddr) bool { return !r.deny.Load() }

func (r *relayHost) AllowConnect(peer.ID, ma.Multiaddr, peer.ID) bool { return true }

// stop ends the process in good order: its peers are told.
func (r *relayHost) stop() {
	r.up = false
	if r.node != nil {
		r.node.Close()
		r.node = nil
		return
	}
	r.service.Close()
	r.host.Close()
}

// crash ends the process so that nobody is told.
func (r *relayHost) crash() {
	r.leave()
	r.box.Revive()
}

// leave ends the process without a word, and the machine with it; comeBack
// undoes it.
func (r *relayHost) leave() {
	r.box.Kill()
	r.stop()
}

func (r *relayHost) comeBack() {
	r.box.Revive()
	r.start()
}

// vanish takes the machine off the network; the process does not notice.
func (r *relayHost) vanish() {
	r.up = false
	r.box.Kill()
}

// withdraw removes the hop protocol and nothing else.
func (r *relayHost) withdraw() { r.host.RemoveStreamHandler(proto.ProtoIDv2Hop) }

// drain is what an operator does before a restart. Stock relays have nothing
// of the kind but stopping the service.
func (r *relayHost) drain() {
	if r.stock {
		r.withdraw()
		return
	}
	r.node.Drain(drainFor) // returns when its peers know
}

// drainFor is how long a relay drains before it restarts.
const drainFor = 30 * time.Second

func (r *relayHost) serving() bool {
	return slices.Contains(r.host.Mux().Protocols(), proto.ProtoIDv2Hop)
}

// holds reports whether the relay has a reservation for p and the connection
// that it needs. Relays mark those who reserved in the connection manager.
func (r *relayHost) holds(p peer.ID) bool {
	if !r.up || r.host.Network().Connectedness(p) != network.Connected {
		return false
	}
	info := r.host.ConnManager().GetTagInfo(p)
	return info != nil && info.Tags[reservationTag] > 0
}

// reservationTag is set by go-libp2p v0.51, p2p/protocol/circuitv2/relay.
const reservationTag = "relay-reservation"

func (r *relayHost) id() peer.ID { return r.host.ID() }

func (r *relayHost) info() peer.AddrInfo {
	return peer.AddrInfo{ID: r.host.ID(), Addrs: []ma.Multiaddr{r.box.ListenAddr(port)}}
}

func infos(relays []*relayHost) []peer.AddrInfo {
	list := make([]peer.AddrInfo, len(relays))
	for i, r := range relays {
		list[i] = r.info()
	}
	return list
}

// subject is the private node that is measured.
type subject struct {
	w    *world
	host host.Host
	node *node.Node // nil if stock
	nat  *testnet.NAT
	box  *testnet.Host
}

// private starts a node behind a NAT that knows some relays. A stock node gets
// them from a peer source with all options at their defaults, and is told that
// it is private; ours finds that out by itself.
func (w *world) private(relays []*relayHost) *subject {
	w.Helper()
	s := w.behindNAT()
	known := infos(relays)
	if w.side.stockNode() {
		s.host = w.stockHost(s.box, w.key(), libp2p.ForceReachabilityPrivate(),
			libp2p.EnableAutoRelayWithPeerSource(sourceOf(known)))
	} else {
		s.node = w.ownNode(s.box, node.Config{StaticRelays: known, NoHolePunching: true})
		s.host = s.node.Host()
	}
	return s
}

// privateStatic is private for fewer than 4 relays: in its first 3 minutes a
// stock node takes none from a peer source that has no more than that.
func (w *world) privateStatic(relays []*relayHost) *subject {
	w.Helper()
	if !w.side.stockNode() {
		return w.private(relays)
	}
	s := w.behindNAT()
	s.host = w.stockHost(s.box, w.key(), libp2p.ForceReachabilityPrivate(),
		libp2p.EnableAutoRelayWithStaticRelays(infos(relays)))
	return s
}

// sourceOf is a peer source that always names the same relays.
func sourceOf(known []peer.AddrInfo) func(context.Context, int) <-chan peer.AddrInfo {
	return func(_ context.Context, most int) <-chan peer.AddrInfo {
		ch := make(chan peer.AddrInfo, len(known))
		for _, p := range known[:min(most, len(known))] {
			ch <- p
		}
		close(ch)
		return ch
	}
}

// circuits are the circuit addresses that the node advertises, by relay.
func (s *subject) circuits() map[peer.ID][]ma.Multiaddr { return circuitsOf(s.host.Addrs()) }

func circuitsOf(addrs []ma.Multiaddr) map[peer.ID][]ma.Multiaddr {
	out := make(map[peer.ID][]ma.Multiaddr)
	for _, a := range addrs {
		before, circuit := ma.SplitFunc(a, func(c ma.Component) bool { return c.Protocol().Code == ma.P_CIRCUIT })
		if circuit == nil {
			continue
		}
		if info, err := peer.AddrInfoFromP2pAddr(before); err == nil {
			out[info.ID] = append(out[info.ID], a)
		}
	}
	return out
}

// any reports whether the node advertises a circuit address at all.
func (s *subject) any() bool { return len(s.circuits()) > 0 }

// through reports whether it advertises one through r.
func (s *subject) through(r *relayHost) bool { return len(s.circuits()[r.id()]) > 0 }

// live counts the relays through which it advertises an address that works:
// the relay serves and holds its reservation.
func (s *subject) live() (n int) {
	c := s.circuits()
	for _, r := range s.w.relays {
		if len(c[r.id()]) > 0 && r.holds(s.host.ID()) && r.serving() {
			n++
		}
	}
	return n
}

// used lists the relays through which it advertises a working address.
func (s *subject) used() (list []*relayHost) {
	c := s.circuits()
	for _, r := range s.w.relays {
		if len(c[r.id()]) > 0 && r.holds(s.host.ID()) {
			list = append(list, r)
		}
	}
	return list
}

// settle waits until the node uses n relays, and then until the dust has
// settled.
func (s *subject) settle(n int) {
	s.w.Helper()
	if took, ok := until(10*time.Minute, func() bool { return s.live() >= n }); !ok {
		c := s.circuits()
		s.w.Fatalf("the node should advertise addresses through %d relays before anything happens; after %v it has %d that work of %d advertised",
			n, took, s.live(), len(c))
	}
	time.Sleep(dust)
}

// dust is how long nothing happens before the event that is measured.
const dust = 90 * time.Second
