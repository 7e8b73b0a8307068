package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/spf13/cobra"

	"github.com/causeway-p2p/causeway/admin"
	"github.com/causeway-p2p/causeway/internal/cli"
	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/portmap"
	"github.com/causeway-p2p/causeway/reachability"
)

const (
	// netcheckWait is how long a verdict may take that rests on more than one
	// server's word.
	netcheckWait = 10 * time.Second
	// settleMore is how long after that the transports and the router are
	// waited for that have not answered, and settleLook how often one looks.
	settleMore, settleLook = 3 * time.Second, 100 * time.Millisecond
	// measureTime is how long the report itself takes where nobody answers: with
	// nobody connected, the wait is shorter by that.
	measureTime = 2 * time.Second
	// meetTime is how long after its start a node has heard from those it met
	// where they see it.
	meetTime = time.Second
	// watchEvery is how often --watch looks when nothing has happened, and
	// watchGap the least time between two looks, since events come in bursts.
	watchEvery, watchGap = 30 * time.Second, 2 * time.Second
)

type netcheck struct {
	*session
	out, progress io.Writer
	wait          time.Duration
	json, watch   bool
	portal        string // what to fetch instead of what the peer fetches; empty if nothing
}

func newNetcheck(o *options) *cobra.Command {
	var c netcheck
	cmd := &cobra.Command{
		Use:   "netcheck",
		Short: "Tell whether others can reach this machine, and whom it can reach directly",
		Long: `netcheck tells whether others can reach this machine, what is in the way, and
which peers it can reach directly. It asks the running peer or, if there is none,
starts one for as long as it takes. It exits 0 whatever it finds.`,
		Args: cli.Args(),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if c.wait < 0 {
				return cli.Usage(fmt.Errorf("--wait is %v, want 0 or more", c.wait), "%s --help", cmd.CommandPath())
			}
			o.seekRelays = true
			if c.session, err = o.open(cmd, true, "portal-url"); err != nil {
				return err
			}
			if cmd.Flags().Changed("portal-url") {
				c.portal = o.portal
			}
			defer func() { err = errors.Join(err, c.close()) }()
			c.out, c.progress = cmd.OutOrStdout(), cmd.ErrOrStderr()
			r, err := c.first(cmd.Context())
			if c.watch && errors.Is(err, cli.ErrInterrupted) {
				return nil // as later
			}
			if err != nil || !c.watch {
				return explain(cmd, err)
			}
			return explain(cmd, c.follow(cmd.Context(), r))
		},
	}
	f := cmd.Flags()
	f.BoolVar(&c.json, "json", false, "print JSON")
	f.BoolVar(&c.watch, "watch", false, "go on, and print a line for each change, until Ctrl-C")
	f.DurationVar(&c.wait, "wait", netcheckWait, "how long to wait for a verdict that rests on more than one server's word")
	return cmd
}

// first waits for a verdict and prints the report.
func (c *netcheck) first(ctx context.Context) (node.Netcheck, error) {
	err := c.settle(ctx)
	if err != nil {
		return node.Netcheck{}, err
	}
	r, err := c.Netcheck(ctx, c.portal)
	if ctx.Err() != nil {
		return r, cli.ErrInterrupted
	}
	if err != nil {
		return r, err
	}
	if !c.json {
		return r, cli.WriteNetcheck(c.out, r)
	}
	enc := json.NewEncoder(c.out)
	if !c.watch { // then it is one object a line
		enc.SetIndent("", "  ")
	}
	return r, enc.Encode(r)
}

// settle shows what happens until the verdict is settled or will not be, or the
// time is over. What is then still being looked at gets a moment more.
// Meanwhile the node measures, so that it knows about a portal in the end.
func (c *netcheck) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.wait)
	var shown sync.WaitGroup
	defer shown.Wait()
	defer cancel()
	if c.own != nil { // what happened to a running peer long ago is no progress
		shown.Go(func() { c.show(ctx) })
	}
	look := time.NewTicker(settleLook)
	defer look.Stop()
	begun := time.Now()
	var settled time.Time
	var measure sync.Once
	told := c.own != nil
	for {
		s, err := c.Status(ctx)
		if ctx.Err() != nil {
			return nil // the time is over; the report says what is known
		}
		if err != nil {
			return err
		}
		if hopeless(s, time.Now()) || s.Connections == 0 && c.wait > 2*measureTime && time.Since(begun) > c.wait-measureTime {
			return nil
		}
		switch {
		case !settled.IsZero():
		case node.Settled(s.Reachability):
			settled = time.Now()
		case !told:
			told = true
			fmt.Fprintf(c.progress, "the running peer has no verdict yet that two servers agree on; waiting up to %v\n", c.wait)
		}
		if !settled.IsZero() && (!pending(s) || time.Since(settled) > settleMore) {
			return nil
		}
		measure.Do(func() {
			shown.Go(func() {
				if _, err := c.Netcheck(ctx, c.portal); err != nil && ctx.Err() == nil {
					fmt.Fprintln(c.progress, "nothing is measured meanwhile:", err)
				}
			})
		})
		select {
		case <-ctx.Done():
		case <-look.C:
		}
	}
}

// show prints events until ctx ends.
func (c *netcheck) show(ctx context.Context) {
	err := c.Events(ctx, func(e node.EventRecord) bool {
		if ctx.Err() == nil {
			cli.PrintLine(c.progress, e.Time, e.Text)
		}
		return true
	})
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(c.progress, "no more progress is shown:", err)
	}
}

// hopeless reports whether no server will ever judge the node: it listens on
// loopback only, or all whom it has met, relays among them, see it at private
// addresses, as with --dev. Relays are waited for a moment.
func hopeless(s node.Status, now time.Time) bool {
	if len(s.Reachability.Addrs) > 0 || s.Reachability.Reachability != reachability.Unknown {
		return false
	}
	loopback := len(s.Listen) > 0 && !slices.ContainsFunc(s.Listen, func(a string) bool {
		m, err := ma.NewMultiaddr(a)
		return err != nil || !manet.IsIPLoopback(m)
	})
	up := now.Sub(s.Started)
	return s.Reachable && up > meetTime || loopback && up > settleMore
}

// pending reports whether a transport has no verdict yet, or the router none.
func pending(s node.Status) bool {
	return s.PortMapping != nil && s.PortMapping.State == portmap.Searching ||
		slices.ContainsFunc(s.Reachability.Transports, func(t reachability.TransportVerdict) bool {
			return t.Reachability == reachability.Unknown
		})
}

// follow prints what changes: a line for each, or a JSON report.
func (c *netcheck) follow(ctx context.Context, last node.Netcheck) error {
	ctx, cancel := context.WithCancel(ctx)
	look := make(chan struct{}, 1)
	ended := make(chan error, 1)
	var events sync.WaitGroup
	defer events.Wait()
	defer cancel()
	events.Go(func() {
		ended <- c.Events(ctx, func(node.EventRecord) bool {
			select {
			case look <- struct{}{}:
			default: // it will be looked at anyway
			}
			return true
		})
	})
	for {
		select {
		case err := <-ended:
			if ctx.Err() != nil {
				return nil
			}
			if err == nil {
				err = admin.ErrStopped
			}
			return err
		case <-look:
		case <-time.After(watchEvery):
		}
		r, err := c.Netcheck(ctx, c.portal)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.tell(last, r); err != nil {
			return err
		}
		last = r
		select {
		case <-ctx.Done():
		case <-time.After(watchGap):
		}
	}
}

func (c *netcheck) tell(last, r node.Netcheck) error {
	changes := cli.NetcheckChanges(last, r)
	if c.json && len(changes) > 0 {
		return json.NewEncoder(c.out).Encode(r)
	}
	for _, l := range changes {
		text := l.Text
		if l.Name != "" {
			text = fmt.Sprintf("%-14s  %s", l.Name, l.Text)
		}
		cli.PrintLine(c.out, r.Time, text)
	}
	return nil
}
