package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"

	"github.com/causeway-p2p/causeway/admin"
	"github.com/causeway-p2p/causeway/autorelay"
	"github.com/causeway-p2p/causeway/node"
)

// Identity reads or creates the key in a data directory.
func Identity(dataDir string) (crypto.PrivKey, error) {
	path := filepath.Join(dataDir, "key")
	key, _, err := node.LoadIdentity(path)
	if err != nil {
		return nil, Fail(err, "move the file away to get a new identity, or put a good copy in its place; it is never overwritten")
	}
	return key, nil
}

// NewID is the subcommand that prints the peer ID of the key in the data
// directory.
func NewID(f *NodeFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "id",
		Short: "Print the peer ID, creating the key if there is none",
		Args:  Args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := f.OpenDataDir()
			if err != nil {
				return err
			}
			key, err := Identity(dir)
			if err != nil {
				return err
			}
			id, err := peer.IDFromPrivateKey(key)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), id)
			return err
		},
	}
}

// StartNode starts a node with its control socket and, if asked for, metrics.
// It returns what ends these two. The socket comes first: if another node
// answers there, this one must not even open its ports.
func StartNode(ctx context.Context, n *node.Node, f *NodeFlags, opts ...admin.Option) (_ func(), err error) {
	var closers []io.Closer
	closeAll := func() {
		for _, c := range closers {
			c.Close()
		}
	}
	defer func() {
		if err != nil {
			closeAll()
		}
	}()
	socket, err := f.Socket()
	if err != nil {
		return nil, err
	}
	server, err := admin.Serve(n, socket, opts...)
	if errors.Is(err, admin.ErrInUse) {
		return nil, Fail(fmt.Errorf("another %s is running with data directory %s", f.program, f.DataDir), "%s status, or another --data-dir", f.program)
	}
	if err != nil {
		return nil, Fail(err, "another --data-dir, with a short path that you own")
	}
	closers = append(closers, server)
	if f.registry != nil {
		m, err := admin.ServeMetrics(f.Metrics, f.registry)
		if err != nil {
			return nil, Fail(err, "another address for --metrics")
		}
		closers = append(closers, m)
	}
	if err := n.Start(ctx); err != nil {
		return nil, StartError(errors.Join(err, n.Close()))
	}
	return closeAll, nil
}

// Teller prints events, each with the time of day. Verdicts come with every
// piece of evidence; those that say what the last one said are left out, and so
// is what goes as it should.
type Teller struct {
	w    io.Writer
	last map[string]string // by kind of event
	// found are the relays that were told of: several sources name each.
	found  map[peer.ID]bool
	failed map[peer.ID]string // what was last said of one that gives no reservation
}

// maxFound bounds the relays that are remembered as told of; there are more
// in the world, and one that is told of twice does no harm.
const maxFound = 4096

// NewTeller prints to w.
func NewTeller(w io.Writer) *Teller {
	return &Teller{w: w, last: make(map[string]string), found: make(map[peer.ID]bool), failed: make(map[peer.ID]string)}
}

// Tell prints an event, unless it is nothing new.
func (t *Teller) Tell(e node.Event) {
	text := e.String()
	switch e := e.(type) {
	case node.DirectAttempt:
		if e.Outcome.Direct() {
			return // the change of path says it
		}
	case node.RelayFound:
		if t.found[e.Relay] {
			return // by another source
		}
		if len(t.found) >= maxFound {
			clear(t.found)
		}
		t.found[e.Relay] = true
	case node.RelayReserved:
		delete(t.failed, e.Relay)
	case node.RelayFailed:
		if t.failed[e.Relay] == text {
			return // it is tried again and again
		}
		if len(t.failed) >= maxFound {
			clear(t.failed)
		}
		t.failed[e.Relay] = text
	case node.CircuitEnded:
		if e.Upgraded {
			return // as it should
		}
	case node.RelayLost:
		if e.Reason == autorelay.NotNeeded {
			return // nothing is wrong
		}
	case node.ReachabilityChanged, node.RelayService, node.Announced:
		kind := node.EventName(e)
		if t.last[kind] == text {
			return
		}
		t.last[kind] = text
	}
	PrintLine(t.w, e.When(), text)
}

// PrintLine prints a sentence with the time of day.
func PrintLine(w io.Writer, at time.Time, text string) {
	fmt.Fprintf(w, "%s  %s\n", at.Format("15:04:05.000"), text)
}

// NewStatus is the subcommand that asks the running node how it is. The start
// command is what to try if there is none.
func NewStatus(f *NodeFlags, start string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Ask the one that is running how it is",
		Args:  Args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			socket, err := f.Socket()
			if err != nil {
				return err
			}
			c, err := OpenRunning(cmd.Context(), socket, start)
			if err != nil {
				return err
			}
			defer c.Close()
			s, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			if !asJSON {
				return writeStatus(cmd.OutOrStdout(), s, time.Now())
			}
			enc := json.NewEncoder(cmd.OutOrStdout())
			enc.SetIndent("", "  ")
			return enc.Encode(s)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// writeStatus says a status in words.
func writeStatus(w io.Writer, s node.Status, now time.Time) error {
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-13s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("peer ID", "%s", s.ID)
	if s.Connections == 0 {
		row("network", "%s (connected to nobody: this machine is offline, or nobody to join through answers)", s.Network)
	} else {
		row("network", "%s (%s, %s)", s.Network, count(s.Connections, "connection"), count(s.RoutingTable, "DHT peer"))
	}
	row("running", "for %s, version %s", seconds(now.Sub(s.Started)), s.Version)
	reach := "others cannot reach this node yet"
	if s.Reachable {
		reach = "others can reach this node"
	}
	row("reachable", "%s", reach)
	row("reachability", "%s: %s", s.Reachability.Reachability, s.Reachability.Because)
	if s.PortMapping != nil {
		row("port mapping", "%s", s.PortMapping.Text)
	}
	for i, a := range s.Addrs {
		name := "addresses"
		if i > 0 {
			name = ""
		}
		row(name, "%s", a)
	}
	if s.AutoRelay != nil {
		writeRelays(row, *s.AutoRelay, now)
	}
	writePaths(row, s.Paths, now)
	if r := s.Relay; r != nil {
		serving := "not serving"
		if r.Serving {
			serving = "serving"
		}
		row("relay", "%s: %s", serving, r.Because)
		row("in use", "%s, %s, %d bytes relayed", count(r.Reservations, "reservation"), count(r.Circuits, "circuit"), r.Bytes)
		row("limits", "%s", r.Limits)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeRelays(row func(string, string, ...any), s autorelay.Status, now time.Time) {
	if !s.Wanted {
		row("relays", "none needed")
		return
	}
	if len(s.Relays) == 0 {
		row("relays", "none found yet")
	}
	for i, r := range s.Relays {
		name := "relays"
		if i > 0 {
			name = ""
		}
		detail := ""
		switch {
		case r.State == autorelay.Reserved:
			detail = fmt.Sprintf(", %s away, for %s more", Duration(r.RTT), seconds(r.Expires.Sub(now)))
		case r.Reason != "":
			detail = fmt.Sprintf(": %s", r.Reason)
			switch {
			case r.Retry.After(now):
				detail += ", again in " + seconds(r.Retry.Sub(now))
			case r.State == autorelay.BackingOff:
				detail += ", again when its turn comes" // others are asked first, or none is missing
			}
		}
		state := string(r.State)
		if r.State == autorelay.Reserved && !r.Advertised {
			state += " as standby"
		}
		if r.Wish != autorelay.NoWish {
			state += ", " + string(r.Wish)
		}
		row(name, "%s %s (found: %s)%s", r.ID, state, strings.Join(r.Sources, ", "), detail)
	}
}
