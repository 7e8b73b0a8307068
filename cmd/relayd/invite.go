package main

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/google/renameio/v2/maybe"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/spf13/cobra"

	"github.com/causeway-p2p/causeway/admin"
	"github.com/causeway-p2p/causeway/internal/cli"
	"github.com/causeway-p2p/causeway/node"
)

func newInvite(o *options) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "invite",
		Short: "Print the settings by which peers and other relays join the network",
		Long: `invite prints a TOML file for --config, of peer and of relayd alike, that names the
running relay's network and this relay as somebody to join through.

With --allow-private, or if the relay has private addresses only, those who are
invited use private addresses too.`,
		Example: `  relayd invite > demo.toml                on the relay's machine
  peer up --config demo.toml               on another
  relayd invite --write /shared/demo.toml  for whoever waits for the file`,
		Args: cli.Args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.withRunning(cmd, func(c *admin.Client) error {
				s, err := c.Status(cmd.Context())
				if err != nil {
					return err
				}
				text, err := invitation(s, o.AllowPrivate)
				if err != nil {
					return err
				}
				if file != "" {
					return writeInvitation(file, text)
				}
				_, err = fmt.Fprint(cmd.OutOrStdout(), text)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&file, "write", "", "write it to a file instead, that others may read; it is there whole, or not at all")
	return cmd
}

// invitation is the file for those who join the network through a relay.
// Private addresses come into it where they are allowed, or all that there is.
func invitation(s node.Status, private bool) (string, error) {
	if s.Network == node.PublicNetwork {
		return "# The public network: peers find this relay there by themselves, with no invitation.\n" +
			"network = \"public\"\n", nil
	}
	addrs := slices.DeleteFunc(slices.Clone(withoutLoopback(s.Addrs)), func(a string) bool { return !private && !isPublic(a) })
	only := len(addrs) == 0 && !private
	if only {
		addrs = slices.Clone(withoutLoopback(s.Addrs))
	}
	if len(addrs) == 0 {
		return "", cli.Fail(errors.New("the relay has no address yet that others could join through"), "a moment later, or relayd --announce with the address that others see")
	}
	slices.SortStableFunc(addrs, func(a, b string) int { return rank(b) - rank(a) })
	var b strings.Builder
	fmt.Fprintf(&b, "# An invitation to the network %s. To join it: peer up --config FILE, or relayd --config FILE\n", s.Network)
	if only {
		b.WriteString("# The relay knows of private addresses only. If others see another: relayd --announce\n")
	}
	fmt.Fprintf(&b, "network = %q\nbootstrap = [\n", s.Network)
	for _, a := range addrs {
		fmt.Fprintf(&b, "  %q,\n", a+"/p2p/"+s.ID)
	}
	b.WriteString("]\n")
	if private || only {
		b.WriteString("allow-private = true\n")
	}
	return b.String(), nil
}

func isPublic(addr string) bool {
	a, err := ma.NewMultiaddr(addr)
	return err == nil && manet.IsPublicAddr(a)
}

// writeInvitation replaces the file at once: somebody may wait for it. It holds
// no secret, and whoever reads it is another user.
func writeInvitation(path, text string) error {
	err := maybe.WriteFile(path, []byte(text), 0o644)
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	if err != nil {
		return cli.Fail(fmt.Errorf("invitation %s: %w", path, err), "--write with a file in a directory that you may write to")
	}
	return nil
}
