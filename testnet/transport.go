package testnet

import (
	"context"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/core/transport"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/quic-go/quic-go"
)

// Transport returns the option that makes a libp2p host live on the machine: a
// QUIC transport whose sockets are the machine's. It replaces the default
// transports; pair it with libp2p.ListenAddrs(h.ListenAddr(port)).
//
// It is a transport with a connection manager of its own, and not the shorter
// libp2p.QUICReuse, because the hosts that AutoNAT v1 and v2 make for their
// dial-backs inherit the transports and not QUICReuse (go-libp2p v0.51.0,
// config/config.go, makeAutoNATV2Host and addAutoNAT): only so do dial-backs
// travel through the simulated network.
func (h *Host) Transport() libp2p.Option {
	return libp2p.Transport(h.newTransport)
}

func (h *Host) newTransport(
	key crypto.PrivKey,
	psk pnet.PSK,
	gater connmgr.ConnectionGater,
	rcmgr network.ResourceManager,
	resetKey quic.StatelessResetKey,
	tokenKey quic.TokenGeneratorKey,
) (transport.Transport, error) {
	cm, err := quicreuse.NewConnManager(resetKey, tokenKey,
		quicreuse.OverrideListenUDP(h.listenUDP),
		quicreuse.OverrideSourceIPSelector(func() (quicreuse.SourceIPSelector, error) { return sourceIP{h}, nil }),
		// These two are what config.go gives its own connection manager; without
		// them the resource manager does not see incoming connections.
		quicreuse.ConnContext(func(ctx context.Context, client *quic.ClientInfo) (context.Context, error) {
			addr, err := quicreuse.ToQuicMultiaddr(client.RemoteAddr, quic.Version1)
			if err != nil {
				addr = nil // let the resource manager decide
			}
			scope, err := rcmgr.OpenConnection(network.DirInbound, false, addr)
			if err != nil {
				return ctx, err
			}
			ctx = network.WithConnManagementScope(ctx, scope)
			context.AfterFunc(ctx, scope.Done)
			return ctx, nil
		}),
		quicreuse.VerifySourceAddress(rcmgr.VerifySourceAddress),
	)
	if err != nil {
		return nil, err
	}
	t, err := libp2pquic.NewTransport(key, cm, psk, gater, rcmgr)
	if err != nil {
		cm.Close()
		return nil, err
	}
	return &ownedTransport{Transport: t, close: sync.OnceValue(cm.Close)}, nil
}

// listenUDP is net.ListenUDP on the machine.
func (h *Host) listenUDP(network string, laddr *net.UDPAddr) (net.PacketConn, error) {
	ip := laddr.AddrPort().Addr().Unmap()
	own := h.ip
	if network == "udp6" {
		own = h.ip6
	}
	if !ip.IsUnspecified() && ip != own {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: laddr, Err: os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)}
	}
	return h.listenOn(own, laddr.Port)
}

// sourceIP tells quicreuse that the machine sends from its only address of a
// family. Thus
// it finds the listening socket when it dials, which hole punching and observed
// addresses need.
type sourceIP struct{ host *Host }

func (s sourceIP) PreferredSourceIPForDestination(dst *net.UDPAddr) (net.IP, error) {
	if dst.AddrPort().Addr().Unmap().Is6() {
		return s.host.ip6.AsSlice(), nil
	}
	return s.host.ip.AsSlice(), nil
}

// ownedTransport closes its connection manager when it is closed itself, which
// the swarm does after its listeners and connections are gone. An fx stop hook
// would run before the swarm's, and peers would not be told that their
// connections end.
type ownedTransport struct {
	transport.Transport
	close func() error
}

func (t *ownedTransport) Close() error { return t.close() }

// ListenOrder is what the QUIC transport has: the swarm asks by type assertion.
func (t *ownedTransport) ListenOrder() int { return libp2pquic.ListenOrder }

func (t *ownedTransport) String() string { return "QUIC over testnet" }
