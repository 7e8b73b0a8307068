//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/causeway-p2p/causeway/internal/natlab"
)

// Every node is a process of its own on a machine of the lab: this program,
// started again with its role in the environment. The two talk in lines of
// JSON over the child's standard input and output, one request at a time. A
// child ends when its input does, so that none outlives the program.

// childEnv carries the role of a child.
const childEnv = "CAUSEWAY_BENCH_ROLE"

// A role is what a child process is.
type role string

const (
	serverRole role = "server"
	peerRole   role = "peer"
)

// request and answer are the lines.
type request struct {
	Do   string          `json:"do"`
	Args json.RawMessage `json:"args"`
}

type answer struct {
	Err   string          `json:"err,omitempty"`
	Value json.RawMessage `json:"value,omitempty"`
}

// actions are what a child can be asked to do.
type actions map[string]func(context.Context, json.RawMessage) (any, error)

// action makes a function with typed arguments one of the actions.
func action[A, R any](f func(context.Context, A) (R, error)) func(context.Context, json.RawMessage) (any, error) {
	return func(ctx context.Context, raw json.RawMessage) (any, error) {
		var a A
		if err := json.Unmarshal(raw, &a); err != nil {
			return nil, err
		}
		return f(ctx, a)
	}
}

// none is for actions without arguments, or without a result.
type none struct{}

// runChild is the whole life of a child process. It returns at once in a
// process that is none.
func runChild() {
	r, ok := os.LookupEnv(childEnv)
	if !ok {
		return
	}
	var list actions
	switch role(r) {
	case serverRole:
		list = new(server).actions()
	case peerRole:
		list = new(member).actions()
	default:
		fmt.Fprintf(os.Stderr, "no role %q\n", r)
		os.Exit(2)
	}
	if err := serve(list, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve answers requests until the input ends, which also ends the one that is
// being worked on. What was started is left to the end of the process.
func serve(list actions, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	requests := make(chan request)
	go func() { // ends with the input
		defer cancel()
		defer close(requests)
		for dec := json.NewDecoder(in); ; {
			var r request
			if dec.Decode(&r) != nil {
				return
			}
			select {
			case requests <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	enc := json.NewEncoder(out)
	for r := range requests {
		var a answer
		v, err := any(nil), fmt.Errorf("there is no action %q", r.Do)
		if do := list[r.Do]; do != nil {
			v, err = do(ctx, r.Args)
		}
		if err == nil {
			a.Value, err = json.Marshal(v)
		}
		if err != nil {
			a = answer{Err: err.Error()}
		}
		if err := enc.Encode(a); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
	return nil
}

// child is the parent's end.
type child struct {
	name   string
	cmd    *exec.Cmd
	in     io.WriteCloser
	dec    *json.Decoder
	stderr *head
}

// startChild starts a child on a machine, which is killed when ctx ends.
func startChild(ctx context.Context, m *natlab.Machine, r role) (*child, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("own program: %w", err)
	}
	c := &child{name: m.Name(), cmd: m.Command(ctx, exe), stderr: new(head)}
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(r), "GOMAXPROCS=2")
	c.cmd.Stderr = c.stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.dec = json.NewDecoder(bufio.NewReader(out))
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	return c, nil
}

// ask lets a child do something. When ctx ends before the answer is there, the
// child is killed: there is no way to know what state it is in.
func ask[R any](ctx context.Context, c *child, do string, args any) (R, error) {
	var result R
	fail := func(err error) (R, error) { return result, fmt.Errorf("%s: %s: %w", c.name, do, err) }
	defer context.AfterFunc(ctx, c.kill)()
	died := func(err error) (R, error) {
		c.close() // collects its last words
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

func (c *child) kill() { c.cmd.Process.Kill() }

// closePatience is how long a child may take to end by itself. It need not: a
// node that vanishes is no fault here.
const closePatience = 2 * time.Second

// close ends the child. It may be called again.
func (c *child) close() {
	c.in.Close()
	defer time.AfterFunc(closePatience, c.kill).Stop()
	c.cmd.Wait()
}

// head keeps the beginning of what a child says on its standard error, where a
// panic says what it is about.
type head struct {
	mu   sync.Mutex // guards text
	text []byte
}

const headSize = 2 << 10

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if room := headSize - len(h.text); room > 0 {
		h.text = append(h.text, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.text) == 0 {
		return ""
	}
	return "\n  " + strings.ReplaceAll(strings.TrimSpace(string(h.text)), "\n", "\n  ")
}
