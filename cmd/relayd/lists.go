package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-p2p/causeway/admin"
	"github.com/causeway-p2p/causeway/internal/cli"
	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/relay"
	"github.com/causeway-p2p/causeway/relay/usage"
)

func newReservations(o *options) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "reservations",
		Short:   "List who holds a reservation",
		Long:    "reservations lists the reservations that the running relay has given, the oldest first.",
		Example: "  relayd reservations\n  relayd reservations --json | jq -r .[].peer",
		Args:    cli.Args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.withRunning(cmd, func(c *admin.Client) error {
				list, err := c.Reservations(cmd.Context())
				if err != nil || asJSON {
					return jsonOr(cmd, list, err)
				}
				now := time.Now()
				var rows [][]string
				for _, r := range list {
					rows = append(rows, []string{
						node.ShortID(r.Peer), r.Class, orDash(r.IP), short(now.Sub(r.Made)), short(r.Expires.Sub(now)), strconv.Itoa(r.Circuits),
					})
				}
				return cli.PrintTable(cmd.OutOrStdout(), "no reservations", []string{"PEER", "CLASS", "FROM", "AGE", "EXPIRES IN", "CIRCUITS"}, rows)
			})
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}

func newCircuits(o *options) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "circuits",
		Short: "List the circuits that are open",
		Long: `circuits lists the open circuits, the oldest first: who opened it to whom, in which
class, how long ago, what it has carried from the first to the second (UP) and
back (DOWN), and the bytes a second since the circuits were listed last.`,
		Example: "  relayd circuits\n  watch -n 2 relayd circuits",
		Args:    cli.Args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.withRunning(cmd, func(c *admin.Client) error {
				list, err := c.Circuits(cmd.Context())
				if err != nil || asJSON {
					return jsonOr(cmd, list, err)
				}
				now := time.Now()
				var rows [][]string
				for _, r := range list {
					rows = append(rows, []string{
						node.ShortID(r.From), node.ShortID(r.To), r.Class, short(now.Sub(r.Opened)),
						cli.Bytes(r.Up), cli.Bytes(r.Down), cli.Bytes(int64(r.Rate)) + "/s",
					})
				}
				return cli.PrintTable(cmd.OutOrStdout(), "no circuits", []string{"FROM", "TO", "CLASS", "AGE", "UP", "DOWN", "RATE"}, rows)
			})
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}

func newTop(o *options) *cobra.Command {
	var n int
	var by string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "top",
		Short: "List the peers that use the relay most",
		Long: `top lists the peers with the most bytes relayed, in all or this month (UTC), with
the most circuits, or with the most requests refused. The relay keeps accounts in
its data directory, so that they survive a restart.`,
		Example: "  relayd top\n  relayd top -n 5 --by month",
		Args:    cli.Args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n < 1 || n > 1000 {
				return cli.Usage(fmt.Errorf("-n is %d, want 1 to 1000", n), "relayd top -n 20")
			}
			return o.withRunning(cmd, func(c *admin.Client) error {
				list, err := c.Top(cmd.Context(), n, usage.By(by))
				if err != nil || asJSON {
					return jsonOr(cmd, list, err)
				}
				now := time.Now()
				var rows [][]string
				for _, u := range list {
					rows = append(rows, []string{
						node.ShortID(u.Peer), cli.Bytes(u.Bytes), cli.Bytes(u.MonthBytes),
						strconv.FormatInt(u.Circuits, 10), strconv.FormatInt(u.Refusals, 10), short(now.Sub(u.Last)) + " ago",
					})
				}
				return cli.PrintTable(cmd.OutOrStdout(), "nobody yet", []string{"PEER", "BYTES", "THIS MONTH", "CIRCUITS", "REFUSALS", "LAST"}, rows)
			})
		},
	}
	cmd.Flags().IntVarP(&n, "number", "n", 20, "how many")
	cmd.Flags().StringVar(&by, "by", string(usage.ByBytes), "what to rank by: bytes, month, circuits, refusals")
	addJSON(cmd, &asJSON)
	return cmd
}

func newLimits(o *options) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "limits",
		Short: "Show the limits, or change them while the relay runs",
		Long: `limits shows the limits that are in force: those of the relay and of strangers
(anonymous), and those of each class, the most trusted last.`,
		Example: "  relayd limits\n  relayd limits set bandwidth=50MB rate=1MB",
		Args:    cli.NoSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.withRunning(cmd, func(c *admin.Client) error {
				l, err := c.Limits(cmd.Context())
				if err != nil || asJSON {
					return jsonOr(cmd, l, err)
				}
				headings, rows := limitRowsOf(l)
				return cli.PrintTable(cmd.OutOrStdout(), "", headings, rows)
			})
		},
	}
	addJSON(cmd, &asJSON)
	cmd.AddCommand(newLimitsSet(o))
	return cmd
}

// limitRowsOf has a row for each limit and a column for each class.
func limitRowsOf(l relay.Limits) (headings []string, rows [][]string) {
	headings = []string{"LIMIT", strings.ToUpper(relay.Anonymous)}
	for _, c := range l.Classes {
		headings = append(headings, strings.ToUpper(c.Name))
	}
	for _, f := range limitsOf(&l) {
		row := []string{strings.ReplaceAll(f.name, "_", "-"), f.words()}
		for i := range l.Classes {
			of := classLimits(&l.Classes[i])
			at := slices.IndexFunc(of, func(c limit) bool { return c.name == f.name })
			if at < 0 {
				row = append(row, "-")
				continue
			}
			row = append(row, of[at].words())
		}
		rows = append(rows, row)
	}
	return headings, rows
}

func newLimitsSet(o *options) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "set NAME=VALUE…",
		Short: "Change limits until relayd stops",
		Long: `set changes limits of the running relay, until it stops or reads its settings again
(SIGHUP): to keep them, write them into its settings too. Rates hold at once;
otherwise reservations and circuits that stand keep what they were told.

The names are those of the flags, and of a class's limits CLASS.NAME. 0 or
"unlimited" lifts a limit.`,
		Example: "  relayd limits set bandwidth=50MB rate=1MB\n  relayd limits set member.circuit-bytes=10GB",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cli.Usage(errors.New("NAME=VALUE is missing"), "relayd limits set rate=1MB")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.withRunning(cmd, func(c *admin.Client) error {
				was, err := c.Limits(cmd.Context())
				if err != nil {
					return err
				}
				want, err := withLimits(was, args)
				if err != nil {
					return cli.Usage(err, "relayd limits shows the names")
				}
				now, err := c.SetLimits(cmd.Context(), want)
				if err != nil || asJSON {
					return jsonOr(cmd, now, err)
				}
				what := strings.Join(changes(was, now), "\n")
				if what == "" {
					what = "nothing changed"
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\nuntil relayd stops or reads its settings again: write them there too\n", what)
				return err
			})
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}

// withLimits are limits with some set, each NAME=VALUE or CLASS.NAME=VALUE.
func withLimits(l relay.Limits, args []string) (relay.Limits, error) {
	l.Classes = slices.Clone(l.Classes)
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			return l, fmt.Errorf("%.40q is not NAME=VALUE", arg)
		}
		list := limitsOf(&l)
		if class, field, ok := strings.Cut(name, "."); ok {
			at := slices.IndexFunc(l.Classes, func(c relay.Class) bool { return c.Name == class })
			if at < 0 {
				return l, fmt.Errorf("there is no class %.40q", class)
			}
			name, list = field, classLimits(&l.Classes[at])
		}
		if err := setLimit(list, name, value); err != nil {
			return l, err
		}
	}
	return l, nil
}

// short is a time with no more digits than an operator wants.
func short(d time.Duration) string {
	if d < time.Minute {
		return d.Round(time.Second).String()
	}
	return shortDuration(d.Round(time.Minute))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
