package direct

import (
	"context"
	"crypto/rand"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/transport"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/quic-go/quic-go"
)

// A QUIC connection on a socket of its own.

// handshakeWait bounds the handshake after a port was hit: the hole is open.
const handshakeWait = 3 * time.Second

// dialFrom dials the peer from a socket whose port it has found. The
// connection lives on that socket, so it gets a transport of its own.
func (a *attempt) dialFrom(s net.PacketConn, to netip.AddrPort) {
	// Not with the attempt's context: the other ways may have ended by now, and
	// the peer counts on this one.
	ctx, cancel := context.WithTimeout(a.run, handshakeWait)
	defer cancel()
	_ = s.SetReadDeadline(time.Time{})
	conn, err := a.u.dialOver(ctx, s, to, a)
	if err != nil {
		s.Close()
		log.Debug("dial from the port that was guessed failed", "peer", a.peer, "reason", err)
		return
	}
	if err := a.u.cfg.Door.hand(conn, Guessed); err != nil {
		return
	}
	a.wait(ctx, time.Second) // until the swarm has it
}

func (u *Upgrader) dialOver(ctx context.Context, s net.PacketConn, to netip.AddrPort, a *attempt) (transport.CapableConn, error) {
	var reset quic.StatelessResetKey
	var token quic.TokenGeneratorKey
	rand.Read(reset[:])
	rand.Read(token[:])
	cm, err := quicreuse.NewConnManager(reset, token,
		quicreuse.OverrideListenUDP(func(string, *net.UDPAddr) (net.PacketConn, error) { return s, nil }),
		quicreuse.OverrideSourceIPSelector(func() (quicreuse.SourceIPSelector, error) { return anySource{}, nil }),
	)
	if err != nil {
		return nil, err
	}
	key := u.host.Peerstore().PrivKey(u.host.ID())
	var rcmgr network.ResourceManager = &network.NullResourceManager{}
	if m := u.host.Network().ResourceManager(); m != nil {
		rcmgr = m
	}
	t, err := libp2pquic.NewTransport(key, cm, nil, nil, rcmgr)
	if err != nil {
		cm.Close()
		return nil, err
	}
	addr, err := quicreuse.ToQuicMultiaddr(net.UDPAddrFromAddrPort(to), quic.Version1)
	if err != nil {
		cm.Close()
		return nil, err
	}
	conn, err := t.Dial(ctx, addr, a.peer)
	if err != nil {
		cm.Close()
		return nil, err
	}
	return &ownSocket{CapableConn: conn, close: sync.OnceFunc(func() { cm.Close(); s.Close() })}, nil
}

// anySource: there is one socket, and it is right.
type anySource struct{}

func (anySource) PreferredSourceIPForDestination(*net.UDPAddr) (net.IP, error) {
	return net.IPv4zero, nil
}

// ownSocket is a connection that has its socket to itself, and takes it along
// when it ends.
type ownSocket struct {
	transport.CapableConn
	close func()
}

// AcceptStream fails when the connection has ended, for whatever reason. The
// swarm calls it until then.
func (c *ownSocket) AcceptStream() (network.MuxedStream, error) {
	s, err := c.CapableConn.AcceptStream()
	if err != nil {
		c.close()
	}
	return s, err
}

func (c *ownSocket) Close() error {
	err := c.CapableConn.Close()
	c.close()
	return err
}

func (c *ownSocket) CloseWithError(code network.ConnErrorCode) error {
	err := c.CapableConn.CloseWithError(code)
	c.close()
	return err
}
