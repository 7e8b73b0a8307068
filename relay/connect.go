package relay

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"

	"github.com/causeway-p2p/causeway/relay/fair"
)

const (
	// connectTimeout bounds the opening of a circuit: the validator, and the
	// destination's answer.
	connectTimeout = 30 * time.Second
	// circuitTag keeps the connections of those with circuits from being
	// closed when there are too many.
	circuitTag    = "relay-circuit"
	circuitWeight = 50
)

// Forwarder reaches destinations that hold their reservation elsewhere. It is
// asked when the destination has none here.
type Forwarder interface {
	// Forward returns a stream to dst, on which the stop protocol has not
	// begun, or an error if it knows of no way. It must heed ctx.
	Forward(ctx context.Context, src, dst peer.ID) (network.Stream, error)
}

// handleConnect serves CONNECT (circuit v2 spec, "Circuit opening").
func (r *Relay) handleConnect(ctx context.Context, q request, to *pbv2.Peer) {
	dst, err := util.PeerToPeerInfoV2(to)
	if err != nil {
		r.refuse(q, Malformed, Malformed.status())
		return
	}
	q.to = dst.ID
	if q.to == q.from {
		r.refuse(q, ToSelf, ToSelf.status())
		return
	}
	class, why := r.admit(ctx, q)
	if why == "" && r.guard.why() != "" {
		why = Overloaded
	}
	if why != "" {
		r.refuse(q, why, why.status())
		return
	}
	c := newCircuit(q.from, q.to, q.origin.host(), class)
	stop, why := r.openCircuit(ctx, c)
	if why != "" {
		r.refuse(q, why, why.status())
		return
	}
	d, _ := c.class.circuit()
	if !c.join(q.stream, stop, d, r.running.Go) {
		// It was ended while it was opened.
		stop.Reset()
		why = c.ended()
		r.closeCircuit(c)
		r.refuse(q, why, why.status())
		return
	}
	// Whoever opened the circuit is told the limits, and only then gets data.
	if err := writeMessage(q.stream, &pbv2.HopMessage{
		Type: pbv2.HopMessage_STATUS.Enum(), Status: pbv2.Status_OK.Enum(), Limit: c.class.limit(),
	}); err != nil {
		c.end(PeerGone)
	}
	r.meter.opened(time.Since(c.opened))
	r.carry(c, q.stream, stop)
}

// openCircuit takes a place for the circuit and gets the destination's consent.
func (r *Relay) openCircuit(ctx context.Context, c *circuit) (_ network.Stream, why Reason) {
	pol := r.policy.Load()
	now := time.Now()
	elsewhere := r.cfg.Forwarder != nil && !r.table.has(c.dst, now)
	memory, err := r.memory()
	if err != nil || memory.ReserveMemory(2*smallBuffer, network.ReservationPriorityHigh) != nil {
		if memory != nil {
			memory.Done()
		}
		return nil, Overloaded
	}
	c.memory = memory
	if why := r.table.open(c, elsewhere, pol, now, func() *fair.Share { return r.fair.Share(0, 0) }); why != "" {
		memory.Done()
		return nil, why
	}
	for i, p := range []peer.ID{c.src, c.dst} {
		c.accounts[i] = r.cfg.Usage.Account(p)
		r.cfg.Host.ConnManager().TagPeer(p, circuitTag, circuitWeight)
	}
	defer func() {
		if why != "" {
			c.end(why)
			r.closeCircuit(c)
		}
	}()
	if r.draining.Load() {
		return nil, Draining // since it was admitted
	}
	if quota := c.class.MonthlyBytes; quota > 0 && c.paid().MonthBytes() >= quota {
		return nil, Quota
	}
	stop, err := r.askDestination(ctx, c, elsewhere)
	if err != nil {
		log.Debug("destination does not answer", "peer", c.dst, "from", c.src, "err", err)
		return nil, Unreachable
	}
	return stop, ""
}

// askDestination opens a stop stream (circuit v2 spec, "Stop protocol").
func (r *Relay) askDestination(ctx context.Context, c *circuit, elsewhere bool) (network.Stream, error) {
	s, err := r.stopStream(ctx, c, elsewhere)
	if err != nil {
		return nil, err
	}
	abort := context.AfterFunc(ctx, func() { s.Reset() })
	err = r.agree(s, c)
	if !abort() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		s.Reset()
		return nil, err
	}
	return bare(s), nil
}

// bare is the stream itself once its protocol is agreed on. What the host
// returns goes on passing through the negotiation (go-libp2p v0.51,
// basic_host.go, streamWrapper), in which a read of nothing does not wait
// (go-multistream v0.6, lazyClient.go).
func bare(s network.Stream) network.Stream {
	if !waitsEmpty(s) {
		return s
	}
	for _, b := range s.Conn().GetStreams() {
		if b.ID() == s.ID() {
			return b
		}
	}
	return s // it has just ended
}

func (r *Relay) stopStream(ctx context.Context, c *circuit, elsewhere bool) (network.Stream, error) {
	if elsewhere {
		return r.cfg.Forwarder.Forward(ctx, c.src, c.dst)
	}
	return r.cfg.Host.NewStream(network.WithNoDial(ctx, "relay connect"), c.dst, proto.ProtoIDv2Stop)
}

// agree is the exchange on a stop stream.
func (r *Relay) agree(s network.Stream, c *circuit) error {
	if err := s.Scope().SetService(serviceName); err != nil {
		return err
	}
	if err := writeMessage(s, &pbv2.StopMessage{
		Type: pbv2.StopMessage_CONNECT.Enum(), Peer: util.PeerInfoToPeerV2(peer.AddrInfo{ID: c.src}), Limit: c.class.limit(),
	}); err != nil {
		return err
	}
	var answer pbv2.StopMessage
	if err := readMessage(s, &answer, connectTimeout); err != nil {
		return err
	}
	if answer.GetType() != pbv2.StopMessage_STATUS || answer.GetStatus() != pbv2.Status_OK {
		return fmt.Errorf("answered %s %s", answer.GetType(), answer.GetStatus())
	}
	return nil
}

// carry runs both directions. It returns at once; the last of them cleans up.
func (r *Relay) carry(c *circuit, hop, stop network.Stream) {
	log.Debug("circuit open", "circuit", c.id, "from", c.src, "to", c.dst, "class", c.class.Name)
	for _, a := range c.accounts {
		a.AddCircuit()
	}
	_, bytes := c.class.circuit()
	for _, p := range []*pump{
		{dir: &c.up, src: hop, dst: stop},
		{dir: &c.down, src: stop, dst: hop},
	} {
		p.relay, p.c, p.left, p.quota, p.payer = r, c, bytes, c.class.MonthlyBytes, c.paid()
		if bytes == 0 {
			p.left = -1
		}
		r.running.Go(func() {
			switch why := p.run(); why {
			case "":
			case Bytes, Quota:
				c.wane(why, p.src, p.dst)
			default:
				c.end(why)
			}
			if c.ways.Add(-1) == 0 {
				r.finish(c, hop, stop)
			}
		})
	}
}

// finish is called when both directions have ended.
func (r *Relay) finish(c *circuit, hop, stop network.Stream) {
	why := c.finish()
	hop.Close()
	stop.Close()
	r.closeCircuit(c)
	log.Debug("circuit closed", "circuit", c.id, "from", c.src, "to", c.dst, "reason", why, "bytes", c.passed(), "dur", time.Since(c.opened))
	r.meter.closed(why, time.Since(c.opened))
	if why != Closed {
		r.endings.add(c, why)
	}
}

// closeCircuit gives back all that a circuit has.
func (r *Relay) closeCircuit(c *circuit) {
	c.up.flow.Close()
	c.down.flow.Close()
	for _, p := range r.table.close(c) {
		r.cfg.Host.ConnManager().UntagPeer(p, circuitTag)
		if r.table.countOf(p) > 0 { // another has opened meanwhile
			r.cfg.Host.ConnManager().TagPeer(p, circuitTag, circuitWeight)
		}
	}
	c.memory.Done()
	for _, a := range c.accounts {
		a.Release()
	}
}
