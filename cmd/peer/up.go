package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/causeway-p2p/causeway/internal/cli"
	"github.com/causeway-p2p/causeway/node"
)

func newUp(o *options) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run a peer and show what happens to it, until Ctrl-C",
		Long: `up joins the network, finds out whether this machine can be dialled, and if not
finds relays, reserves on them and advertises circuit addresses. It prints each
step as it happens. Other subcommands use the peer while it runs.`,
		Args: cli.Args(),
		RunE: func(cmd *cobra.Command, _ []string) error { return up(cmd, o, asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each step as a JSON object")
	return cmd
}

func up(cmd *cobra.Command, o *options, asJSON bool) (err error) {
	ctx := cmd.Context()
	n, err := o.newNode(ctx, false)
	if err != nil {
		return err
	}
	events := n.Events(context.WithoutCancel(ctx))
	closeServers, err := cli.StartNode(ctx, n, &o.NodeFlags)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	defer closeServers()
	defer o.token.follow(ctx, n, cmd.ErrOrStderr())()

	out := cmd.OutOrStdout()
	if !asJSON {
		fmt.Fprintf(out, "peer %s\n  peer ID   %s\n  network   %s\n\n", node.Version, n.ID(), n.Status().Network)
	}
	teller := cli.NewTeller(out)
	told := false
	for {
		select {
		case <-ctx.Done():
			if !asJSON {
				fmt.Fprintln(out, "stopped")
			}
			return nil
		case e, ok := <-events:
			if !ok {
				return errors.New("the node stopped")
			}
			rec, err := node.Record(e)
			if err != nil {
				return err
			}
			if err := cli.ShowEvent(out, teller, rec, asJSON); err != nil {
				return err
			}
			if !told && !asJSON && n.Reachable() {
				told = true
				cli.PrintLine(out, e.When(), "reachable; from another peer: peer ping "+n.ID().String())
			}
		}
	}
}
