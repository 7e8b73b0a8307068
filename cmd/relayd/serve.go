package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/spf13/cobra"

	"github.com/causeway-p2p/causeway/internal/cli"
	"github.com/causeway-p2p/causeway/node"
)

// serve runs the relay until a signal.
func serve(cmd *cobra.Command, o *options) (err error) {
	cfg, err := o.config(cmd)
	if err != nil {
		return err
	}
	if cfg.DataDir, err = o.OpenDataDir(); err != nil {
		return err
	}
	if cfg.Identity, err = cli.Identity(cfg.DataDir); err != nil {
		return err
	}
	n, err := node.New(cfg)
	if err != nil {
		return cli.Usage(err, "relayd --help")
	}
	out := cmd.OutOrStdout()
	if o.quiet {
		out = io.Discard
	}
	ctx := cmd.Context()
	events := n.Events(context.WithoutCancel(ctx))
	closeServers, err := cli.StartNode(ctx, n, &o.NodeFlags)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	defer closeServers()

	printPanel(out, o, n.Status())
	teller := cli.NewTeller(out)
	for {
		select {
		case <-ctx.Done():
			leave(out, o, n)
			return nil
		case e, ok := <-events:
			if !ok {
				return errors.New("the node stopped")
			}
			if worthTelling(e) {
				teller.Tell(e)
			}
		}
	}
}

// worthTelling leaves out what is noise for an operator.
func worthTelling(e node.Event) bool {
	switch e.(type) {
	case node.PathChanged, node.RelayFound:
		return false
	}
	return true
}

// moveTime is how long peers with a reservation get to move to another relay
// when no circuit keeps this one up anyway: a few round trips.
const moveTime = 2 * time.Second

// leave stops politely: no new reservations, a while for the peers to move and
// for the circuits that run, then everything is closed. A second Ctrl-C exits
// at once (cli.Main).
func leave(out io.Writer, o *options, n *node.Node) {
	start := time.Now()
	n.Drain(o.drain)
	told := false
	for {
		s := n.Status().Relay
		gone := time.Since(start)
		if s == nil || gone >= o.drain || s.Circuits == 0 && (s.Reservations == 0 || gone >= moveTime) {
			break
		}
		if !told {
			told = true
			fmt.Fprintf(out, "draining: %d reservations may move and %d circuits run on, for %v; press Ctrl-C again to exit now\n",
				s.Reservations, s.Circuits, o.drain)
		}
		time.Sleep(50 * time.Millisecond)
	}
	fmt.Fprintln(out, "stopped")
}

// printPanel says who and where we are, what we do, and what to do next.
func printPanel(w io.Writer, o *options, s node.Status) {
	row := func(name, value string) { fmt.Fprintf(w, "  %-13s %s\n", name, value) }
	list := func(name string, values []string) {
		if len(values) == 0 {
			row(name, "none")
		}
		for i, v := range values {
			if i > 0 {
				name = ""
			}
			row(name, v)
		}
	}
	fmt.Fprintf(w, "relayd %s\n", s.Version)
	row("peer ID", s.ID)
	row("network", s.Network)
	list("listening", s.Listen)
	list("announcing", withoutLoopback(s.Addrs))
	row("reachability", fmt.Sprintf("%s: %s", s.Reachability.Reachability, s.Reachability.Because))
	if s.Relay != nil {
		serving := "not serving"
		if s.Relay.Serving || s.Relay.Mode == "on" {
			serving = "serving"
		}
		row("relay", fmt.Sprintf("%s (--relay=%s): %s", serving, s.Relay.Mode, s.Relay.Because))
		row("limits", s.Relay.Limits.String())
	}
	row("for a peer", o.peerCommand(s))
	fmt.Fprintln(w)
}

// withoutLoopback hides addresses that only this machine can use, unless there
// are no others.
func withoutLoopback(addrs []string) []string {
	var out []string
	for _, s := range addrs {
		if a, err := ma.NewMultiaddr(s); err != nil || !manet.IsIPLoopback(a) {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return addrs
	}
	return out
}

func rank(a ma.Multiaddr) int {
	r := 0
	if manet.IsPublicAddr(a) {
		r += 8
	}
	if !manet.IsIPLoopback(a) {
		r += 4
	}
	if strings.Contains(a.String(), "/quic-v1") {
		r += 2
	}
	if strings.HasPrefix(a.String(), "/ip4/") || strings.HasPrefix(a.String(), "/dns") {
		r++
	}
	return r
}
