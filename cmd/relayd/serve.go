package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/spf13/cobra"

	"github.com/causeway-p2p/causeway/admin"
	"github.com/causeway-p2p/causeway/internal/cli"
	"github.com/causeway-p2p/causeway/node"
)

// running is a relay while it serves.
type running struct {
	opts   *options
	node   *node.Node
	access *access
	tls    *certificate // nil if there is none
	out    io.Writer

	forPeerTold bool // how peers join has been told
}

// serve runs the relay until a signal, or until it is asked to drain.
func serve(cmd *cobra.Command, o *options) (err error) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	cfg, err := o.config(cmd)
	if err != nil {
		return err
	}
	r := &running{opts: o, out: cmd.OutOrStdout()}
	if o.quiet {
		r.out = io.Discard
	}
	if r.access, cfg.RelayAccess, err = o.access.open(o.limits); err != nil {
		return err
	}
	if err := r.access.count(cfg.Registerer); err != nil {
		return err
	}
	if r.tls, err = o.tls.open(context.WithoutCancel(cmd.Context()), &cfg); err != nil {
		return err
	}
	if err := r.tls.count(cfg.Registerer); err != nil {
		return err
	}
	if cfg.DataDir, err = o.OpenDataDir(); err != nil {
		return err
	}
	if cfg.Identity, err = cli.Identity(cfg.DataDir); err != nil {
		return err
	}
	if r.node, err = node.New(cfg); err != nil {
		return cli.Usage(err, "relayd --help")
	}
	ctx := cmd.Context()
	events := r.node.Events(context.WithoutCancel(ctx))
	drains := make(chan time.Duration, 1)
	closeServers, err := cli.StartNode(ctx, r.node, &o.NodeFlags, admin.OnDrain(func(d time.Duration) {
		select {
		case drains <- d:
		default: // drains already
		}
	}))
	if err != nil {
		return err
	}
	// The socket goes last: who asked us to drain waits for its end.
	defer closeServers()
	defer func() { err = errors.Join(err, r.node.Close()) }()
	defer r.access.follow()()
	defer r.tls.follow()()

	status := r.node.Status()
	printPanel(r.out, o, status, r.access.String(), r.tls)
	r.forPeerTold = o.peerCommand(status) != ""
	teller := cli.NewTeller(r.out)
	for {
		select {
		case <-ctx.Done():
			leave(r.out, r.node, o.drain, nil)
			return nil
		case d := <-drains:
			if d == 0 {
				d = o.drain
			}
			leave(r.out, r.node, d, ctx.Done())
			return nil
		case <-hup:
			r.reload(os.Args[1:])
		case n := <-r.access.news:
			r.take(n)
		case text := <-r.tls.told():
			r.say("%s", text)
		case e, ok := <-events:
			if !ok {
				return errors.New("the node stopped")
			}
			if _, is := e.(node.AddrsChanged); is {
				r.tellPeerCommand(r.node.Status(), e.When())
			}
			if !worthTelling(e) {
				continue
			}
			rec, err := node.Record(e)
			if err != nil { // no reason to stop serving
				fmt.Fprintln(cmd.ErrOrStderr(), "cannot tell an event:", err)
				continue
			}
			teller.Tell(rec)
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

// printPanel says who and where we are, what we do, and what to do next.
func printPanel(w io.Writer, o *options, s node.Status, openTo string, cert *certificate) {
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
	if cert != nil {
		row("over TLS", cert.words(s))
	}
	row("reachability", fmt.Sprintf("%s: %s", s.Reachability.Reachability, s.Reachability.Because))
	if s.Relay != nil {
		serving := "not serving"
		if s.Relay.Serving || s.Relay.Mode == "on" {
			serving = "serving"
		}
		row("relay", fmt.Sprintf("%s (--relay=%s): %s", serving, s.Relay.Mode, s.Relay.Because))
		row("open to", openTo)
		row("limits", s.Relay.Limits.String())
		for _, l := range furtherLimits(s.Relay.Limits) {
			row("", l)
		}
	}
	row("for a peer", o.forPeer(s))
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

// rank says how many peers can use an address, and how well. It is negative
// for what is no address.
func rank(addr string) int {
	a, err := ma.NewMultiaddr(addr)
	if err != nil {
		return -1
	}
	r := 0
	if manet.IsPublicAddr(a) {
		r += 8
	}
	if !manet.IsIPLoopback(a) {
		r += 4
	}
	if strings.Contains(addr, "/quic-v1") {
		r += 2
	}
	if strings.HasPrefix(addr, "/ip4/") || strings.HasPrefix(addr, "/dns") {
		r++
	}
	return r
}
