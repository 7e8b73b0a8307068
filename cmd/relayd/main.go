// Command relayd runs a public libp2p relay: DHT server, AutoNAT server and
// circuit v2 relay, which serves while the internet can dial it.
//
//	relayd                       on ports 4001, joining the public network
//	relayd --network demo        the first node of a network of your own
//	relayd --dev                 on loopback, at once, for trying things out
//	relayd status                how the running relay is; circuits, top, kick, …
package main

import (
	"os"

	"github.com/spf13/cobra"
	_ "golang.org/x/crypto/x509roots/fallback" // for images from scratch, which have no CA certificates

	"github.com/causeway-p2p/causeway/internal/cli"
	"github.com/causeway-p2p/causeway/node"
)

func main() { os.Exit(cli.Main(newRoot())) }

func newRoot() *cobra.Command {
	root, _, _ := newProgram()
	return root
}

func newProgram() (*cobra.Command, *options, *cli.Settings) {
	var o options
	root := &cobra.Command{
		Use:   "relayd",
		Short: "Run a libp2p relay for peers that cannot be dialled",
		Long: `relayd makes this machine a relay for libp2p peers behind NATs and firewalls.

It listens on port 4001 (TCP, WebSocket and QUIC), joins the network, finds out
whether the internet can dial it, and serves while that is so. Peers find it
through the DHT.

Every flag can also be set by an environment variable (RELAYD_ and the flag's
name, as in RELAYD_NETWORK) or in a TOML file (--config). The file also has the
classes of peers for whom other limits hold, and SIGHUP makes the running relay
read its limits and classes, the ACL, the revocations and the certificate again.`,
		Example: `  relayd                                  a relay on the public network
  relayd --network demo --relay on        the first node of a private network
  relayd --announce /ip4/203.0.113.7/udp/4001/quic-v1    behind Docker or a cloud's NAT
  relayd --tls-cert fullchain.pem --tls-key privkey.pem  on port 443 as well, for strict firewalls
  relayd --dev                            on loopback, for trying things out`,
		Args:    cli.Args(),
		Version: node.Version,
		RunE:    func(cmd *cobra.Command, _ []string) error { return serve(cmd, &o) },
	}
	o.add(root)
	root.AddCommand(cli.NewStatus(&o.NodeFlags, "relayd"), cli.NewEvents(&o.NodeFlags, "relayd"), cli.NewHealthcheck(&o.NodeFlags), cli.NewID(&o.NodeFlags), newInvite(&o), newToken())
	root.AddCommand(newControls(&o)...)
	return root, &o, o.addSettings(root)
}
