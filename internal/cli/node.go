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

// NewStatus is the subcommand that asks the running node how it is. The start
// command is what to try if there is none.
func NewStatus(f *NodeFlags, start string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Ask the one that is running how it is",
		Args:  Args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withRunning(cmd, f, start, func(ctx context.Context, c *admin.Client) error {
				s, err := c.Status(ctx)
				if err != nil {
					return err
				}
				if !asJSON {
					return writeStatus(cmd.OutOrStdout(), s, time.Now())
				}
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(s)
			})
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
		if r.Overloaded != "" {
			row("overloaded", "new work is refused: %s", r.Overloaded)
		}
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
