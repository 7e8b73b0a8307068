package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"github.com/causeway-p2p/causeway/admin"
)

// TestRunningErrors: each way not to reach the running node has its own advice.
func TestRunningErrors(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{openError(fmt.Errorf("%w (nobody)", admin.ErrNotRunning), "peer up"), "Error: no node is running here (nobody)\nTry: start one with: peer up, or name the --data-dir of the one that runs\n"},
		{openError(fmt.Errorf("control socket x: %w", syscall.EACCES), "peer up"), "Error: control socket x: permission denied\nTry: as the user who started it, or with your own --data-dir\n"},
		{openError(errors.New("too long"), "peer up"), "Error: too long\nTry: another --data-dir, with a short path that you own\n"},
		{StoppedError(errors.Join(admin.ErrStopped, io.ErrUnexpectedEOF), "peer up"), "Error: the running node has stopped\nTry: start it again with: peer up\n"},
		{StoppedError(io.EOF, "peer up"), "Error: EOF\n"},
	} {
		var out strings.Builder
		if code := report(&cobra.Command{}, &out, c.err); code != exitFailure || out.String() != c.want {
			t.Errorf("got exit code %d, %q; want %q", code, out.String(), c.want)
		}
	}
}
