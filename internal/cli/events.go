package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-p2p/causeway/admin"
	"github.com/causeway-p2p/causeway/autorelay"
	"github.com/causeway-p2p/causeway/direct"
	"github.com/causeway-p2p/causeway/node"
)

// Teller prints events, each with the time of day. Verdicts come with every
// piece of evidence; those that say what the last one said are left out, and so
// is what goes as it should.
type Teller struct {
	w    io.Writer
	last map[string]string // by kind of event
	// found are the relays that were told of: several sources name each.
	found  map[string]bool
	failed map[string]string // what was last said of one that gives no reservation
}

// maxFound bounds the relays that are remembered as told of; there are more
// in the world, and one that is told of twice does no harm.
const maxFound = 4096

// NewTeller prints to w.
func NewTeller(w io.Writer) *Teller {
	return &Teller{w: w, last: make(map[string]string), found: make(map[string]bool), failed: make(map[string]string)}
}

// told is what decides whether an event is told, and how: parts of the events
// in package node. Records have it also when they come over the control socket.
type told struct {
	Relay    string           `json:"relay"`
	Reason   autorelay.Reason `json:"reason"`
	Outcome  direct.Outcome   `json:"outcome"`
	Upgraded bool             `json:"upgraded"`
	Addrs    []string         `json:"addrs"`
}

// Tell prints an event, unless it is nothing new.
func (t *Teller) Tell(rec node.EventRecord) {
	var e told
	// What is not understood is a later version's, and told.
	_ = json.Unmarshal(rec.Data, &e)
	switch rec.Event {
	case "direct_attempt":
		if e.Outcome.Direct() {
			return // the change of path says it
		}
	case "relay_found":
		if t.found[e.Relay] {
			return // by another source
		}
		if len(t.found) >= maxFound {
			clear(t.found)
		}
		t.found[e.Relay] = true
	case "relay_reserved":
		delete(t.failed, e.Relay)
	case "relay_failed":
		if t.failed[e.Relay] == rec.Text {
			return // it is tried again and again
		}
		if len(t.failed) >= maxFound {
			clear(t.failed)
		}
		t.failed[e.Relay] = rec.Text
	case "circuit_ended":
		if e.Upgraded {
			return // as it should
		}
	case "relay_lost":
		if e.Reason == autorelay.NotNeeded {
			return // nothing is wrong
		}
	case "reachability_changed", "relay_service", "announced":
		if t.last[rec.Event] == rec.Text {
			return
		}
		t.last[rec.Event] = rec.Text
	}
	PrintLine(t.w, rec.Time, rec.Text)
}

// PrintLine prints a sentence with the time of day.
func PrintLine(w io.Writer, at time.Time, text string) {
	fmt.Fprintf(w, "%s  %s\n", at.Format("15:04:05.000"), text)
}

// ShowEvent prints an event, as a JSON object or in words. New addresses are
// worth their full text.
func ShowEvent(w io.Writer, t *Teller, rec node.EventRecord, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(rec)
	}
	t.Tell(rec)
	if rec.Event != node.EventName(node.AddrsChanged{}) {
		return nil
	}
	var e told
	if err := json.Unmarshal(rec.Data, &e); err != nil {
		return fmt.Errorf("event %s: %w", rec.Event, err)
	}
	for _, a := range e.Addrs {
		fmt.Fprintf(w, "              %s\n", a)
	}
	return nil
}

// NewEvents is the subcommand that shows what has happened to the running node,
// and what happens. The start command is what to try if there is none.
func NewEvents(f *NodeFlags, start string) *cobra.Command {
	var (
		asJSON, noFollow bool
		limit            time.Duration
	)
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what has happened to the one that is running, and what happens",
		Long: `events shows the last few hundred things that happened to the node that is running,
and goes on with what happens, until Ctrl-C or until the node stops.`,
		Args: Args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 0 {
				return Usage(fmt.Errorf("--for is %v, want more than 0", limit), "%s --for 1m", cmd.CommandPath())
			}
			return withRunning(cmd, f, start, func(ctx context.Context, c *admin.Client) error {
				if limit > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, limit)
					defer cancel()
				}
				return showEvents(ctx, cmd.OutOrStdout(), c, asJSON, !noFollow)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each as a JSON object on a line")
	cmd.Flags().BoolVar(&noFollow, "no-follow", false, "end after what has happened so far")
	cmd.Flags().DurationVar(&limit, "for", 0, "end after this time (default: go on)")
	return cmd
}

func showEvents(ctx context.Context, w io.Writer, c *admin.Client, asJSON, follow bool) error {
	teller := NewTeller(w)
	var failed error
	shown := false
	show := func(rec node.EventRecord) bool {
		shown = true
		failed = ShowEvent(w, teller, rec, asJSON)
		return failed == nil
	}
	events := c.Events
	if !follow {
		events = c.History
	}
	err := events(ctx, show)
	if errors.Is(err, admin.ErrStopped) {
		err = nil
	}
	if errors.Is(ctx.Err(), context.Canceled) && failed == nil && !(follow && shown) {
		return ErrInterrupted // nothing came of it yet, or not all
	}
	ended := ctx.Err() != nil // that is how it is
	if ended || failed != nil {
		return failed
	}
	if err == nil && follow && !asJSON {
		fmt.Fprintln(w, "the node has stopped")
	}
	return err
}
