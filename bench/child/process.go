package child

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"time"
)

// Process is the parent's end of a child. Only Kill may be called while another
// call is under way.
type Process struct {
	name   string
	cmd    *exec.Cmd
	in     io.WriteCloser
	dec    *json.Decoder
	stderr *head
}

// defaultWaitDelay is how long a child may take to end by itself, unless its
// command says something else.
const defaultWaitDelay = 5 * time.Second

// Start starts a child with this role. The command runs this program
// (os.Executable) without arguments; the context it was made with is the
// longest that the child lives, and its environment, if any, is the child's.
// How long Close waits is its WaitDelay; if zero, 5 seconds. Errors name the
// child by name.
func Start(cmd *exec.Cmd, name, role string) (*Process, error) {
	c := &Process{name: name, cmd: cmd, stderr: new(head)}
	cmd.Env = append(cmd.Environ(), roleEnv+"="+role)
	cmd.Stderr = c.stderr
	if cmd.WaitDelay == 0 {
		cmd.WaitDelay = defaultWaitDelay
	}
	var err error
	if c.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.dec = json.NewDecoder(bufio.NewReader(out))
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return c, nil
}

// Ask lets a child do something, and returns its result. When ctx ends before
// the answer is there, the child is killed: there is no way to know what state
// it is in. The error is then the cause, and for a child that died also the
// beginning of its standard error.
func Ask[R any](ctx context.Context, c *Process, do string, args any) (R, error) {
	var result R
	fail := func(err error) (R, error) { return result, fmt.Errorf("%s: %s: %w", c.name, do, err) }
	if ctx.Err() != nil {
		return fail(context.Cause(ctx))
	}
	defer context.AfterFunc(ctx, c.Kill)()
	died := func(err error) (R, error) {
		c.Close() // collects its last words
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fail(fmt.Errorf("%w%s", err, c.stderr))
	}
	raw, err := json.Marshal(args)
	if err != nil {
		return fail(err)
	}
	if err := json.NewEncoder(c.in).Encode(request{Do: do, Args: raw}); err != nil {
		return died(err)
	}
	var a answer
	if err := c.dec.Decode(&a); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("the process ended")
		}
		return died(err)
	}
	if a.Err != "" {
		return fail(errors.New(a.Err))
	}
	if err := json.Unmarshal(a.Value, &result); err != nil {
		return fail(err)
	}
	return result, nil
}

// Tell is Ask without a result worth having.
func Tell(ctx context.Context, c *Process, do string, args any) error {
	_, err := Ask[any](ctx, c, do, args)
	return err
}

// Kill ends the child at once. Close is still to be called.
func (c *Process) Kill() { c.cmd.Process.Kill() }

// Close lets the child end, kills it if it does not within the command's
// WaitDelay, and waits until it is gone. How it ended is not told: a child that
// vanishes is no fault by then. It may be called again.
func (c *Process) Close() {
	c.in.Close()
	defer time.AfterFunc(c.cmd.WaitDelay, c.Kill).Stop()
	c.cmd.Wait()
}
