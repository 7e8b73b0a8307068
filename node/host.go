package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"go.uber.org/fx"

	"github.com/causeway-p2p/causeway/direct"
	"github.com/causeway-p2p/causeway/fastconn"
	"github.com/causeway-p2p/causeway/relay"
)

// Connections that are kept when there are many: a relay has one for each
// reservation, a peer needs few.
const (
	peerConnsLow, peerConnsHigh     = 96, 192
	serverConnsLow, serverConnsHigh = 4096, 6144
)

// newHost builds a libp2p host without go-libp2p's own reachability, autorelay
// and relay parts, whose work the rooms of this project do.
func newHost(cfg Config, addrs func([]ma.Multiaddr) []ma.Multiaddr) (host.Host, *autonatv2.AutoNAT, *circuits, error) {
	if len(cfg.Transports) == 0 {
		if err := checkPorts(cfg.Listen); err != nil {
			return nil, nil, nil, err
		}
	}
	low, high := peerConnsLow, peerConnsHigh
	if cfg.Server {
		low, high = serverConnsLow, serverConnsHigh
	}
	if cfg.Relay != relay.Off {
		// Who holds a reservation must stay connected.
		high = max(high, 2*cfg.RelayLimits.WithDefaults().Reservations)
		low = max(low, high*2/3)
	}
	cm, err := connmgr.NewConnManager(low, high)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("connection manager: %w", err)
	}
	var nat *autonatv2.AutoNAT
	via := &circuits{races: make(map[peer.ID]*race), door: direct.NewDoor()}
	opts := []libp2p.Option{
		libp2p.Identity(cfg.Identity),
		libp2p.UserAgent(cfg.UserAgent),
		libp2p.ListenAddrs(withPlainTCP(cfg.Listen)...),
		libp2p.AddrsFactory(addrs),
		libp2p.ConnectionManager(cm),
		// Both counters start "untrained" and then refuse dial-backs that
		// somebody asked us for (go-libp2p v0.51, swarm/black_hole_detector.go).
		libp2p.UDPBlackHoleSuccessCounter(nil),
		libp2p.IPv6BlackHoleSuccessCounter(nil),
		// The AutoNAT v2 server is go-libp2p's; its client would ask each
		// server once in 2 minutes and hide addresses by its own judgement, so
		// the host does not get to see it (basic_host.go: a nil AutoNATv2
		// means no reachability tracker).
		libp2p.EnableAutoNATv2(),
		libp2p.WithFxOption(fx.Decorate(func(an *autonatv2.AutoNAT) *autonatv2.AutoNAT {
			nat = an
			return nil
		})),
		libp2p.DisableRelay(), // only its circuit transport; we bring our own
		libp2p.WithFxOption(fx.Invoke(via.attach)),
		libp2p.SwarmOpts(swarm.WithDialRanker(via.rank)),
		// Stops the ambient AutoNAT v1 client, which would emit verdicts of
		// its own. The tracker's "unknown" replaces the "public" that this
		// puts on the event bus.
		libp2p.ForceReachabilityPublic(),
	}
	if cfg.Server {
		opts = append(opts, libp2p.EnableNATService())
	}
	if cfg.Registerer != nil {
		opts = append(opts, libp2p.PrometheusRegisterer(cfg.Registerer))
	} else {
		opts = append(opts, libp2p.DisableMetrics())
	}
	if len(cfg.Transports) > 0 {
		opts = append(opts, cfg.Transports...)
	} else {
		opts = append(opts,
			fastconn.Options(),
			libp2p.Transport(libp2pquic.NewTransport),
			libp2p.Transport(tcp.NewTCPTransport),
			libp2p.Transport(websocket.New, websocket.WithTLSConfig(cfg.TLS)),
			libp2p.ShareTCPListener(), // TCP and WebSocket, also over TLS, on one port
			libp2p.WithFxOption(fx.Invoke(func(cm *quicreuse.ConnManager) { via.quic = cm })),
		)
	}
	opts = append(opts, cfg.Libp2p...)
	if cfg.Relay != relay.Off {
		opts = append(opts, relayResources(cfg.RelayLimits))
	} else {
		opts = append(opts, peerResources())
	}
	h, err := libp2p.New(opts...)
	if err != nil {
		return nil, nil, nil, listenError(cfg.Listen, err)
	}
	if err := checkListening(h, cfg.Listen); err != nil {
		return nil, nil, nil, errors.Join(err, h.Close())
	}
	if nat != nil {
		if err := nat.Start(h); err != nil {
			return nil, nil, nil, errors.Join(fmt.Errorf("autonat v2: %w", err), h.Close())
		}
	}
	return h, nat, via, nil
}

// ListenError tells which address could not be listened on.
type ListenError struct {
	Addr ma.Multiaddr
	Err  error
}

func (e *ListenError) Error() string { return fmt.Sprintf("listen on %s: %v", e.Addr, e.Err) }

func (e *ListenError) Unwrap() error { return e.Err }

// checkPorts refuses ports that another program uses. libp2p's TCP listeners
// set SO_REUSEPORT (p2p/net/reuseport), with which two programs share a port
// and each gets half of the connections.
func checkPorts(want []ma.Multiaddr) error {
	for _, a := range want {
		if err := tryListen(a); err != nil && !noSuchFamily(a, err) {
			return &ListenError{Addr: a, Err: err}
		}
	}
	return nil
}

// noSuchFamily reports whether err means that the machine has no IPv6, which
// is no reason to fail if the address is the unspecified one.
func noSuchFamily(a ma.Multiaddr, err error) bool {
	return len(a) > 0 && a[0].Protocol().Code == ma.P_IP6 && manet.IsIPUnspecified(a) &&
		!errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EACCES)
}

// listenError finds the address that is to blame: libp2p reports all of them
// in one long text.
func listenError(want []ma.Multiaddr, err error) error {
	for _, a := range want {
		if probe := tryListen(a); probe != nil {
			return &ListenError{Addr: a, Err: probe}
		}
	}
	return fmt.Errorf("libp2p host: %w", err)
}

// checkListening makes one failed address an error. libp2p v0.51 is content
// when any one of them works (config.go, "We should probably fail if
// listening on *any* addr fails"), which hides a port that is in use.
func checkListening(h host.Host, want []ma.Multiaddr) error {
	have := h.Network().ListenAddresses()
	for _, a := range want {
		if listensOn(have, a) {
			continue
		}
		err := tryListen(a)
		if err == nil {
			err = errors.New("no transport for it")
		}
		if noSuchFamily(a, err) {
			continue
		}
		return &ListenError{Addr: a, Err: err}
	}
	return nil
}

// listensOn compares protocols and, unless it was 0, the port.
func listensOn(have []ma.Multiaddr, want ma.Multiaddr) bool {
	for _, h := range have {
		if len(h) < len(want) {
			continue
		}
		same := true
		for i := range want {
			if h[i].Protocol().Code != want[i].Protocol().Code ||
				(h[i].Value() != want[i].Value() && want[i].Value() != "0") {
				same = false
				break
			}
		}
		if same {
			return true
		}
	}
	return false
}

// tryListen finds out what the kernel says about an address. One that is not
// for the kernel to judge is left to libp2p.
func tryListen(a ma.Multiaddr) error {
	nw, addr, err := manet.DialArgs(a)
	if err != nil {
		return nil //nolint:nilerr // not an IP address
	}
	var lc net.ListenConfig
	var l io.Closer
	if strings.HasPrefix(nw, "udp") {
		l, err = lc.ListenPacket(context.Background(), nw, addr)
	} else {
		l, err = lc.Listen(context.Background(), nw, addr)
	}
	if err == nil {
		l.Close()
	}
	return plain(err)
}

// plain takes the system call's own words out of a net.OpError.
func plain(err error) error {
	var se *os.SyscallError
	if errors.As(err, &se) {
		return se.Err
	}
	return err
}

// newDHT joins the host to the network's DHT.
func newDHT(h host.Host, cfg Config) (*dht.IpfsDHT, error) {
	// Both follow reachability; they differ while it is unknown, as it is on
	// the first node of a network, and on a LAN.
	mode := dht.ModeAuto
	if cfg.Server {
		mode = dht.ModeAutoServer
	}
	opts := []dht.Option{dht.Mode(mode), dht.BootstrapPeers(bootstrapPeers(cfg)...)}
	if cfg.private() {
		opts = append(opts, dht.ProtocolPrefix(cfg.dhtPrefix()))
	} else {
		opts = append(opts,
			dht.QueryFilter(dht.PublicQueryFilter),
			dht.RoutingTableFilter(dht.PublicRoutingTableFilter),
			dht.RoutingTablePeerDiversityFilter(dht.NewRTPeerDiversityFilter(h, 2, 3)),
			dht.AddressFilter(publicAddrs),
		)
	}
	d, err := dht.New(h, opts...)
	if err != nil {
		return nil, fmt.Errorf("dht: %w", err)
	}
	return d, nil
}

func publicAddrs(addrs []ma.Multiaddr) []ma.Multiaddr {
	return ma.FilterAddrs(addrs, manet.IsPublicAddr)
}

func bootstrapPeers(cfg Config) []peer.AddrInfo {
	if len(cfg.Bootstrap) > 0 || cfg.private() {
		return cfg.Bootstrap
	}
	return dht.GetDefaultBootstrapPeerAddrInfos()
}

// allowLimited lets a stream or a dial use relayed connections with limits.
func allowLimited(ctx context.Context) context.Context {
	return network.WithAllowLimitedConn(ctx, "causeway")
}
