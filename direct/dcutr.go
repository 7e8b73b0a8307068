package direct

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-msgio/pbio"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multistream"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-p2p/causeway/direct/pb"
)

// Protocol is DCUtR's (https://github.com/libp2p/specs/blob/master/relay/DCUtR.md).
const Protocol protocol.ID = "/libp2p/dcutr"

const (
	// maxMessage is what go-libp2p reads at most (holepunch/svc.go).
	maxMessage = 4096
	// exchangeTimeout bounds the conversation. Its two round trips go over a
	// relay, which may be busy.
	exchangeTimeout = 6 * time.Second
	// maxRTT bounds the round trip that the other side makes us believe in, and
	// with it how long we wait.
	maxRTT = time.Second
	// maxDelay bounds how much later TCP is dialled.
	maxDelay = 500 * time.Millisecond
	// maxSent bounds the addresses that we name: there is no use in more.
	maxSent = 12
)

// their is what the other side said about itself.
type their struct {
	addrs []ma.Multiaddr // where others see it
	lan   []ma.Multiaddr // on its own network
	nat   NAT
	ours  bool          // it speaks our extension
	guess int           // how many ports it opens or tries; 0: it does not
	delay time.Duration // of TCP dials, after SYNC
}

// errBroken: the other side broke the protocol.
var errBroken = errors.New("unexpected DCUtR message")

// conversation is one DCUtR stream.
type conversation struct {
	s network.Stream
	r pbio.Reader
	w pbio.Writer
}

// open opens a DCUtR stream on a relayed connection. It neither waits for
// identify nor for the answer to the protocol's name, each a round trip.
func open(ctx context.Context, conn network.Conn) (*conversation, error) {
	s, err := conn.NewStream(network.WithAllowLimitedConn(ctx, "hole punch"))
	if err != nil {
		return nil, err
	}
	if err := s.SetProtocol(Protocol); err != nil {
		s.Reset()
		return nil, err
	}
	return converse(s, multistream.NewMSSelect(s, Protocol))
}

func converse(s network.Stream, rw io.ReadWriter) (*conversation, error) {
	if err := s.SetDeadline(time.Now().Add(exchangeTimeout)); err != nil {
		s.Reset()
		return nil, err
	}
	return &conversation{s: s, r: pbio.NewDelimitedReader(rw, maxMessage), w: pbio.NewDelimitedWriter(rw)}, nil
}

func (c *conversation) send(t pb.HolePunch_Type, addrs []ma.Multiaddr, extra *pb.HolePunch_Causeway) error {
	return c.w.WriteMsg(&pb.HolePunch{Type: t.Enum(), ObsAddrs: toBytes(addrs), Causeway: extra})
}

// hear reads a message, which must be of that type.
func (c *conversation) hear(t pb.HolePunch_Type) (their, error) {
	var m pb.HolePunch
	if err := c.r.ReadMsg(&m); err != nil {
		return their{}, err
	}
	if m.GetType() != t {
		return their{}, fmt.Errorf("%w: %s instead of %s", errBroken, m.GetType(), t)
	}
	return read(&m), nil
}

// read takes a message apart. What makes no sense in it is left out.
func read(m *pb.HolePunch) their {
	x := m.GetCauseway()
	return their{
		addrs: fromBytes(m.GetObsAddrs()), lan: fromBytes(x.GetLanAddrs()),
		ours: x != nil, guess: int(min(x.GetGuesses(), maxGuesses)),
		delay: min(time.Duration(x.GetTcpDelayMs())*time.Millisecond, maxDelay),
		nat: NAT{
			UDPMapping: fromWire(x.GetMapping()), UDPFiltering: fromWire(x.GetFiltering()),
			TCPMapping: fromWire(x.GetTcpMapping()), UDPBlocked: x.GetUdpBlocked(),
		},
	}
}

func toBytes(addrs []ma.Multiaddr) [][]byte {
	out := make([][]byte, 0, len(addrs))
	for _, a := range addrs[:min(len(addrs), maxSent)] {
		out = append(out, a.Bytes())
	}
	return out
}

func fromBytes(list [][]byte) []ma.Multiaddr {
	out := make([]ma.Multiaddr, 0, min(len(list), maxNamed))
	for _, b := range list[:min(len(list), maxNamed)] {
		if a, err := ma.NewMultiaddrBytes(b); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// about is what we tell about ourselves; lan only to whom it may be of use.
func (u *Upgrader) about(nat NAT, lan []ma.Multiaddr) *pb.HolePunch_Causeway {
	x := &pb.HolePunch_Causeway{
		Mapping: nat.UDPMapping.wire(), Filtering: nat.UDPFiltering.wire(), TcpMapping: nat.TCPMapping.wire(),
		LanAddrs: toBytes(lan),
	}
	if nat.UDPBlocked {
		x.UdpBlocked = proto.Bool(true)
	}
	if u.cfg.Sockets != nil {
		x.Guesses = proto.Uint32(maxGuesses)
	}
	return x
}

// agree is the side that begins: addresses both ways, and the time that a
// message takes there and back. The other side has heard nothing yet of when
// to dial; that is what sync is for.
func (u *Upgrader) agree(c *conversation, own []ma.Multiaddr, nat NAT) (t their, rtt time.Duration, err error) {
	begun := time.Now()
	if err := c.send(pb.HolePunch_CONNECT, own, u.about(nat, nil)); err != nil {
		return t, 0, err
	}
	t, err = c.hear(pb.HolePunch_CONNECT)
	return t, time.Since(begun), err
}

// sync tells the other side to dial as it reads this, over TCP a moment later
// if it is one of ours.
func (u *Upgrader) sync(c *conversation, nat NAT, lan []ma.Multiaddr, delay time.Duration) error {
	x := u.about(nat, lan)
	x.TcpDelayMs = proto.Uint32(uint32(delay / time.Millisecond))
	err := c.send(pb.HolePunch_SYNC, nil, x)
	if err == nil {
		err = c.s.CloseWrite()
	}
	return err
}

// answerStream is the side that is asked: it dials when it hears SYNC.
func (u *Upgrader) answerStream(ctx context.Context, s network.Stream) {
	conn := s.Conn()
	p := conn.RemotePeer()
	// DCUtR is for relayed connections, where the peer that was called begins;
	// that we called it is for us to know. Among nodes of ours, either may, as
	// what has changed may have changed here.
	if !Relayed(conn) || !u.rates.allow(p, time.Now()) {
		s.Reset()
		return
	}
	select {
	case u.answers <- struct{}{}:
	default:
		s.Reset()
		return
	}
	if !u.begin(func() {
		defer func() { <-u.answers }()
		if r, ok := u.answer(ctx, s, p); ok {
			u.results <- r
		}
	}) {
		<-u.answers
		s.Reset()
	}
}

// answer has the conversation and makes the attempt. It reports nothing if the
// other side has not come to the point.
func (u *Upgrader) answer(ctx context.Context, s network.Stream, p peer.ID) (result, bool) {
	c, err := converse(s, s)
	if err != nil {
		return result{}, false
	}
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	a := u.attempt(p, false)
	t, err := c.hear(pb.HolePunch_CONNECT)
	if err != nil {
		s.Reset()
		return a.result(BadMessage), errors.Is(err, errBroken)
	}
	own := u.cfg.Addrs()
	var lan []ma.Multiaddr
	if shareIP(own, t.addrs) {
		lan = u.privateAddrs()
	}
	if !t.ours {
		own = punchable(own, t.addrs)
	}
	if err := c.send(pb.HolePunch_CONNECT, own, u.about(a.nat, lan)); err != nil {
		s.Reset()
		return result{}, false
	}
	begun := time.Now()
	sync, err := c.hear(pb.HolePunch_SYNC)
	if err != nil {
		s.Reset()
		return a.result(BadMessage), errors.Is(err, errBroken)
	}
	a.rtt = min(time.Since(begun), maxRTT)
	s.Close()
	t.lan, t.delay = sync.lan, sync.delay
	return a.answer(ctx, t), true
}
