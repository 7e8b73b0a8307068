// Package child lets a program measure in processes of its own: it starts
// itself again, as often as it likes and wherever it likes, with a role in the
// environment. What a child does is nobody else's CPU time, memory or network.
//
// The two talk in lines of JSON over the child's standard input and output,
// one request at a time:
//
//	{"do":"add","args":[1,2]}         the parent asks
//	{"value":3}                       the child answers
//	{"err":"there is no action \"…\""}  or says why not
//
// Main is what a program calls first, with the Actions of each role; Start, Ask
// and Tell are for the parent. A child ends when its input does, so that none
// outlives the program.
//
// There are no streams, no calls back to the parent, and no protection from one
// another: both ends are the same program.
package child

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// roleEnv carries the role of a child.
const roleEnv = "CAUSEWAY_BENCH_ROLE"

// request and answer are the lines.
type request struct {
	Do   string          `json:"do"`
	Args json.RawMessage `json:"args"`
}

type answer struct {
	Err   string          `json:"err,omitempty"`
	Value json.RawMessage `json:"value,omitempty"`
}

// Actions are what a child can be asked to do, one at a time, by name. They are
// made by Action, and their context ends with the child's input.
type Actions map[string]func(context.Context, json.RawMessage) (any, error)

// Action makes one of the Actions of a function with typed arguments and a
// typed result, both of which can be written as JSON.
func Action[A, R any](f func(context.Context, A) (R, error)) func(context.Context, json.RawMessage) (any, error) {
	return func(ctx context.Context, raw json.RawMessage) (any, error) {
		var a A
		if err := json.Unmarshal(raw, &a); err != nil {
			return nil, err
		}
		return f(ctx, a)
	}
}

// None is for actions without arguments, or without a result.
type None struct{}

// Main is the whole life of a child process, and comes first in main, or in the
// TestMain of a test that starts children. It returns at once in a process that
// is none, and never in one that is: it is a main, and so it may read the
// environment and exit.
func Main(roles map[string]func() Actions) {
	role, ok := os.LookupEnv(roleEnv)
	if !ok {
		return
	}
	actions := roles[role]
	if actions == nil {
		fmt.Fprintf(os.Stderr, "no role %q\n", role)
		os.Exit(2)
	}
	if err := Serve(actions(), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Serve answers requests until the input ends, which also ends the one that is
// being worked on. What actions started is left to the end of the process. Main
// calls it; a test can, without a process.
func Serve(list Actions, in io.Reader, out io.Writer) error {
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
