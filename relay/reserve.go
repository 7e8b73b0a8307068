package relay

import (
	"context"
	"errors"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/causeway-p2p/causeway/internal/maddr"
)

const (
	// reservationTag keeps the connection manager from closing the connections
	// of those who rely on us, before those of all others.
	reservationTag    = "relay-reservation"
	reservationWeight = 100
)

// handleReserve serves RESERVE (circuit v2 spec, "Reservation").
func (r *Relay) handleReserve(ctx context.Context, q request) {
	class, why := r.admit(ctx, q)
	if why != "" {
		r.refuse(q, why, why.status())
		return
	}
	now := time.Now()
	if r.guard.why() != "" && !r.table.has(q.from, now) {
		r.refuse(q, Overloaded, Overloaded.status())
		return
	}
	expires, fresh, why := r.table.reserve(q.from, q.origin, class, r.policy.Load(), now)
	if why != "" {
		r.refuse(q, why, why.status())
		if why == Full {
			r.noRoom(q.from)
		}
		return
	}
	// At each refresh, for the end of an earlier one may have taken it away since.
	r.cfg.Host.ConnManager().TagPeer(q.from, reservationTag, reservationWeight)
	if q.stream.Conn().IsClosed() {
		r.leave(q.from) // while we were deciding: nobody else would notice
	}
	r.meter.reserved(fresh)
	rsvp, err := r.reservation(q.from, expires)
	if err != nil {
		log.Error("voucher not signed", "peer", q.from, "err", err)
	}
	r.respond(q.stream, &pbv2.HopMessage{
		Type: pbv2.HopMessage_STATUS.Enum(), Status: pbv2.Status_OK.Enum(), Reservation: rsvp, Limit: class.limit(),
	})
}

// reservation is what the peer is told, with a voucher that it can show to
// others (circuit v2 spec, "Reservation Vouchers").
func (r *Relay) reservation(p peer.ID, expires time.Time) (*pbv2.Reservation, error) {
	unix := uint64(expires.Unix())
	out := &pbv2.Reservation{Expire: &unix, Addrs: r.vouchedAddrs()}
	key := r.cfg.Host.Peerstore().PrivKey(r.cfg.Host.ID())
	if key == nil {
		return out, errors.New("the host has no private key")
	}
	env, err := record.Seal(&proto.ReservationVoucher{Relay: r.cfg.Host.ID(), Peer: p, Expiration: expires}, key)
	if err != nil {
		return out, err
	}
	out.Voucher, err = env.Marshal()
	return out, err
}

// vouchedAddrs are our addresses as reservations name them, each with our peer
// ID.
func (r *Relay) vouchedAddrs() [][]byte {
	var out [][]byte
	for _, a := range r.cfg.Host.Addrs() {
		if !r.namesInReservation(a) {
			continue
		}
		id, _ := peer.IDFromP2PAddr(a)
		switch id {
		case "":
			a = a.AppendComponent(r.self)
		case r.cfg.Host.ID():
		default:
			continue // of somebody else: not ours to name
		}
		out = append(out, a.Bytes())
	}
	return out
}

// namesInReservation says which of our addresses a reservation names. Stock
// relays name public ones only, and so nothing at all on a private network.
func (r *Relay) namesInReservation(a ma.Multiaddr) bool {
	if maddr.IsCircuit(a) {
		return false
	}
	if manet.IsPublicAddr(a) || r.cfg.AllowPrivate {
		return true
	}
	for _, m := range r.cfg.Announced {
		if m.Equal(a) {
			return true
		}
	}
	return false
}

// cancel ends a reservation, and tells whether there was one.
func (r *Relay) cancel(p peer.ID, why Reason) bool { return r.cancelBefore(p, time.Time{}, why) }

// cancelBefore leaves alone a reservation that was asked for again after t0.
func (r *Relay) cancelBefore(p peer.ID, t0 time.Time, why Reason) bool {
	was := r.table.cancel(p, t0)
	if was {
		r.released(p, why)
	}
	return was
}

// released is called when a reservation has ended.
func (r *Relay) released(p peer.ID, why Reason) {
	r.cfg.Host.ConnManager().UntagPeer(p, reservationTag)
	if r.table.has(p, time.Now()) { // it has reserved again meanwhile
		r.cfg.Host.ConnManager().TagPeer(p, reservationTag, reservationWeight)
	}
	r.meter.released(why)
	log.Debug("reservation ended", "peer", p, "reason", why)
}

// disconnected takes in that a connection has ended.
func (r *Relay) disconnected(_ network.Network, c network.Conn) { r.leave(c.RemotePeer()) }

// leave ends the reservation of a peer without a connection, which does not need
// it; it comes back with a new request, and that may be at once.
func (r *Relay) leave(p peer.ID) {
	now := time.Now() // before we look
	if r.cfg.Host.Network().Connectedness(p) != network.Connected {
		r.cancelBefore(p, now, PeerGone)
	}
}
