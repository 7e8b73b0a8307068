//go:build linux

package natlab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

const (
	// pipesAfterDeath bounds how long a dead program's children may hold its
	// output open before we stop listening.
	pipesAfterDeath = 2 * time.Second
	// stopPatience is how long Stop waits for a graceful end: longer than any
	// drain a test should configure.
	stopPatience = 15 * time.Second
	// lastLines of each program go to the test log when the test fails; all of
	// it is in the files.
	lastLines = 40
)

// Command makes a command that runs on the machine. Its Process.Pid is the
// program's own: ip netns exec replaces itself with the program. It leads a
// process group, which is killed when ctx ends, and with the lab. It may be
// called from any goroutine.
//
// The program gets a mount namespace of its own, with its /sys; the files are
// the same. A relative path is relative to the test's directory.
func (m *Machine) Command(ctx context.Context, path string, args ...string) *exec.Cmd {
	program, err := exec.LookPath(path)
	if err == nil {
		program, err = filepath.Abs(program) // cmd.Dir may be another directory
	}
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", m.netns, program}, args...)...)
	if err != nil {
		cmd.Err = err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid: true,
		// If the test binary is killed, the program goes too. The kernel means
		// the thread that forks; the Go runtime ends a thread only if a
		// goroutine exits while locked to it.
		Pdeathsig: syscall.SIGKILL,
	}
	cmd.Cancel = func() error { return killGroup(cmd.Process) }
	cmd.WaitDelay = pipesAfterDeath
	return cmd
}

// killGroup kills a program and its children: kill -9.
func killGroup(p *os.Process) error {
	err := syscall.Kill(-p.Pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// Result is what a program left when it ended.
type Result struct {
	Stdout, Stderr string
	Code           int // exit code; -1 if a signal ended it
}

// Run runs a program on the machine to its end. A non-zero exit code is not an
// error; not being able to start, or ctx ending, is. It may be called from any
// goroutine. A nil stdin is empty.
func (m *Machine) Run(ctx context.Context, stdin io.Reader, path string, args ...string) (Result, error) {
	cmd := m.Command(ctx, path, args...)
	var stdout, stderr strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	err := cmd.Run()
	r := Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: -1}
	if cmd.ProcessState != nil {
		r.Code = cmd.ProcessState.ExitCode()
	}
	if ctx.Err() != nil {
		return r, fmt.Errorf("%s on %s: %w", path, m.name, context.Cause(ctx))
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return r, fmt.Errorf("%s on %s: %w", path, m.name, err)
	}
	return r, nil
}

// Process is a program that runs on a machine until it ends, is stopped or
// killed, or the lab is removed. Its methods may be called from any goroutine.
type Process struct {
	name string // "relay1.relayd"
	cmd  *exec.Cmd
	said *transcript
	done chan struct{} // closed when it is dead and all its output is here
}

// Start starts a program on the machine. Everything it prints is kept in
// memory and, as LAB/MACHINE.NAME.stdout and .stderr, in the test's artefact
// directory (go test -artifacts keeps that); its last lines go to the test log
// if the test fails. A second program of the same name is NAME#2.
func (m *Machine) Start(name, path string, args ...string) *Process {
	m.lab.tb.Helper()
	p, err := m.start(name, path, args...)
	m.lab.must(err)
	return p
}

func (m *Machine) start(name, path string, args ...string) (*Process, error) {
	if !nameRule.MatchString(name) {
		return nil, fmt.Errorf("process name %q does not match %s", name, nameRule)
	}
	p := &Process{
		name: m.lab.processName(m.name + "." + name),
		cmd:  m.Command(context.Background(), path, args...),
		said: newTranscript(m.lab.began),
		done: make(chan struct{}),
	}
	var files []*os.File
	closeFiles := func() {
		for _, f := range files {
			f.Close()
		}
	}
	var streams []*stream
	for _, end := range []string{"stdout", "stderr"} {
		f, err := os.Create(filepath.Join(m.lab.artifacts, p.name+"."+end))
		if err != nil {
			closeFiles()
			return nil, err
		}
		files = append(files, f)
		streams = append(streams, &stream{to: p.said, file: f})
	}
	p.cmd.Stdout, p.cmd.Stderr = streams[0], streams[1]
	if err := p.cmd.Start(); err != nil {
		closeFiles()
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	go func() {
		p.cmd.Wait()
		for _, s := range streams {
			s.flush()
		}
		closeFiles()
		p.said.end()
		close(p.done)
	}()
	m.lab.mu.Lock()
	m.lab.procs = append(m.lab.procs, p)
	m.lab.mu.Unlock()
	return p, nil
}

// processName numbers the second and later ones of a name: a restart.
func (lab *Lab) processName(name string) string {
	lab.mu.Lock()
	defer lab.mu.Unlock()
	n := 1
	for _, p := range lab.procs {
		if p.name == name || strings.HasPrefix(p.name, name+"#") {
			n++
		}
	}
	if n == 1 {
		return name
	}
	return fmt.Sprintf("%s#%d", name, n)
}

// PID is the program's process ID.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended and all it printed is readable.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExitCode is -1 while it runs and if a signal ended it.
func (p *Process) ExitCode() int {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	default:
		return -1
	}
}

// Wait waits for the program to end by itself.
func (p *Process) Wait(ctx context.Context) (code int, err error) {
	select {
	case <-p.done:
		return p.ExitCode(), nil
	case <-ctx.Done():
		return -1, fmt.Errorf("wait for %s to end: %w", p.name, context.Cause(ctx))
	}
}

// Kill is kill -9, of the program and its children. It returns when the
// program is gone.
func (p *Process) Kill() {
	p.signal(killGroup)
	<-p.done
}

// Stop asks the program to end (SIGTERM) and waits. It fails if the exit code
// is not 0, and if the program has to be killed in the end.
func (p *Process) Stop() error {
	p.signal(func(program *os.Process) error { return program.Signal(syscall.SIGTERM) })
	patience := time.NewTimer(stopPatience)
	defer patience.Stop()
	select {
	case <-p.done:
	case <-patience.C:
		p.Kill()
		return fmt.Errorf("%s was still running %s after SIGTERM", p.name, stopPatience)
	}
	if code := p.ExitCode(); code != 0 {
		return fmt.Errorf("%s stopped with %s", p.name, p.cmd.ProcessState)
	}
	return nil
}

// signal does nothing once the program has ended: its PID may be another's.
func (p *Process) signal(send func(*os.Process) error) {
	select {
	case <-p.done:
	default:
		_ = send(p.cmd.Process) // it may end at this moment
	}
}

// Output is everything printed so far, stdout and stderr in the order of
// arrival, by whole lines.
func (p *Process) Output() string { return strings.Join(p.said.since(0), "\n") }

// Mark is a place in the output: its present end.
func (p *Process) Mark() int { return len(p.said.since(0)) }

// WaitLine waits for a line (of stdout or stderr, printed at any time, before
// the call too) that matches, and returns it with its submatches; sub[0] is
// the whole match. It fails when ctx ends, and as soon as the program has
// ended without such a line.
func (p *Process) WaitLine(ctx context.Context, re *regexp.Regexp) (line string, sub []string, err error) {
	return p.WaitLineAfter(ctx, 0, re)
}

// WaitLineAfter is WaitLine for lines printed after a [Process.Mark]: for what
// happens a second time.
func (p *Process) WaitLineAfter(ctx context.Context, mark int, re *regexp.Regexp) (line string, sub []string, err error) {
	line, sub, err = p.said.wait(ctx, mark, re)
	if err != nil {
		err = fmt.Errorf("wait for %s to print %q: %w; its last lines:\n%s", p.name, re, err, p.said.tail(5))
	}
	return line, sub, err
}

func (p *Process) lastWords() string {
	state := "running"
	select {
	case <-p.done:
		state = p.cmd.ProcessState.String()
	default:
	}
	return fmt.Sprintf("%s (pid %d, %s), last lines; all in %s\n%s",
		p.name, p.PID(), state, p.cmd.Stdout.(*stream).file.Name(), p.said.tail(lastLines))
}
