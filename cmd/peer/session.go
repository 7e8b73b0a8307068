package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/causeway-p2p/causeway/admin"
	"github.com/causeway-p2p/causeway/internal/cli"
	"github.com/causeway-p2p/causeway/node"
)

// session is a command's access to a node: the one that runs, or one of its
// own. Both are used over the control socket, so there is one way for both.
type session struct {
	*admin.Client
	own  *node.Node // nil if another process runs the node
	undo []func() error
}

// open finds the running peer or, if there is none, starts one in this
// process. An ephemeral one has a new identity and only reaches out. Of the
// flags that are for starting a peer, the command heeds those named also if one
// runs.
func (o *options) open(cmd *cobra.Command, ephemeral bool, heeds ...string) (*session, error) {
	socket, err := o.Socket()
	if err != nil {
		return nil, err
	}
	c, err := cli.OpenRunning(cmd.Context(), socket, "peer up")
	if errors.Is(err, admin.ErrNotRunning) {
		return o.openOwn(cmd.Context(), ephemeral, socket)
	}
	if err != nil {
		return nil, err
	}
	s := &session{Client: c}
	if err := o.sameNetwork(cmd, c); err != nil {
		return nil, errors.Join(err, s.close())
	}
	sayIgnored(cmd, heeds)
	return s, nil
}

// sayIgnored names the flags on the command line that would have been for
// starting a peer. What the environment and the file say is for all commands,
// and no surprise.
func sayIgnored(cmd *cobra.Command, heeds []string) {
	heeds = append(heeds, "data-dir", "network", "dev", "config") // which peer it is
	var ignored []string
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if cmd.InheritedFlags().Lookup(f.Name) != nil && !slices.Contains(heeds, f.Name) {
			ignored = append(ignored, "--"+f.Name)
		}
	})
	if len(ignored) == 0 {
		return
	}
	have := "has"
	if len(ignored) > 1 {
		have = "have"
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "a peer runs already, on which %s %s no effect; stop it first, or use another --data-dir\n",
		strings.Join(ignored, " and "), have)
}

// sameNetwork refuses to use a running peer that is elsewhere.
func (o *options) sameNetwork(cmd *cobra.Command, c *admin.Client) error {
	if !cmd.Flags().Changed("network") {
		return nil
	}
	s, err := c.Status(cmd.Context())
	if err != nil {
		return err
	}
	if s.Network != o.Network {
		return cli.Fail(fmt.Errorf("the running peer is on network %q, not %q", s.Network, o.Network),
			"stop it, or use another --data-dir")
	}
	return nil
}

func (o *options) openOwn(ctx context.Context, ephemeral bool, socket string) (_ *session, err error) {
	n, err := o.newNode(ctx, ephemeral)
	if err != nil {
		return nil, err
	}
	s := &session{own: n}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if ephemeral {
		dir, err := os.MkdirTemp("", "peer-")
		if err != nil {
			return nil, err
		}
		s.undo = append(s.undo, func() error { return os.RemoveAll(dir) })
		socket = filepath.Join(dir, "control.sock")
	}
	s.undo = append(s.undo, n.Close)
	if err := n.Start(ctx); err != nil {
		return nil, cli.StartError(err)
	}
	server, err := admin.Serve(n, socket)
	if err != nil {
		return nil, err
	}
	s.undo = append(s.undo, server.Close)
	if s.Client, err = admin.Open(ctx, socket); err != nil {
		return nil, err
	}
	if !ephemeral {
		if err := n.WaitReachable(ctx); err != nil { // others must find us
			return nil, err
		}
	}
	return s, nil
}

func (s *session) close() error {
	if s.Client != nil {
		s.Client.Close()
	}
	var errs []error
	for i := len(s.undo) - 1; i >= 0; i-- {
		errs = append(errs, s.undo[i]())
	}
	return errors.Join(errs...)
}

// lingerTime bounds linger.
const lingerTime = 2 * time.Second

// linger keeps an own node alive until the other side has gone or a moment has
// passed: closing it at once would throw away what is still on the way.
func (s *session) linger(p peer.ID) {
	if s.own == nil {
		return
	}
	gone := make(chan struct{}, 1)
	n := s.own.Host().Network()
	bundle := &network.NotifyBundle{DisconnectedF: func(_ network.Network, c network.Conn) {
		if c.RemotePeer() == p {
			select {
			case gone <- struct{}{}:
			default:
			}
		}
	}}
	n.Notify(bundle)
	defer n.StopNotify(bundle)
	if n.Connectedness(p) == network.NotConnected {
		return
	}
	select {
	case <-gone:
	case <-time.After(lingerTime):
	}
}

// explain says what to try after an error of the running node.
func explain(cmd *cobra.Command, err error) error {
	var e *admin.Error
	if !errors.As(err, &e) {
		return cli.StoppedError(err, "peer up")
	}
	switch e.Kind {
	case admin.NotJoined:
		return cli.Fail(err, "this machine's network, and the --bootstrap address; peer netcheck says what gets out")
	case admin.NotFound:
		return cli.Fail(err, "is it up, and on the same --network? On its machine: peer status")
	case admin.Unreachable:
		return cli.Fail(err, "peer status on both machines; the other one may have just lost its network")
	case admin.Refused:
		return cli.Fail(err, "peer listen SERVICE on the other machine")
	case admin.BadRequest:
		return cli.Usage(err, "%s --help", cmd.CommandPath())
	case admin.Self:
		return cli.Usage(err, "the ID of another peer")
	}
	return err
}
