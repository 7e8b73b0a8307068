package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-p2p/causeway/admin"
	"github.com/causeway-p2p/causeway/internal/cli"
	"github.com/causeway-p2p/causeway/node"
)

func newConnect(o *options) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "connect PEER SERVICE",
		Short: "Pipe standard input and output to a service of a peer",
		Long: `connect opens a service that "peer listen" offers on another machine, sends it
standard input and prints what it sends. It exits 0 only after the other side
has read everything.`,
		Args: cli.Args("PEER", "SERVICE"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			id, err := parsePeer(args[0])
			if err != nil {
				return err
			}
			s, err := o.open(cmd, true)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, s.close()) }()
			st, err := s.Connect(cmd.Context(), id, args[1], timeout)
			if err != nil {
				return explain(cmd, err)
			}
			defer st.Close()
			return give(cmd.Context(), st)
		},
	}
	cmd.Flags().DurationVarP(&timeout, "timeout", "t", 30*time.Second, "how long to try to connect")
	return cmd
}

func newListen(o *options) *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use:   "listen SERVICE",
		Short: "Offer a service: pipe standard input and output to the first who connects",
		Long: `listen waits for one "peer connect" to the service, prints what it sends and
sends it standard input. It exits 0 when both directions have ended.`,
		Args: cli.Args("SERVICE"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			s, err := o.open(cmd, false)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, s.close()) }()
			st, err := s.Listen(cmd.Context(), args[0])
			if err != nil {
				return explain(cmd, err)
			}
			defer st.Close()
			say := func(format string, a ...any) {
				if !quiet {
					fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", a...)
				}
			}
			status, err := s.Status(cmd.Context())
			if err != nil {
				return err
			}
			say("listening; from another peer: peer connect %s %s", status.ID, args[0])
			who, err := st.Peer(cmd.Context())
			if err != nil {
				return err
			}
			say("%s connected %s", node.ShortID(who.Peer), who.Path)
			defer s.linger(who.Peer)
			return receive(cmd.Context(), st)
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing but what the other side sends")
	return cmd
}

// give is the connecting side: it sends standard input and ends when the other
// side has, which by receive's rule means that everything has arrived.
func give(ctx context.Context, st *admin.Stream) error {
	defer context.AfterFunc(ctx, func() { st.Close() })()
	sent := make(chan error, 1)
	go func() {
		err := send(st)
		if err == nil { // otherwise what was sent is not all
			err = st.CloseWrite()
		}
		sent <- err
	}()
	received := make(chan error, 1)
	go func() { _, err := io.Copy(os.Stdout, st); received <- err }()
	for {
		select {
		case err := <-sent:
			if err == nil {
				sent = nil
				continue
			}
			if _, socket := errors.AsType[*net.OpError](err); socket {
				// The node closed it, and has said before why.
				if why := <-received; why != nil {
					err = why
				}
			}
			return pipeError(ctx, err)
		case err := <-received:
			if err == nil && sent != nil {
				err = st.CloseWrite() // nobody wants the rest of our input
			}
			return pipeError(ctx, err)
		}
	}
}

// receive is the listening side: it ends its own direction only after it has
// written everything that the other side sent.
func receive(ctx context.Context, st *admin.Stream) error {
	defer context.AfterFunc(ctx, func() { st.Close() })()
	sent := make(chan error, 1)
	go func() { sent <- send(st) }()
	_, err := io.Copy(os.Stdout, st)
	if err == nil {
		err = errors.Join(<-sent, st.CloseWrite())
	}
	return pipeError(ctx, err)
}

// send copies standard input. A terminal is not read when the output goes
// elsewhere: nobody is there to type.
func send(st *admin.Stream) error {
	if isTerminal(os.Stdin) && !isTerminal(os.Stdout) {
		return nil
	}
	_, err := io.Copy(st, os.Stdin)
	return err
}

func pipeError(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return cli.ErrInterrupted
	case errors.Is(err, io.ErrUnexpectedEOF):
		return cli.Fail(errors.New("the stream ended in the middle: the local peer stopped"), "start it again with: peer up")
	}
	return cli.Fail(err, "run it again on both sides; what arrived so far is incomplete")
}

func isTerminal(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0 && st.Mode()&os.ModeDevice != 0 && !isNull(st)
}

func isNull(st os.FileInfo) bool {
	null, err := os.Stat(os.DevNull)
	return err == nil && os.SameFile(null, st)
}
