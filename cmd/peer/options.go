package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"

	"github.com/causeway-p2p/causeway/admin"
	"github.com/causeway-p2p/causeway/internal/cli"
	"github.com/causeway-p2p/causeway/node"
)

// options are the flags that all subcommands share.
type options struct {
	cli.NodeFlags
	relays []string
	token  tokenOptions
	dev    bool
	portal string

	seekRelays bool // also an ephemeral node does
}

// add adds the flags that all subcommands share.
func (o *options) add(root *cobra.Command) {
	fs := root.PersistentFlags()
	o.NodeFlags.Add(fs, "peer", listenAny, true)
	fs.StringSliceVar(&o.relays, "relay", nil, "address of a relay to use besides those that are found (repeatable)")
	o.token.add(fs)
	fs.StringVar(&o.portal, "portal-url", node.DefaultPortalURL, "what netcheck fetches to find a captive portal: it answers 204 over plain HTTP (none: nothing)")
	fs.BoolVar(&o.dev, "dev", false, "join the \"relayd --dev\" that runs on this machine")
}

// joinDev points the flags at the relayd that runs on this machine.
func (o *options) joinDev(ctx context.Context) error {
	socket, err := cli.SocketOf("relayd")
	if err != nil {
		return err
	}
	const try = "relayd --dev, in another terminal"
	c, err := admin.Open(ctx, socket)
	if errors.Is(err, fs.ErrPermission) {
		return cli.Fail(err, "peer up without --dev, or as the user who started relayd")
	}
	if err != nil {
		return cli.Fail(fmt.Errorf("no relayd is running on this machine (nobody answers on %s)", socket), try)
	}
	defer c.Close()
	s, err := c.Status(ctx)
	if err != nil {
		return cli.Fail(err, try)
	}
	o.Network, o.AllowPrivate, o.Bootstrap = s.Network, true, nil
	for _, a := range s.Addrs {
		o.Bootstrap = append(o.Bootstrap, a+"/p2p/"+s.ID)
	}
	return nil
}

// newNode makes the node that the flags describe, with the identity in the
// data directory or, if ephemeral, one that nobody has seen before.
func (o *options) newNode(ctx context.Context, ephemeral bool) (*node.Node, error) {
	if o.dev {
		if err := o.joinDev(ctx); err != nil {
			return nil, err
		}
	}
	cfg, err := o.NodeFlags.Config(ctx)
	if err != nil {
		return nil, err
	}
	if cfg.StaticRelays, err = cli.ParsePeers("--relay", o.relays); err != nil {
		return nil, cli.Usage(err, "--relay /ip4/203.0.113.7/udp/4001/quic-v1/p2p/12D3…")
	}
	cfg.PortalURL = o.portal
	if cfg.Network != node.PublicNetwork && len(cfg.Bootstrap) == 0 {
		return nil, cli.Usage(fmt.Errorf("network %q needs somebody to join through", cfg.Network),
			"--bootstrap with the address that relayd prints")
	}
	if ephemeral {
		cfg.DataDir = ""
		if !o.seekRelays {
			cfg.Relays, cfg.NoPortMapping = -1, true // it reaches out only
		}
	} else {
		if cfg.DataDir, err = o.OpenDataDir(); err != nil {
			return nil, err
		}
		if cfg.Identity, err = cli.Identity(cfg.DataDir); err != nil {
			return nil, err
		}
	}
	n, err := node.New(cfg)
	if err != nil {
		return nil, cli.Usage(err, "peer --help")
	}
	if !ephemeral { // a token is for one peer
		if err := o.token.give(n); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// parsePeer reads a peer ID.
func parsePeer(s string) (peer.ID, error) {
	id, err := peer.Decode(s)
	if err != nil {
		return "", cli.Usage(fmt.Errorf("%q is not a peer ID", s), "an ID like 12D3KooW…, as \"peer id\" prints it")
	}
	return id, nil
}
