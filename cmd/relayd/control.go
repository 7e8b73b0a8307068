package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-p2p/causeway/admin"
	"github.com/causeway-p2p/causeway/internal/cli"
	"github.com/causeway-p2p/causeway/node"
)

// newControls are the subcommands that look at the relay that runs, and change
// what it does.
func newControls(o *options) []*cobra.Command {
	return []*cobra.Command{
		newReservations(o), newCircuits(o), newTop(o), newLimits(o),
		newKick(o), newBan(o), newUnban(o), newDrain(o), newDump(o),
	}
}

// withRunning does something with the relay that runs.
func (o *options) withRunning(cmd *cobra.Command, do func(*admin.Client) error) error {
	socket, err := o.Socket()
	if err != nil {
		return err
	}
	c, err := cli.OpenRunning(cmd.Context(), socket, "relayd")
	if err != nil {
		return err
	}
	defer c.Close()
	return explain(cmd, do(c))
}

// explain says what to try after an error of the relay that runs.
func explain(cmd *cobra.Command, err error) error {
	var e *admin.Error
	switch {
	case !errors.As(err, &e):
		return err
	case e.Kind == admin.NotFound:
		return cli.Fail(err, "the whole ID, or one that these show: relayd reservations, relayd circuits, relayd top")
	case e.Kind == admin.BadRequest:
		return cli.Usage(err, "%s --help", cmd.CommandPath())
	}
	return err
}

const peerHelp = `PEER is a peer ID, or its last 6 characters or more, as the tables show them.`

func newKick(o *options) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "kick PEER",
		Short:   "End the circuits and the reservation of a peer; it may come back",
		Long:    "kick ends what a peer has at this relay. It may come back: see ban.\n\n" + peerHelp,
		Example: "  relayd kick 12D3…znuEPX",
		Args:    cli.Args("PEER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.withRunning(cmd, func(c *admin.Client) error {
				k, err := c.Kick(cmd.Context(), args[0])
				if err != nil || asJSON {
					return jsonOr(cmd, k, err)
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "kicked %s: %s and %s ended\n",
					node.ShortID(k.Peer), many(k.Circuits, "circuit"), many(k.Reservations, "reservation"))
				return err
			})
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}

func newBan(o *options) *cobra.Command {
	var d time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ban PEER",
		Short: "Kick a peer, and do not let it come back",
		Long: `ban ends what a peer has at this relay and does not let it come back, for a time or
until relayd stops. To keep somebody out for good, write it into the ACL.

` + peerHelp,
		Example: "  relayd ban 12D3…znuEPX --for 24h",
		Args:    cli.Args("PEER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("for") && d <= 0 {
				return cli.Usage(fmt.Errorf("--for is %v, want more than 0", d), "--for 24h, or no --for")
			}
			return o.withRunning(cmd, func(c *admin.Client) error {
				b, err := c.Ban(cmd.Context(), args[0], d)
				if err != nil || asJSON {
					return jsonOr(cmd, b, err)
				}
				until := "until relayd stops"
				if d > 0 {
					until = "for " + shortDuration(d)
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "banned %s %s\n", node.ShortID(b.Peer), until)
				return err
			})
		},
	}
	cmd.Flags().DurationVar(&d, "for", 0, "how long (default until relayd stops)")
	addJSON(cmd, &asJSON)
	return cmd
}

func newUnban(o *options) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "unban PEER",
		Short:   "Lift a ban",
		Long:    "unban lets a peer come back that was banned. What the ACL denies stays denied.\n\n" + peerHelp,
		Example: "  relayd unban 12D3…znuEPX",
		Args:    cli.Args("PEER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.withRunning(cmd, func(c *admin.Client) error {
				b, err := c.Unban(cmd.Context(), args[0])
				if err != nil || asJSON {
					return jsonOr(cmd, b, err)
				}
				if !b.Was {
					return cli.Fail(fmt.Errorf("%s is not banned", node.ShortID(b.Peer)), "relayd dump shows the bans; the ACL is a file of yours")
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s may come back\n", node.ShortID(b.Peer))
				return err
			})
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}

func newDrain(o *options) *cobra.Command {
	var d time.Duration
	cmd := &cobra.Command{
		Use:   "drain",
		Short: "Stop politely, as after the first Ctrl-C",
		Long: `drain makes the running relay take no new reservations and circuits, tell its peers
to go elsewhere (--sibling), let circuits run on for a while, and stop. It returns
when the relay has stopped.`,
		Example: "  relayd drain --for 5m",
		Args:    cli.Args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("for") && d <= 0 {
				return cli.Usage(fmt.Errorf("--for is %v, want more than 0", d), "--for 1m")
			}
			return o.withRunning(cmd, func(c *admin.Client) error {
				drains := false
				err := c.Drain(cmd.Context(), d, func() {
					drains = true
					fmt.Fprintln(cmd.OutOrStdout(), "draining")
				})
				if err != nil {
					if drains && cmd.Context().Err() != nil {
						fmt.Fprintln(cmd.ErrOrStderr(), "the relay drains on")
					}
					return err
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "stopped")
				return err
			})
		},
	}
	cmd.Flags().DurationVar(&d, "for", 0, "how long circuits may run on (default as the relay was started, --drain)")
	return cmd
}

func newDump(o *options) *cobra.Command {
	return &cobra.Command{
		Use:     "dump",
		Short:   "Print all that the relay knows, as JSON",
		Long:    "dump prints the status, reservations, circuits and bans, and whether the relay's books agree.",
		Example: "  relayd dump | jq .bans",
		Args:    cli.Args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.withRunning(cmd, func(c *admin.Client) error {
				s, err := c.Dump(cmd.Context())
				return jsonOr(cmd, s, err)
			})
		},
	}
}

func addJSON(cmd *cobra.Command, asJSON *bool) {
	cmd.Flags().BoolVar(asJSON, "json", false, "print JSON")
}

// jsonOr prints a value as JSON unless there is an error.
func jsonOr(cmd *cobra.Command, v any, err error) error {
	if err != nil {
		return err
	}
	return printJSON(cmd.OutOrStdout(), v)
}
