package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-p2p/causeway/admin"
	"github.com/causeway-p2p/causeway/node"
)

// NewHealthcheck is the subcommand by which a container engine or a supervisor
// learns whether the node works. What it prints is one line, which they show.
func NewHealthcheck(f *NodeFlags) *cobra.Command {
	var timeout time.Duration
	var ready bool
	means := "others can reach it"
	if f.program == "relayd" {
		means = "it serves as a relay and does not drain"
	}
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Exit with 0 if the one that is running answers, for containers and supervisors",
		Long: `healthcheck asks the node that is running how it is, and exits with 0 if it answers
in time, else with 1. With --ready it must also be of use: ` + means + `.`,
		Example: "  HEALTHCHECK CMD [\"/bin/" + f.program + "\", \"healthcheck\"]",
		Args:    Args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout <= 0 {
				return Usage(fmt.Errorf("--timeout is %v, want more than 0", timeout), "--timeout 3s")
			}
			socket, err := f.Socket()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			s, err := statusOf(ctx, socket)
			if errors.Is(err, context.DeadlineExceeded) {
				err = fmt.Errorf("the running node has not answered within %v", timeout)
			}
			if err != nil {
				return err // nothing to try: nobody may be there to read it
			}
			well, fault := health(s)
			if ready && fault != nil {
				return fault
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "healthy:", well)
			return err
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 3*time.Second, "how long the node may take to answer")
	cmd.Flags().BoolVar(&ready, "ready", false, "also fail unless "+means)
	return cmd
}

func statusOf(ctx context.Context, socket string) (node.Status, error) {
	c, err := admin.Open(ctx, socket)
	if err != nil {
		return node.Status{}, err
	}
	defer c.Close()
	return c.Status(ctx)
}

// health says in a few words how a node is and, if it is not of use to others,
// why.
func health(s node.Status) (well string, fault error) {
	r := s.Relay
	switch {
	case r == nil && s.Reachable:
		return "others can reach this node", nil
	case r == nil:
		const not = "others cannot reach this node yet"
		return not, errors.New(not)
	case r.Draining:
		return "draining", errors.New("the relay drains")
	case r.Serving:
		return fmt.Sprintf("serving as a relay, %s, %s", count(r.Reservations, "reservation"), count(r.Circuits, "circuit")), nil
	}
	return "not serving: " + r.Because, fmt.Errorf("not serving as a relay: %s", r.Because)
}
