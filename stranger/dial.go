package stranger

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	autonatpb "github.com/libp2p/go-libp2p/p2p/protocol/autonatv2/pb"
	"github.com/libp2p/go-msgio/pbio"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/stranger/pb"
)

const (
	// dialDelay is the most that we wait before we dial, at random: who has
	// paid many of us must not get us to dial somebody in the same moment.
	dialDelay = 500 * time.Millisecond
	// dialTimeout bounds all that we do at the address. Who can be dialled
	// takes some round trips, and the client waits to hear that he cannot: it
	// is to know within 4 s of its start.
	dialTimeout = 2500 * time.Millisecond
)

// dial serves a Dial: we are the third node.
func (s *Stranger) dial(ctx context.Context, st network.Stream, m *pb.Dial) error {
	server := st.Conn().RemotePeer()
	o, err := parseDial(m)
	if err != nil {
		return err
	}
	from, ok := publicIP(st.Conn().RemoteMultiaddr())
	switch {
	case !ok || !direct(st.Conn()):
		return refuse(Relayed)
	case o.peer == s.host.ID() || o.peer == server,
		slices.Contains(ownIPs(s.host), o.ip), slices.Contains(seenAt(s.host, server), o.ip):
		return refuse(OwnAddress)
	case !s.host.Network().CanDial(o.peer, o.addr):
		return refuse(CannotDial)
	}
	leave, err := s.dials.enter(from, o.ip, time.Now())
	if err != nil {
		return err
	}
	defer leave()
	if err := collect(st); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(rand.N(dialDelay)):
	}
	d, err := s.cfg.NewDialer()
	if err != nil {
		log.Warn("no host to dial from", "err", err)
		return refuse(CannotDial)
	}
	defer d.Close()
	if err := dialBack(ctx, d, o); err != nil {
		log.Debug("dial-back failed", "peer", o.peer, "addr", o.addr, "err", err)
		return ErrDialFailed
	}
	return nil
}

// dialBack hands over a nonce as an AutoNAT v2 server does, from a host made
// for it: a connection that stands, or a port that is known to the NAT, would
// prove nothing.
func dialBack(ctx context.Context, d host.Host, o order) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	// It answers to nobody: identify and the like would send much for little.
	d.Network().SetStreamHandler(func(st network.Stream) { st.Reset() })
	ctx = network.WithForceDirectDial(ctx, string(Protocol))
	if err := d.Connect(ctx, peer.AddrInfo{ID: o.peer, Addrs: []ma.Multiaddr{o.addr}}); err != nil {
		return err
	}
	st, err := d.NewStream(network.WithNoDial(ctx, string(Protocol)), o.peer, autonatv2.DialBackProtocol)
	if err != nil {
		return err
	}
	defer st.Reset()
	if deadline, ok := ctx.Deadline(); ok {
		st.SetDeadline(deadline)
	}
	if err := pbio.NewDelimitedWriter(st).WriteMsg(&autonatpb.DialBack{Nonce: o.nonce}); err != nil {
		return err
	}
	if err := st.CloseWrite(); err != nil {
		return err
	}
	// Closing the host would take with it what is still on its way, so wait for
	// the other side's word, whatever it is: the nonce is what counts there.
	_, _ = st.Read(make([]byte, 1))
	return nil
}
