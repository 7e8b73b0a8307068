//go:build unix

package cmd_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestInterrupted: Ctrl-C on a command that waits for a node which does not answer
// ends it without a word, as that is what its user wanted, and with exit code 130.
func TestInterrupted(t *testing.T) {
	const id = "12D3KooWEZXjE41uU4EL2gpkAQeDXYok6wghN7wwNVPF5bwkaNfS"
	for _, line := range []string{
		"relayd status", "relayd events", "relayd events --no-follow --json", "relayd healthcheck", "relayd healthcheck --ready --timeout 1m",
		"relayd invite", "relayd drain", "relayd dump", "relayd limits", "relayd limits set rate=1MB", "relayd reservations",
		"relayd circuits", "relayd top", "relayd kick " + id, "relayd ban " + id, "relayd unban " + id,
		"peer status --json", "peer events", "peer healthcheck --timeout 1m", "peer netcheck", "peer netcheck --json",
		"peer ping " + id, "peer ping --json " + id, "peer connect " + id + " x", "peer listen x",
		"peer relay pin " + id, "peer relay remove " + id, "peer relay add /ip4/21.0.0.1/tcp/4001/p2p/" + id,
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			args := strings.Fields(line)
			dir, err := os.MkdirTemp("", "node-") // t.TempDir is too long for a socket
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			asked := hang(t, filepath.Join(dir, "control.sock"))
			var out bytes.Buffer
			cmd := exec.CommandContext(t.Context(), filepath.Join(binaries, args[0]), append(args[1:], "--data-dir", dir)...)
			cmd.Stdout, cmd.Stderr = &out, &out
			stdin, err := cmd.StdinPipe() // open, as a terminal is
			if err != nil {
				t.Fatal(err)
			}
			defer stdin.Close()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			select {
			case <-asked:
			case <-time.After(patience):
				t.Error("it has asked nothing")
			}
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Error(err)
			}
			_ = cmd.Wait() // its exit code is what counts
			if code := cmd.ProcessState.ExitCode(); code != 130 || out.Len() > 0 {
				t.Errorf("exit code %d, and it says %q; want 130 and nothing", code, &out)
			}
		})
	}
}

// hang is a node that takes every question, and answers none. It tells when it
// has been asked.
func hang(t *testing.T, socket string) (asked <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	question := make(chan struct{}, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(t.Context(), func() { c.Close() })
			go func() {
				if n, _ := c.Read(make([]byte, 1)); n == 0 {
					return // it only looked whether we are there
				}
				select {
				case question <- struct{}{}:
				default:
				}
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	return question
}
