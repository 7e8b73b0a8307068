// Package cli is how both commands talk to the person who runs them: one clear
// sentence for an error and what to try, exit code 2 for a wrong call, 1 for a
// failure, 130 and no word for what Ctrl-C has ended, flags that can also come from
// the environment or a file.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/causeway-p2p/causeway/internal/logging"
)

// Exit codes.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitInterrupted = 130 // as shells say it: 128 and the number of SIGINT
)

// ErrInterrupted ends a command that whoever runs it did not want to wait for:
// nothing is said. A command that goes on until Ctrl-C returns nil.
var ErrInterrupted = errors.New("interrupted")

// hinted is an error with something to try.
type hinted struct {
	err   error
	try   string
	usage bool
}

func (h *hinted) Error() string { return h.err.Error() }
func (h *hinted) Unwrap() error { return h.err }

// Fail is a failure (exit code 1) with something to try.
func Fail(err error, try string, args ...any) error {
	return &hinted{err: err, try: fmt.Sprintf(try, args...)}
}

// Usage is a wrong call (exit code 2) with something to try.
func Usage(err error, try string, args ...any) error {
	return &hinted{err: err, try: fmt.Sprintf(try, args...), usage: true}
}

// Main runs a command and returns its exit code. The context that the command
// gets ends at the first Ctrl-C or SIGTERM; a second one exits at once.
func Main(root *cobra.Command) int {
	logging.CaptureLibp2p()
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return Usage(err, "%s --help", c.CommandPath())
	})
	ctx, stop := untilSignal(root.ErrOrStderr())
	defer stop()
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if wasInterrupted(ctx, err) {
		return exitInterrupted
	}
	return report(cmd, root.ErrOrStderr(), err)
}

// wasInterrupted reports whether a command has failed for no other reason than
// that the context of Main has ended.
func wasInterrupted(ctx context.Context, err error) bool {
	return errors.Is(err, ErrInterrupted) || ctx.Err() != nil && errors.Is(err, context.Canceled)
}

// report prints an error and returns the exit code for it.
func report(cmd *cobra.Command, w io.Writer, err error) int {
	var h *hinted
	if !errors.As(err, &h) && isUsage(err) {
		h = &hinted{err: err, try: cmd.CommandPath() + " --help", usage: true}
	}
	fmt.Fprintf(w, "Error: %s\n", plainly(OneLine(err)))
	if h == nil {
		return exitFailure
	}
	if h.try != "" {
		fmt.Fprintf(w, "Try: %s\n", h.try)
	}
	if h.usage {
		return exitUsage
	}
	return exitFailure
}

// isUsage recognises cobra's own complaints, which have no type.
func isUsage(err error) bool {
	s := err.Error()
	for _, p := range []string{"unknown command", "unknown flag", "unknown shorthand", "accepts ", "requires ", "invalid argument"} {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// OneLine joins several faults, which errors.Join puts on lines, and keeps
// cobra's suggestions readable.
func OneLine(err error) string {
	var parts []string
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			parts = append(parts, strings.TrimSuffix(line, "."))
		}
	}
	return strings.Join(parts, "; ")
}

// untilSignal returns a context that ends at the first signal. The second
// exits the program.
func untilSignal(w io.Writer) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case <-signals:
			cancel()
		case <-done:
			return
		}
		select {
		case <-signals:
			fmt.Fprintln(w, "stopped at once")
			os.Exit(exitInterrupted)
		case <-done:
		}
	}()
	return ctx, func() { signal.Stop(signals); close(done); cancel() }
}

// Args checks the number of arguments and names what is missing.
func Args(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			is := "is"
			if len(names)-len(args) > 1 {
				is = "are"
			}
			return Usage(fmt.Errorf("%s %s missing", strings.Join(names[len(args):], " and "), is), "%s", cmd.UseLine())
		case len(args) > len(names):
			return Usage(fmt.Errorf("unexpected argument %q", args[len(names)]), "%s", cmd.UseLine())
		}
		return nil
	}
}

// NoSuchCommand is for a command that only has subcommands.
func NoSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return Usage(fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath()), "%s --help", cmd.CommandPath())
}
