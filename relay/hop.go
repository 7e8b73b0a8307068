package relay

import (
	"context"
	"net/netip"
	"time"

	asnutil "github.com/libp2p/go-libp2p-asn-util"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"google.golang.org/protobuf/proto"
)

const (
	// maxMessage bounds a hop or stop message; the longest honest one carries
	// a peer with its addresses.
	maxMessage = 4096
	// askTimeout is how long whoever opened a hop stream may take to say what
	// for, and writeTimeout how long it may take to read our answer.
	askTimeout   = 10 * time.Second
	writeTimeout = 10 * time.Second
	// serviceName is what the resource manager's limits for relays hang on.
	serviceName = relayv2.ServiceName
)

// handleHop serves one hop stream (circuit v2 spec, "Hop protocol"). The stream
// of a circuit outlives it.
func (r *Relay) handleHop(s network.Stream) {
	if !r.begin() {
		s.Reset()
		return
	}
	defer r.running.Done()
	defer context.AfterFunc(r.ctx, func() { s.Reset() })() // whoever says nothing must not hold up the end
	if err := s.Scope().SetService(serviceName); err != nil {
		log.Debug("hop stream refused", "peer", s.Conn().RemotePeer(), "err", err)
		s.Reset()
		return
	}
	q := request{kind: kindUnknown, stream: s, from: s.Conn().RemotePeer(), origin: originOf(s.Conn().RemoteMultiaddr())}
	// Before anything is read, so that it bounds the readers as well.
	if !r.requests.take(q.from, q.origin, r.policy.Load(), time.Now()) {
		r.refuse(q, TooOften, TooOften.status())
		return
	}
	var msg pbv2.HopMessage
	if err := readMessage(s, &msg, askTimeout); err != nil {
		log.Debug("bad hop message", "peer", q.from, "err", err)
		r.refuse(q, Malformed, pbv2.Status_MALFORMED_MESSAGE)
		return
	}
	ctx, cancel := context.WithTimeout(r.ctx, connectTimeout)
	defer cancel()
	switch msg.GetType() {
	case pbv2.HopMessage_RESERVE:
		q.kind = kindReserve
		r.handleReserve(ctx, q)
	case pbv2.HopMessage_CONNECT:
		q.kind = kindConnect
		r.handleConnect(ctx, q, msg.GetPeer())
	default:
		r.refuse(q, Malformed, pbv2.Status_UNEXPECTED_MESSAGE)
	}
}

const kindReserve, kindConnect, kindUnknown = "reserve", "connect", "unknown"

// request is what somebody asks for on a hop stream.
type request struct {
	stream network.Stream
	from   peer.ID
	origin origin
	kind   string // one of those above
	to     peer.ID
}

// refuse answers with a status. It is said in all the places where an operator
// may look.
func (r *Relay) refuse(q request, why Reason, status pbv2.Status) {
	log.Debug("refused", "peer", q.from, "to", q.to, "asked", q.kind, "reason", why)
	r.meter.refused(q.kind, why)
	r.noteRefusal(q.from)
	r.respond(q.stream, &pbv2.HopMessage{Type: pbv2.HopMessage_STATUS.Enum(), Status: status.Enum()})
}

// respond writes the last message on a stream and closes it.
func (r *Relay) respond(s network.Stream, msg *pbv2.HopMessage) {
	if err := writeMessage(s, msg); err != nil {
		log.Debug("no answer delivered", "peer", s.Conn().RemotePeer(), "err", err)
		s.Reset()
		return
	}
	s.Close()
}

func readMessage(s network.Stream, msg proto.Message, timeout time.Duration) error {
	if err := s.Scope().ReserveMemory(maxMessage, network.ReservationPriorityAlways); err != nil {
		return err
	}
	defer s.Scope().ReleaseMemory(maxMessage)
	if err := s.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	rd := util.NewDelimitedReader(s, maxMessage)
	defer rd.Close()
	if err := rd.ReadMsg(msg); err != nil {
		return err
	}
	return s.SetReadDeadline(time.Time{})
}

func writeMessage(s network.Stream, msg proto.Message) error {
	if err := s.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if err := util.NewDelimitedWriter(s).WriteMsg(msg); err != nil {
		return err
	}
	return s.SetWriteDeadline(time.Time{})
}

// originOf is the IP address of a connection, and its autonomous system as far
// as the table of libp2p knows: that has IPv6 only.
func originOf(a ma.Multiaddr) origin {
	raw, err := manet.ToIP(a)
	if err != nil {
		return origin{}
	}
	ip, ok := netip.AddrFromSlice(raw)
	if !ok {
		return origin{}
	}
	o := origin{ip: ip.Unmap()}
	if o.ip.Is6() {
		o.system = asnutil.AsnForIPv6(raw)
	}
	return o
}
