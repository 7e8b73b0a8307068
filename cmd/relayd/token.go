package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
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
	for _, l := range tokenLimits(&t.Limits) {
		// Not named like relayd's own limits, whose settings would end up here.
		fl.Var(l, "limit-"+strings.ReplaceAll(l.name, "_", "-"), l.usage+" (auto: the class's)")
	}
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

// tokenLimits lists the limits of a token: auto leaves one to the class.
func tokenLimits(l *auth.Limits) []limit {
	list := []limit{
		field(countKind, "circuits", &l.Circuits, auth.Unlimited, "circuits of the peer at a time"),
		field(durationKind, "circuit_time", &l.CircuitTime, auth.Unlimited, "how long a circuit may last"),
		field(bytesKind, "circuit_bytes", &l.CircuitBytes, auth.Unlimited, "bytes a circuit may carry each way"),
		field(bytesKind, "rate", &l.Rate, auth.Unlimited, "bytes a second of all circuits of the peer together"),
		field(bytesKind, "burst", &l.Burst, auth.Unlimited, "bytes that they may carry at once after a pause"),
		field(bytesKind, "monthly_bytes", &l.MonthlyBytes, auth.Unlimited, "bytes that they may carry in a calendar month (UTC)"),
	}
	for i := range list {
		list[i].auto = 0
	}
	return list
}

// limitRows says those limits that are not the class's.
func limitRows(l auth.Limits) (rows []string) {
	for _, f := range tokenLimits(&l) {
		if f.get() != f.auto {
			rows = append(rows, strings.ReplaceAll(f.name, "_", " ")+" "+f.words())
		}
	}
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
