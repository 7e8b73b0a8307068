package cli

import (
	"context"
	"errors"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/causeway-p2p/causeway/admin"
)

// OpenRunning connects to the node that runs; start is how to start one.
func OpenRunning(ctx context.Context, socket, start string) (*admin.Client, error) {
	c, err := admin.Open(ctx, socket)
	if err != nil {
		return nil, openError(err, start)
	}
	return c, nil
}

// withRunning does something with the node that runs.
func withRunning(cmd *cobra.Command, f *NodeFlags, start string, do func(context.Context, *admin.Client) error) error {
	socket, err := f.Socket()
	if err != nil {
		return err
	}
	c, err := OpenRunning(cmd.Context(), socket, start)
	if err != nil {
		return err
	}
	defer c.Close()
	return do(cmd.Context(), c)
}

// openError says what to try when nobody could be asked.
func openError(err error, start string) error {
	switch {
	case errors.Is(err, admin.ErrNotRunning):
		return Fail(err, "start one with: %s, or name the --data-dir of the one that runs", start)
	case errors.Is(err, fs.ErrPermission):
		return Fail(err, "as the user who started it, or with your own --data-dir")
	}
	return Fail(err, "another --data-dir, with a short path that you own")
}

// StoppedError says what to try when a node stopped while it was asked; other
// errors stay as they are.
func StoppedError(err error, start string) error {
	if errors.Is(err, admin.ErrStopped) {
		return Fail(admin.ErrStopped, "start it again with: %s", start)
	}
	return err
}
