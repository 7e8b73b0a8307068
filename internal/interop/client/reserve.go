package main

import (
	"bufio"
	"context"
	"errors"
	"os"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"

	"github.com/causeway-p2p/causeway/internal/interop/report"
)

// reserve reserves, and once more for every line on standard input.
func reserve(ctx context.Context, s *session) error {
	relay, err := s.relay(ctx)
	if err != nil {
		return s.tell(report.Report{Error: err.Error()})
	}
	if err := s.tell(s.reserveOn(ctx, relay)); err != nil {
		return err
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if err := s.tell(s.reserveOn(ctx, relay)); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) reserveOn(ctx context.Context, relay peer.AddrInfo) (out report.Report) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := client.Reserve(ctx, s.host, relay)
	if err != nil {
		out.Error = err.Error()
		var re client.ReservationError
		if errors.As(err, &re) {
			out.Refused = re.Status.String()
		}
		return out
	}
	v := r.Voucher
	out.Reservation = &report.Reservation{
		Expires: r.Expiration, LimitSeconds: int64(r.LimitDuration.Seconds()), LimitBytes: int64(r.LimitData),
		// The client has checked the signature, or there would be an error.
		Voucher: v != nil && v.Relay == relay.ID && v.Peer == s.host.ID() && v.Expiration.Equal(r.Expiration),
	}
	for _, a := range r.Addrs {
		out.Reservation.Addrs = append(out.Reservation.Addrs, a.String())
	}
	out.Protocols = s.protocols(relay.ID)
	return out
}

// protocols are what identify has told of a peer.
func (s *session) protocols(p peer.ID) (out []string) {
	list, err := s.host.Peerstore().GetProtocols(p)
	if err != nil {
		return nil
	}
	for _, id := range list {
		out = append(out, string(id))
	}
	return out
}
