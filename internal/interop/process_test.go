//go:build linux

package interop_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/causeway-p2p/causeway/internal/interop/report"
)

const (
	// runPatience is how long a program may take in all: longer than it waits
	// for anything itself, so that it can say what it waited for.
	runPatience = 90 * time.Second
	// endPatience is how long one may take to leave once its standard input
	// has ended.
	endPatience = 10 * time.Second
)

// process is a program that runs.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	lines  *bufio.Scanner
	stderr *bytes.Buffer
	first  report.Report
}

// run runs a program to its end, and returns the one report that it prints.
func (p program) run(t *testing.T, args ...string) report.Report {
	t.Helper()
	x := p.launch(t, args...)
	r := x.next()
	x.end()
	return r
}

// start starts a program that stays until the test ends; the first report is
// there when it returns.
func (p program) start(t *testing.T, args ...string) *process {
	t.Helper()
	x := p.launch(t, args...)
	t.Cleanup(x.end)
	x.first = x.next()
	return x
}

func (p program) launch(t *testing.T, args ...string) *process {
	t.Helper()
	argv := slices.Concat(p.argv, args)
	// Not the test's own context: that ends before cleanup, in which programs
	// leave by themselves.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), runPatience)
	t.Cleanup(cancel)
	x := &process{t: t, cmd: command(ctx, argv...), stderr: new(bytes.Buffer)}
	x.cmd.Stderr = x.stderr
	var err error
	if x.stdin, err = x.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := x.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	x.lines = bufio.NewScanner(stdout)
	return x
}

// command makes a command that does not outlive us.
func command(ctx context.Context, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.WaitDelay = endPatience
	// The kernel means the thread that forks; the Go runtime ends one only if
	// a goroutine exits while locked to it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// next is the next report that the program prints. A program that hangs is
// killed after runPatience, and then there is none.
func (x *process) next() (r report.Report) {
	x.t.Helper()
	if !x.lines.Scan() {
		x.stdin.Close()
		err := x.cmd.Wait()
		x.t.Fatalf("%s: ended without a report: %v\n%s", x.cmd, err, x.stderr)
	}
	if err := json.Unmarshal(x.lines.Bytes(), &r); err != nil {
		x.t.Fatalf("%s: %v in %q", x.cmd, err, x.lines.Text())
	}
	return r
}

// again has a program that reserved reserve once more.
func (x *process) again() report.Report {
	x.t.Helper()
	if _, err := io.WriteString(x.stdin, "\n"); err != nil {
		x.t.Fatalf("%s: %v", x.cmd, err)
	}
	return x.next()
}

// end lets a program leave, and wants it to.
func (x *process) end() {
	x.stdin.Close()
	hung := time.AfterFunc(endPatience, func() { x.cmd.Process.Kill() })
	defer hung.Stop()
	if err := x.cmd.Wait(); err != nil { // also if the test failed: this may be why
		x.t.Errorf("%s: %v\n%s", x.cmd, err, x.stderr)
	}
}
