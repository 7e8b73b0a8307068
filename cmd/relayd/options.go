package main

import (
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-p2p/causeway/internal/cli"
	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/relay"
)

// options are relayd's flags.
type options struct {
	cli.NodeFlags
	relay    string
	dev      bool
	quiet    bool
	drain    time.Duration
	limits   relay.Limits
	siblings []string
	access   accessOptions
	tls      tlsOptions

	defaultDir bool // the data directory is where "peer --dev" looks
}

// Where relayd listens: TCP and WebSocket share a port. What
// comes to that with a certificate is in tls.go.
var (
	listenAll = []string{
		"/ip4/0.0.0.0/tcp/4001", "/ip6/::/tcp/4001",
		"/ip4/0.0.0.0/tcp/4001/ws", "/ip6/::/tcp/4001/ws",
		"/ip4/0.0.0.0/udp/4001/quic-v1", "/ip6/::/udp/4001/quic-v1",
	}
	listenLoopback = []string{
		"/ip4/127.0.0.1/tcp/4001", "/ip4/127.0.0.1/tcp/4001/ws", "/ip4/127.0.0.1/udp/4001/quic-v1",
	}
)

func (o *options) add(root *cobra.Command) {
	fs := root.PersistentFlags()
	o.NodeFlags.Add(fs, "relayd", listenAll, false)
	fs = root.Flags()
	fs.StringVar(&o.relay, "relay", string(relay.Auto), "when to serve: auto (while the internet can dial us), on, off")
	fs.BoolVar(&o.dev, "dev", false, "serve on loopback at once, on a network named \"dev\"")
	fs.BoolVar(&o.quiet, "quiet", false, "print nothing but errors")
	fs.DurationVar(&o.drain, "drain", 10*time.Second, "how long circuits may run on after the first Ctrl-C")
	fs.StringSliceVar(&o.siblings, "sibling", nil, "address of another relay that peers go to when this one stops (repeatable)")
	o.limits = relay.Limits{}.WithDefaults()
	addLimits(fs, &o.limits)
	o.access.add(fs)
	o.tls.add(fs)
}

// addSettings makes all flags settings, and the classes tables of the file.
func (o *options) addSettings(root *cobra.Command) *cli.Settings {
	s := cli.AddSettings(root, "RELAYD")
	s.Tables("class", func(tables []cli.Table) (err error) {
		o.limits.Classes, err = classesOf(tables)
		return err
	})
	return s
}

// limitsAgain reads the limits as if the program had just been started with its
// arguments: the file, or the environment, may say something else by now.
func limitsAgain(args []string) (relay.Limits, error) {
	root, o, settings := newProgram()
	if err := root.ParseFlags(args); err != nil {
		return relay.Limits{}, err
	}
	if err := settings.Apply(root); err != nil {
		return relay.Limits{}, err
	}
	return o.limits, o.limits.Validate()
}

// config turns the flags into a node's configuration.
func (o *options) config(cmd *cobra.Command) (node.Config, error) {
	o.defaultDir = o.DataDir == ""
	mode, err := relay.ParseMode(o.relay)
	if err != nil {
		return node.Config{}, cli.Usage(err, "--relay auto")
	}
	listen, secure := listenAll, listenTLS
	if o.dev {
		listen, secure = listenLoopback, listenTLSLoopback
	}
	if !cmd.Flags().Changed("listen") {
		o.Listen = listen
		if o.tls.cert != "" {
			o.Listen = slices.Concat(listen, secure)
		}
	}
	if err := o.tls.check(o.Listen); err != nil {
		return node.Config{}, err
	}
	if o.dev {
		if !cmd.Flags().Changed("network") {
			o.Network = "dev"
		}
		mode, o.AllowPrivate = relay.On, true
	}
	cfg, err := o.NodeFlags.Config(cmd.Context())
	if err != nil {
		return cfg, err
	}
	if cfg.Siblings, err = cli.ParsePeers("--sibling", o.siblings); err != nil {
		return cfg, cli.Usage(err, "--sibling /ip4/203.0.113.7/udp/4001/quic-v1/p2p/12D3…")
	}
	if err := o.limits.Validate(); err != nil {
		return cfg, cli.Usage(err, "relayd --help")
	}
	cfg.Server, cfg.Relay, cfg.RelayLimits = true, mode, o.limits
	cfg.Relays = -1 // a relay that cannot be dialled is no relay; it does not seek others
	cfg.NoHolePunching = true
	return cfg, nil
}
