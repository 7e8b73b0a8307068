// Command peer runs a libp2p peer that others can reach from anywhere, and is
// a tool to use it with.
//
//	peer up --network demo --bootstrap …   run a peer, also behind a NAT
//	peer ping PEER                         find a peer by its ID and ping it
//	peer netcheck                          can others reach me, and whom can I reach
//	peer listen SERVICE                    pipe standard input and output …
//	peer connect PEER SERVICE              … to another peer
//	peer status                            how the running peer is
//	peer events                            what happens to it
//	peer relay pin RELAY                   change which relays it uses
//
// ping, netcheck, listen and connect use the running peer, if there is one, and
// otherwise start one that lives as long as the command.
package main

import (
	"os"

	"github.com/spf13/cobra"
	_ "golang.org/x/crypto/x509roots/fallback" // for images from scratch, which have no CA certificates

	"github.com/causeway-p2p/causeway/internal/cli"
	"github.com/causeway-p2p/causeway/node"
)

func main() { os.Exit(cli.Main(newRoot())) }

// listenAny is where a peer listens: ports that are free.
var listenAny = []string{
	"/ip4/0.0.0.0/udp/0/quic-v1", "/ip6/::/udp/0/quic-v1",
	"/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0",
}

func newRoot() *cobra.Command {
	var o options
	root := &cobra.Command{
		Use:   "peer",
		Short: "Be reachable from anywhere, and reach others by their peer ID",
		Long: `peer makes this machine reachable for libp2p peers, also from behind a NAT, and
reaches others by their peer ID alone.

Every flag can also be set by an environment variable (PEER_ and the flag's
name, as in PEER_NETWORK) or in a TOML file (--config).`,
		Example: `  peer up                                        join the public network
  peer up --network demo --bootstrap /ip4/203.0.113.7/udp/4001/quic-v1/p2p/12D3…
  peer ping 12D3…
  tar c docs | peer connect 12D3… backup         on one machine
  peer listen backup | tar x                     on the other`,
		Version: node.Version,
		Args:    cli.NoSuchCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	o.add(root)
	root.AddCommand(newUp(&o), cli.NewStatus(&o.NodeFlags, "peer up"), cli.NewEvents(&o.NodeFlags, "peer up"), cli.NewHealthcheck(&o.NodeFlags), newPing(&o), newNetcheck(&o), newListen(&o), newConnect(&o), newRelay(&o), cli.NewID(&o.NodeFlags))
	cli.AddSettings(root, "PEER")
	return root
}
