// Command client is a peer, or a relay, made of stock go-libp2p and nothing
// else. The test builds it with several versions (../versions) and lets each
// use our relay.
//
//	client reserve RELAY            reserve, then serve echo and ping over circuits;
//	                                each line on standard input is a refresh
//	client auto RELAY               the same, left to AutoRelay; reports once there is
//	                                an address over the relay
//	client dial RELAY PEER SIZE     open a circuit and echo SIZE bytes
//	client hold RELAY PEER          open a circuit and wait until it ends
//	client ping RELAY PEER          open a circuit and ping over it
//	client relay                    be a relay
//
// Every mode prints reports (package report). Those that stay leave when standard
// input ends.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/internal/interop/report"
)

// patience bounds whatever is waited for: far more than any of it takes, so
// that a hang is told and not sat out.
const patience = 60 * time.Second

// options are the flags; what a mode does not use, it ignores.
type options struct {
	security string
	duration time.Duration
	bytes    int64
}

// session is one run: a host, what it was asked to do, and where to report.
type session struct {
	options
	host host.Host
	args []string
	out  *json.Encoder
}

var modes = map[string]struct {
	args int
	run  func(context.Context, *session) error
}{
	"reserve": {1, reserve},
	"auto":    {1, auto},
	"dial":    {3, dial},
	"hold":    {2, hold},
	"ping":    {2, pingPeer},
	"relay":   {0, serveRelay},
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}

func run() error {
	var o options
	flag.StringVar(&o.security, "security", "", "tls or noise; both if empty")
	flag.DurationVar(&o.duration, "circuit-time", 0, "relay: how long a circuit may last")
	flag.Int64Var(&o.bytes, "circuit-bytes", 0, "relay: what a circuit may carry each way")
	flag.Parse()
	m, ok := modes[flag.Arg(0)]
	if !ok || flag.NArg() != 1+m.args {
		return errors.New("want a mode and its arguments: see the package doc")
	}
	h, err := newHost(o, flag.Arg(0), flag.Arg(1))
	if err != nil {
		return err
	}
	defer h.Close()
	s := &session{options: o, host: h, args: flag.Args()[1:], out: json.NewEncoder(os.Stdout)}
	return m.run(context.Background(), s)
}

// tell prints a report.
func (s *session) tell(r report.Report) error {
	r.ID, r.Libp2p = s.host.ID().String(), libp2pVersion()
	return s.out.Encode(r)
}

// relay connects to the relay that the first argument names.
func (s *session) relay(ctx context.Context) (peer.AddrInfo, error) {
	info, err := peer.AddrInfoFromString(s.args[0])
	if err != nil {
		return peer.AddrInfo{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return *info, s.host.Connect(ctx, *info)
}
