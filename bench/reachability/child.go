package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/causeway-p2p/causeway/internal/virtual"
)

// Virtual time needs a testing/synctest bubble, and a bubble needs a
// *testing.T. So each measurement runs in a process of its own, which is this
// same program as a test binary: it starts a single test with testing.Main,
// makes a bubble in it, and ends from within as soon as the result is there.
// That also keeps measurements apart: package-level state of go-libp2p, a
// bubble that cannot end, a crash.

// childEnv carries the job: "scenario/side/seed/options as JSON".
const childEnv = "CAUSEWAY_BENCH_JOB"

// job names one measurement.
type job struct {
	Scenario string `json:"scenario"`
	Side     side   `json:"side"`
	Seed     uint64 `json:"seed"`
	Size     size   `json:"size"`
}

func (j job) String() string {
	name := map[side]string{stock: "stock", ours: "ours", mixed: "ours on stock relays"}[j.Side]
	return fmt.Sprintf("%s, %s, run %d", j.Scenario, name, j.Seed)
}

// resultMark begins the line with the result.
const resultMark = "\x1eresult "

// progressMark begins lines for the person who waits.
const progressMark = "\x1eprogress "

// runChild runs the job in the environment, if there is one, and never returns
// then.
func runChild() {
	text, ok := os.LookupEnv(childEnv)
	if !ok {
		return
	}
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		fmt.Fprintln(os.Stderr, "job:", err)
		os.Exit(2)
	}
	sc := scenarioByID(j.Scenario)
	if sc == nil {
		fmt.Fprintf(os.Stderr, "no scenario %q\n", j.Scenario)
		os.Exit(2)
	}
	os.Args = os.Args[:1] // testing.Main parses them
	measure := func(t *testing.T) {
		virtual.Test(t, func(t *testing.T) {
			w := newWorld(t, j.Side, j.Seed)
			w.size = j.Size
			values := sc.run(w)
			out, err := json.Marshal(values)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Printf("%s%s\n", resultMark, out)
			os.Exit(0)
		})
	}
	all := func(string, string) (bool, error) { return true, nil }
	testing.Main(all, []testing.InternalTest{{Name: j.String(), F: measure}}, nil, nil)
}

// progress tells the person who waits how far a long measurement is.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, progressMark+format+"\n", args...)
}

// runJob runs a measurement in a child process. limit is real time.
func runJob(parent context.Context, exe string, j job, limit time.Duration, tell func(string)) (values, error) {
	ctx, cancel := context.WithTimeout(parent, limit)
	defer cancel()
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	var stdout bytes.Buffer
	stderr := &lines{tell: tell}
	cmd.Stdout, cmd.Stderr = &stdout, stderr
	cmd.WaitDelay = 5 * time.Second
	err = cmd.Run()
	for line := range strings.Lines(stdout.String()) {
		if data, ok := strings.CutPrefix(line, resultMark); ok {
			var v values
			if err := json.Unmarshal([]byte(data), &v); err != nil {
				return nil, fmt.Errorf("%s: result: %w", j, err)
			}
			return v, nil
		}
	}
	if parent.Err() != nil {
		return nil, fmt.Errorf("%s: interrupted", j)
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s: no result within %v of real time: %w", j, limit, ctx.Err())
	}
	if err == nil {
		err = errors.New("no result")
	}
	return nil, fmt.Errorf("%s: %w\n%s", j, err, digest(stdout.String()+stderr.rest()))
}

// digest is the beginning of a text, where a panic says what it is about, and
// its end.
func digest(s string) string {
	const head, tail = 14, 6
	list := strings.Split(strings.TrimSpace(s), "\n")
	if n := len(list) - head - tail; n > 0 {
		list = slices.Concat(list[:head], []string{fmt.Sprintf("… %d lines …", n)}, list[len(list)-tail:])
	}
	return "  " + strings.Join(list, "\n  ")
}

// lines passes progress on and keeps the end of the rest. The process writes
// to it from one goroutine.
type lines struct {
	tell    func(string)
	partial []byte
	kept    []string
}

func (l *lines) Write(p []byte) (int, error) {
	l.partial = append(l.partial, p...)
	for {
		i := bytes.IndexByte(l.partial, '\n')
		if i < 0 {
			return len(p), nil
		}
		line := string(l.partial[:i])
		l.partial = l.partial[i+1:]
		if text, ok := strings.CutPrefix(line, progressMark); ok {
			l.tell(text)
			continue
		}
		l.kept = append(l.kept, line)
		// A panic's own words come first, thousands of goroutines later.
		if len(l.kept) > 400 {
			l.kept = append(l.kept[:200], l.kept[len(l.kept)-100:]...)
		}
	}
}

func (l *lines) rest() string { return strings.Join(l.kept, "\n") + string(l.partial) }
