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
)

// Each relay and each group of clients is a process of its own, so that the
// CPU time and the memory of a relay are nobody else's. The program starts
// itself again with its role in the environment, and speaks to the child in
// lines of JSON over its standard input and output. A child ends when its
// input does, so that none outlives the program.

// childEnv carries the role of a child.
const childEnv = "CAUSEWAY_BENCH_ROLE"

// A role is what a child process is.
type role string

const (
	relayStock role = "relay-stock"
	relayOurs  role = "relay-ours"
	clientRole role = "clients"
	proxyRole  role = "proxy"
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

// actions are what a child can be asked to do, one at a time.
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
	case relayStock:
		list = newRelayChild(startStock).actions()
	case relayOurs:
		list = newRelayChild(startOurs).actions()
	case clientRole:
		list = new(clients).actions()
	case proxyRole:
		list = new(proxy).actions()
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
// being worked on.
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

// child is the parent's end. Only one request at a time.
type child struct {
	role   role
	cmd    *exec.Cmd
	in     io.WriteCloser
	dec    *json.Decoder
	stderr *head
}

// startChild starts a child, which is killed when ctx ends.
func startChild(ctx context.Context, r role) (*child, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("own program: %w", err)
	}
	c := &child{role: r, cmd: exec.CommandContext(ctx, exe), stderr: new(head)}
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(r))
	c.cmd.Stderr = c.stderr
	c.cmd.WaitDelay = 5 * time.Second
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.dec = json.NewDecoder(bufio.NewReader(out))
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", r, err)
	}
	return c, nil
}

// ask lets a child do something. When ctx ends before the answer is there, the
// child is killed: there is no way to know what state it is in.
func ask[R any](ctx context.Context, c *child, do string, args any) (R, error) {
	var result R
	if ctx.Err() != nil {
		return result, fmt.Errorf("%s: %s: %w", c.role, do, context.Cause(ctx))
	}
	defer context.AfterFunc(ctx, func() { c.cmd.Process.Kill() })()
	died := func(err error) (R, error) {
		c.close() // collects its last words
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return result, fmt.Errorf("%s: %s: %w%s", c.role, do, err, c.stderr)
	}
	fail := func(err error) (R, error) { return result, fmt.Errorf("%s: %s: %w", c.role, do, err) }
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

// tell is ask without an answer worth having.
func tell(ctx context.Context, c *child, do string, args any) error {
	_, err := ask[any](ctx, c, do, args)
	return err
}

// close ends the child, which has five seconds to go by itself. It may be
// called again.
func (c *child) close() {
	c.in.Close()
	defer time.AfterFunc(5*time.Second, func() { c.cmd.Process.Kill() }).Stop()
	c.cmd.Wait()
}

// family is the processes of one probe.
type family []*child

func (f *family) start(ctx context.Context, r role) (*child, error) {
	c, err := startChild(ctx, r)
	if err == nil {
		*f = append(*f, c)
	}
	return c, err
}

func (f family) close() {
	for _, c := range f {
		c.close()
	}
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
