package main

import (
	"context"
	"io"
	"os"
	"slices"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/internal/interop/report"
)

// lookEvery is between two looks at our addresses. An event would be nicer, but
// the versions do not agree on which.
const lookEvery = 50 * time.Millisecond

// auto waits for AutoRelay to find the relay, and leaves everything to it.
func auto(ctx context.Context, s *session) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var out report.Report
	for !slices.ContainsFunc(s.host.Addrs(), overRelay) && out.Error == "" {
		select {
		case <-look.C:
		case <-ctx.Done():
			out.Error = "no address over the relay"
		}
	}
	for _, a := range s.host.Addrs() {
		out.Addrs = append(out.Addrs, a.String())
	}
	if err := s.tell(out); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func overRelay(a ma.Multiaddr) bool {
	_, err := a.ValueForProtocol(ma.P_CIRCUIT)
	return err == nil
}
