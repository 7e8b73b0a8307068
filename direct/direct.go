// Package direct turns relayed connections into direct ones.
//
// When a peer comes to us through a relay, the two of us agree over that very
// connection on a moment at which both dial the other's addresses, so that the
// packets of each pass the other's NAT (DCUtR,
// https://github.com/libp2p/specs/blob/master/relay/DCUtR.md):
//
//	relayed connection ─▶ record ─▶ attempt ─┬─ dial their public addresses   dial.go
//	                        ▲                ├─ hole punch, QUIC and TCP      dcutr.go, attempt.go
//	                        │                ├─ addresses on our own network  lan.go
//	    after 1, 5, 15 min, │                └─ guess ports                   guess.go
//	    when something has  │                        │
//	    changed ◀───────────┴── outcome ◀────────────┘──▶ direct connection
//
// All ways are tried at once, and the first that leads there counts. The relayed
// connection is left alone meanwhile, and closed when a direct one has stood for
// a while and nothing runs over it any more (letgo.go).
//
// Stock peers take part: what two nodes of this project tell each other beyond
// the spec are fields that others skip (docs/protocols/dcutr.md).
//
// What it does not do: find peers, or keep the direct connection alive.
package direct

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/causeway-p2p/causeway/internal/logging"
	"github.com/causeway-p2p/causeway/internal/maddr"
)

var log = logging.For("direct")

// Config is what an Upgrader needs to know. Host, Door and Addrs are required.
type Config struct {
	Host host.Host
	// Door is where connections that were made here enter the swarm.
	Door *Door
	// Addrs are the public addresses at which others see our listening
	// sockets, the likeliest first.
	Addrs func() []ma.Multiaddr
	// NAT is what is known of ours. If nil, nothing.
	NAT func() NAT
	// Sockets is the machine beneath the host. If nil, ports are not guessed,
	// and peers on our own network are not looked for.
	Sockets Sockets
	// Carrier are addresses at which our router lets others in on the network of
	// a carrier, whose NAT is behind it (100.64.0.0/10). If nil, there are none.
	Carrier func() []ma.Multiaddr
	// OnDial is called with every IP address that packets are sent to, before
	// they are. It must not block, and may be called concurrently.
	OnDial func(netip.Addr)
	// Arrived asks the peer whether all has arrived that was sent over a
	// connection, and reports whether it has. It is called concurrently, and may
	// take seconds. If nil, it is not asked.
	Arrived func(context.Context, network.Conn) bool
	// OnEvent is called with every outcome, from one goroutine. It must not
	// block.
	OnEvent func(Event)
	// Registerer receives the metrics. If nil, there are none.
	Registerer prometheus.Registerer
}

// Upgrader makes direct connections. Create it with New and start it with Run.
type Upgrader struct {
	// static after New
	cfg     Config
	host    host.Host
	swarm   dialler
	meter   *meter
	rates   *rates
	touched chan peer.ID
	changed chan struct{}
	results chan result
	answers chan struct{} // one slot for each attempt that others began

	// owned by Run
	running int // our own attempts
	work    sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	closed  bool
	waiting map[peer.ID][]chan struct{} // for a direct connection
	status  map[peer.ID]PeerStatus
}

// dialler is what go-libp2p's swarm offers beyond network.Network.
type dialler interface {
	network.Network
	TransportForDialing(ma.Multiaddr) transport.Transport
}

const (
	// maxTouched bounds the connection changes that wait to be looked at; what
	// is lost beyond is found by the next sweep.
	maxTouched = 1024
	// maxAnswers bounds the attempts of others that are under way at once.
	maxAnswers = 64
)

// New returns an upgrader for the host.
func New(cfg Config) (*Upgrader, error) {
	if cfg.Host == nil || cfg.Door == nil || cfg.Addrs == nil {
		return nil, errors.New("direct: Host, Door and Addrs are required")
	}
	sw, ok := cfg.Host.Network().(dialler)
	if !ok {
		return nil, fmt.Errorf("direct: %T does not tell its transports", cfg.Host.Network())
	}
	if cfg.NAT == nil {
		cfg.NAT = func() NAT { return NAT{} }
	}
	if cfg.Carrier == nil {
		cfg.Carrier = func() []ma.Multiaddr { return nil }
	}
	if cfg.OnDial == nil {
		cfg.OnDial = func(netip.Addr) {}
	}
	if cfg.Arrived == nil {
		cfg.Arrived = func(context.Context, network.Conn) bool { return true }
	}
	if cfg.OnEvent == nil {
		cfg.OnEvent = func(Event) {}
	}
	m, err := newMeter(cfg.Registerer)
	if err != nil {
		return nil, err
	}
	return &Upgrader{
		cfg: cfg, host: cfg.Host, swarm: sw, meter: m, rates: newRates(),
		touched: make(chan peer.ID, maxTouched),
		changed: make(chan struct{}, 1),
		results: make(chan result),
		answers: make(chan struct{}, maxAnswers),
		waiting: make(map[peer.ID][]chan struct{}),
		status:  make(map[peer.ID]PeerStatus),
	}, nil
}

// Changed tells that something may be different that attempts depend on: the
// network, our addresses, what our NAT does. If it is, peers that could not be
// reached directly are tried again.
func (u *Upgrader) Changed() {
	select {
	case u.changed <- struct{}{}:
	default: // it was told a moment ago
	}
}

// Run upgrades connections until ctx ends, and waits for what it started.
func (u *Upgrader) Run(ctx context.Context) error {
	bundle := &network.NotifyBundle{
		ConnectedF: func(_ network.Network, c network.Conn) {
			if !Relayed(c) {
				u.arrived(c.RemotePeer())
			}
			u.touch(c.RemotePeer())
		},
		DisconnectedF: func(_ network.Network, c network.Conn) { u.touch(c.RemotePeer()) },
	}
	u.host.Network().Notify(bundle)
	defer u.host.Network().StopNotify(bundle)
	ctx, cancel := context.WithCancel(ctx)
	u.host.SetStreamHandler(Protocol, func(s network.Stream) { u.answerStream(ctx, s) })
	defer u.stop()
	defer cancel()

	records := make(map[peer.ID]*record)
	was := u.standpoint()
	for _, p := range u.host.Network().Peers() {
		u.look(ctx, records, p)
	}
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	due := time.NewTimer(time.Hour)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-u.touched:
			u.look(ctx, records, p)
		case r := <-u.results:
			u.record(records, r)
			u.look(ctx, records, r.peer)
		case <-u.changed:
			if at := u.standpoint(); at != was {
				was = at
				for _, rec := range records {
					rec.soon(time.Now())
				}
			}
		case <-sweep.C:
			for _, p := range u.host.Network().Peers() {
				u.look(ctx, records, p)
			}
			for p := range records {
				u.look(ctx, records, p) // a disconnection may have been missed
			}
			u.forgetGone()
			u.letGo(ctx, records)
			u.Changed() // our addresses change without a word
		case <-due.C:
		}
		due.Reset(u.startDue(ctx, records))
	}
}

// standpoint is what attempts depend on at our side.
func (u *Upgrader) standpoint() string {
	nat := u.cfg.NAT()
	var on []string
	for _, p := range u.networks() {
		on = append(on, p.String())
	}
	for _, a := range u.carrierAddrs() {
		on = append(on, a.String())
	}
	for _, a := range u.cfg.Addrs() {
		to, udp, ok := plainAddr(a)
		if !ok {
			continue
		}
		mapping := nat.TCPMapping
		if udp {
			mapping = nat.UDPMapping
		}
		if mapping.unpredictable() {
			to = netip.AddrPortFrom(to.Addr(), 0) // the ports are others every time
		}
		on = append(on, fmt.Sprint(to, udp))
	}
	slices.Sort(on)
	return fmt.Sprint(nat, slices.Compact(on))
}

// stop ends the part that others begin, and waits for everything.
func (u *Upgrader) stop() {
	u.host.RemoveStreamHandler(Protocol)
	u.mu.Lock()
	u.closed = true
	u.mu.Unlock()
	done := make(chan struct{})
	go func() { u.work.Wait(); close(done) }()
	for {
		select {
		case <-u.results: // nobody listens any more
		case <-done:
			return
		}
	}
}

// begin runs f as a part of the upgrader, unless that has stopped.
func (u *Upgrader) begin(f func()) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return false
	}
	u.work.Go(f)
	return true
}

func (u *Upgrader) touch(p peer.ID) {
	select {
	case u.touched <- p:
	default:
	}
}

// awaitDirect returns a channel that is closed as soon as a direct connection
// to p stands.
func (u *Upgrader) awaitDirect(p peer.ID) (direct <-chan struct{}, stop func()) {
	ch := make(chan struct{})
	u.mu.Lock()
	u.waiting[p] = append(u.waiting[p], ch)
	u.mu.Unlock()
	if directConn(u.host.Network(), p) != nil { // it came before we listened
		u.arrived(p)
	}
	return ch, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		for i, c := range u.waiting[p] {
			if c == ch {
				u.waiting[p] = append(u.waiting[p][:i], u.waiting[p][i+1:]...)
			}
		}
		if len(u.waiting[p]) == 0 {
			delete(u.waiting, p)
		}
	}
}

func (u *Upgrader) arrived(p peer.ID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, ch := range u.waiting[p] {
		close(ch)
	}
	delete(u.waiting, p)
}

// Relayed reports whether a connection goes over a relay.
func Relayed(c network.Conn) bool { return maddr.IsCircuit(c.RemoteMultiaddr()) }

// directConn is some direct connection to p, or nil.
func directConn(nw network.Network, p peer.ID) network.Conn {
	for _, c := range nw.ConnsToPeer(p) {
		if !c.IsClosed() && !Relayed(c) {
			return c
		}
	}
	return nil
}

// relayedConn is some relayed connection to p, or nil; one that they opened if
// there is any, because then it is for us to begin.
func relayedConn(nw network.Network, p peer.ID) network.Conn {
	var found network.Conn
	for _, c := range nw.ConnsToPeer(p) {
		if c.IsClosed() || !Relayed(c) {
			continue
		}
		if c.Stat().Direction == network.DirInbound {
			return c
		}
		found = c
	}
	return found
}
