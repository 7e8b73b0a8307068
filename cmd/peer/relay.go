package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/causeway-p2p/causeway/admin"
	"github.com/causeway-p2p/causeway/internal/cli"
)

func newRelay(o *options) *cobra.Command {
	root := &cobra.Command{
		Use:   "relay",
		Short: "Change which relays the running peer uses",
		Long: `relay changes which relays the running peer uses, until it stops. "peer status"
shows all that it knows.`,
		Args: cli.NoSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, v := range []struct {
		verb  admin.RelayVerb
		short string
	}{
		{admin.PreferRelay, "Take a relay rather than one that is a little nearer"},
		{admin.PinRelay, "Hold a relay, whatever else there is"},
		{admin.BanRelay, "Let a relay go and never use it"},
		{admin.ClearRelay, "Undo prefer, pin and ban"},
		{admin.RemoveRelay, "Let a relay go and forget it; it may be found again"},
	} {
		root.AddCommand(&cobra.Command{
			Use:   string(v.verb) + " RELAY",
			Short: v.short,
			Args:  cli.Args("RELAY"),
			RunE: func(cmd *cobra.Command, args []string) error {
				id, err := parsePeer(args[0])
				if err != nil {
					return err
				}
				return o.withRunning(cmd, func(c *admin.Client) error { return c.Relay(cmd.Context(), v.verb, id) })
			},
		})
	}
	root.AddCommand(&cobra.Command{
		Use:   "add ADDRESS",
		Short: "Use a relay besides those that are found",
		Args:  cli.Args("ADDRESS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			infos, err := cli.ParsePeers("ADDRESS", args)
			if err != nil {
				return cli.Usage(err, "peer relay add /ip4/203.0.113.7/udp/4001/quic-v1/p2p/12D3…")
			}
			return o.withRunning(cmd, func(c *admin.Client) error { return c.AddRelay(cmd.Context(), infos[0]) })
		},
	})
	return root
}

// withRunning does something to the peer that runs, and says so.
func (o *options) withRunning(cmd *cobra.Command, do func(*admin.Client) error) error {
	socket, err := o.Socket()
	if err != nil {
		return err
	}
	c, err := cli.OpenRunning(cmd.Context(), socket, "peer up")
	if err != nil {
		return err
	}
	defer c.Close()
	if err := do(c); err != nil {
		return cli.Fail(err, "peer status shows the relays that are known")
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), "done")
	return err
}
