package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"

	"github.com/causeway-p2p/causeway/auth"
	"github.com/causeway-p2p/causeway/internal/cli"
	"github.com/causeway-p2p/causeway/node"
)

// newToken is about the tokens that relays take; it needs no relay that runs.
func newToken() *cobra.Command {
	root := &cobra.Command{
		Use:   "token",
		Short: "Make tokens that peers show to relays, to be served better",
		Long: `token makes tokens. A token says that one peer belongs to a class, for a time, and
is signed with a key that relays trust. It is worth nothing to any other peer.`,
		Example: `  relayd token key --key issuer.key --create       once; relays are told the ID that it prints
  relayd token new --key issuer.key --peer 12D3… --class member
  peer up --token causeway1_…                      on the peer's machine`,
		Args: cli.NoSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddCommand(newTokenKey(), newTokenNew(), newTokenShow())
	return root
}

func newTokenKey() *cobra.Command {
	var file string
	var create, asJSON bool
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Print the ID of a key that signs tokens",
		Args:  cli.Args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, issuer, err := issuerKey(file, create)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), struct {
					Issuer peer.ID `json:"issuer"`
				}{issuer})
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), issuer)
			return err
		},
	}
	addKeyFlag(cmd, &file)
	cmd.Flags().BoolVar(&create, "create", false, "create the file, for its owner only, if there is none")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// issued is a new token as JSON.
type issued struct {
	Text string `json:"token"`
	auth.Token
}

func newTokenNew() *cobra.Command {
	var file, id string
	var asJSON bool
	var valid time.Duration
	var t auth.Token
	cmd := &cobra.Command{
		Use:   "new",
		Short: "Make a token for a peer",
		Long: `new prints a token for a peer, on one line. What its class may is up to the relay;
the limits given take the place of the class's.`,
		Args: cli.Args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if t.Peer, err = peer.Decode(id); err != nil {
				return cli.Usage(fmt.Errorf("--peer %q is not a peer ID", id), "--peer 12D3KooW…, as \"peer id\" prints it on the peer's machine")
			}
			if valid < time.Second {
				return cli.Usage(fmt.Errorf("--for is %v, want a second or more", valid), "--for 720h")
			}
			key, _, err := issuerKey(file, false)
			if err != nil {
				return err
			}
			t.NotBefore = time.Now()
			t.Expires = t.NotBefore.Add(valid)
			text, err := auth.Sign(key, t)
			if err != nil {
				return cli.Usage(err, "%s --help", cmd.CommandPath())
			}
			if !asJSON {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
				return err
			}
			s, err := auth.Parse(text)
			if err != nil {
				return err
			}
			return printJSON(cmd.OutOrStdout(), issued{text, s.Token})
		},
	}
	addKeyFlag(cmd, &file)
	fl := cmd.Flags()
	fl.StringVar(&id, "peer", "", "ID of the peer that may show the token")
	fl.StringVar(&t.Class, "class", "member", "what the peer belongs to: a name that the relay knows")
	fl.DurationVar(&valid, "for", 30*24*time.Hour, "how long the token is valid, from now")
	fl.BoolVar(&asJSON, "json", false, "print JSON")
	// Not named like relayd's own limits, whose settings would end up here.
	l := &t.Limits
	fl.Int64Var(&l.Circuits, "limit-circuits", 0, "circuits of the peer at a time (here and below, 0: the class's, -1: unlimited)")
	fl.DurationVar(&l.CircuitTime, "limit-circuit-time", 0, "how long a circuit may last (-1ns: unlimited)")
	fl.Int64Var(&l.CircuitBytes, "limit-circuit-bytes", 0, "bytes a circuit may carry each way")
	fl.Int64Var(&l.Rate, "limit-rate", 0, "bytes a second that all circuits of the peer may carry")
	fl.Int64Var(&l.Burst, "limit-burst", 0, "bytes that they may carry at once after a pause")
	fl.Int64Var(&l.MonthlyBytes, "limit-monthly-bytes", 0, "bytes that they may carry in a calendar month")
	return cmd
}

func newTokenShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show TOKEN",
		Short: "Say what a token says",
		Args:  cli.Args("TOKEN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := auth.Parse(args[0])
			if err != nil {
				return cli.Usage(err, "the whole line that begins with causeway1_")
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), s.Token)
			}
			writeToken(cmd.OutOrStdout(), s.Token, time.Now())
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// writeToken says a token in words.
func writeToken(w io.Writer, t auth.Token, now time.Time) {
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-9s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("peer", "%s", t.Peer)
	row("class", "%s", t.Class)
	limits := limitRows(t.Limits)
	if len(limits) == 0 {
		limits = []string{"those of the class"}
	}
	for i, l := range limits {
		name := "limits"
		if i > 0 {
			name = ""
		}
		row(name, "%s", l)
	}
	if !t.NotBefore.IsZero() {
		row("from", "%s", t.NotBefore.Format(time.RFC3339))
	}
	left := "over, by this machine's clock"
	if now.Before(t.Expires) {
		left = fmt.Sprintf("for %v more", t.Expires.Sub(now).Round(time.Second))
	}
	row("until", "%s (%s)", t.Expires.Format(time.RFC3339), left)
	row("issuer", "%s", t.Issuer)
	row("serial", "%s", t.Serial)
}

// limitRows says those limits that are not the class's.
func limitRows(l auth.Limits) (rows []string) {
	add := func(value int64, some, none string) {
		switch {
		case value == auth.Unlimited:
			rows = append(rows, none)
		case value != 0:
			rows = append(rows, fmt.Sprintf(some, value))
		}
	}
	add(l.Circuits, "%d circuits at a time", "any number of circuits")
	switch {
	case l.CircuitTime == auth.Unlimited:
		rows = append(rows, "circuits of any length")
	case l.CircuitTime != 0:
		rows = append(rows, fmt.Sprintf("each circuit up to %v", l.CircuitTime))
	}
	add(l.CircuitBytes, "each circuit up to %d bytes each way", "circuits of any size")
	add(l.Rate, "%d bytes a second in all", "any number of bytes a second")
	add(l.Burst, "%d bytes at once", "any number of bytes at once")
	add(l.MonthlyBytes, "%d bytes a month", "any number of bytes a month")
	return rows
}

func addKeyFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "key", "", "file with the key that signs tokens")
}

// issuerKey reads a key. A file that is not there is only made when asked for: a
// typing error would else sign tokens that nobody trusts.
func issuerKey(file string, create bool) (crypto.PrivKey, peer.ID, error) {
	if file == "" {
		return nil, "", cli.Usage(errors.New("--key is missing"), "--key issuer.key")
	}
	if _, err := os.Stat(file); !create && errors.Is(err, fs.ErrNotExist) {
		return nil, "", cli.Fail(fmt.Errorf("there is no key file %s", file), "relayd token key --key %s --create", file)
	}
	key, _, err := node.LoadIdentity(file)
	if err != nil {
		return nil, "", cli.Fail(err, "another --key; a file that is there is never overwritten")
	}
	id, err := peer.IDFromPrivateKey(key)
	return key, id, err
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
