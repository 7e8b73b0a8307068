package main

import (
	"context"
	"io"
	"os"

	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"

	"github.com/causeway-p2p/causeway/internal/interop/report"
)

// serveRelay is go-libp2p's own relay.
func serveRelay(_ context.Context, s *session) error {
	res := relay.DefaultResources()
	if s.duration > 0 {
		res.Limit.Duration = s.duration
	}
	if s.bytes > 0 {
		res.Limit.Data = s.bytes
	}
	r, err := relay.New(s.host, relay.WithResources(res))
	if err != nil {
		return err
	}
	defer r.Close()
	var out report.Report
	for _, a := range s.host.Addrs() {
		out.Addrs = append(out.Addrs, a.String()+"/p2p/"+s.host.ID().String())
	}
	if err := s.tell(out); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin) // until the test lets go of us
	return err
}
