// Command reachability measures, in one run and in virtual time, how long
// go-libp2p's own AutoRelay and ours leave a private node without a working
// address, each situation of docs and design beside the other.
//
//	go run ./bench/reachability
//
// See README.md for how to read the table.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const usage = `usage: go run ./bench/reachability [flags]

Measures stock go-libp2p and ours side by side, on the same simulated network
(QUIC, 25 ms one way) and in virtual time, and prints a table.

  --rows LIST   only these rows, e.g. 1,3 or 9c
  --runs N      runs of each measurement; medians and ranges are shown (default 3;
                1 with --check)
  --json        the result as JSON
  --check       exit 1 and name the rows in which ours misses its bound
  --full        also the crowd and the day
  --crowd N     the crowd, with N private nodes (600 in --full)
  --day         the day under churn
  --hours N     how many virtual hours the day has (default 24)
  --nodes N     how many private nodes it has (default 12)
  --parallel N  measurements at a time (default: the number of CPUs)

Examples:
  go run ./bench/reachability
  go run ./bench/reachability --rows 1,3 --runs 5
  go run ./bench/reachability --check
  go run ./bench/reachability --crowd 600
  go run ./bench/reachability --day --hours 6 --json

Exit codes: 0 all went well, 1 a bound was missed (--check) or something could
not be measured, 2 a wrong call.
`

func main() {
	runChild() // does not return in a child process
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// options are the flags.
type options struct {
	rows     []string
	runs     int
	json     bool
	check    bool
	full     bool
	crowd    int
	day      bool
	parallel int
	size     size
}

func parse(args []string) (options, error) {
	var o options
	var rows string
	fs := flag.NewFlagSet("reachability", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&rows, "rows", "", "")
	fs.IntVar(&o.runs, "runs", 0, "")
	fs.BoolVar(&o.json, "json", false, "")
	fs.BoolVar(&o.check, "check", false, "")
	fs.BoolVar(&o.full, "full", false, "")
	fs.IntVar(&o.crowd, "crowd", 0, "")
	fs.BoolVar(&o.day, "day", false, "")
	fs.IntVar(&o.size.Hours, "hours", 24, "")
	fs.IntVar(&o.size.Nodes, "nodes", 12, "")
	fs.IntVar(&o.parallel, "parallel", runtime.NumCPU(), "")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if o.runs == 0 {
		o.runs = 3
		if o.check {
			o.runs = 1
		}
	}
	for name, v := range map[string]int{"runs": o.runs, "parallel": o.parallel, "hours": o.size.Hours, "nodes": o.size.Nodes} {
		if v < 1 {
			return o, fmt.Errorf("--%s is %d, want at least 1", name, v)
		}
	}
	if o.crowd < 0 {
		return o, fmt.Errorf("--crowd is %d, want at least 1", o.crowd)
	}
	o.size.Crowd = o.crowd
	if o.size.Crowd == 0 {
		o.size.Crowd = 600
	}
	for r := range strings.SplitSeq(rows, ",") {
		if r = strings.TrimSpace(r); r != "" {
			o.rows = append(o.rows, r)
		}
	}
	return o, nil
}

// wanted picks the scenarios that the flags ask for.
func (o options) wanted(all []*scenario) ([]*scenario, error) {
	var out []*scenario
	matched := make(map[string]bool)
	for _, s := range all {
		asked := false
		for _, r := range o.rows {
			if s.is(r) {
				asked, matched[r] = true, true
			}
		}
		switch {
		case len(o.rows) > 0:
			if asked {
				out = append(out, s)
			}
		case s.row == 10:
			if o.full || o.crowd > 0 {
				out = append(out, s)
			}
		case s.row == 11:
			if o.full || o.day {
				out = append(out, s)
			}
		case o.full || (o.crowd == 0 && !o.day):
			out = append(out, s)
		}
	}
	for _, r := range o.rows {
		if !matched[r] {
			return nil, fmt.Errorf("there is no row %q", r)
		}
	}
	return out, nil
}

// is reports whether a row named on the command line is this scenario: its
// number, its name, or one of its figures.
func (s *scenario) is(name string) bool {
	if name == s.id || name == strconv.Itoa(s.row) {
		return true
	}
	for _, f := range s.figures {
		if f.id == name {
			return true
		}
	}
	return false
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage)
		return 0
	}
	var list []*scenario
	if err == nil {
		list, err = o.wanted(scenarios())
	}
	if err != nil {
		fmt.Fprintf(stderr, "Error: %v\nTry: go run ./bench/reachability --help\n", err)
		return 2
	}
	begun := time.Now()
	lines, err := measure(ctx, o, list, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "Error: %v\n", err)
		return 1
	}
	return report(o, lines, time.Since(begun), stdout, stderr)
}

// measure runs everything, several child processes at a time.
func measure(ctx context.Context, o options, list []*scenario, stderr io.Writer) ([]*line, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("own program: %w", err)
	}
	var jobs []job
	byID := make(map[string]*scenario)
	for _, s := range list {
		byID[s.id] = s
		runs := o.runs
		if s.once {
			runs = 1
		}
		for _, side := range s.sides {
			for seed := 1; seed <= runs; seed++ {
				jobs = append(jobs, job{Scenario: s.id, Side: side, Seed: uint64(seed), Size: o.size})
			}
		}
	}
	var (
		mu     sync.Mutex // guards the variables below, and stderr
		done   int
		got    = make(map[string]map[side][]value) // by figure
		faults = make(map[string][]string)         // by scenario
	)
	say := func(format string, args ...any) { fmt.Fprintf(stderr, format+"\n", args...) }
	queue := make(chan job)
	var workers sync.WaitGroup
	for range o.parallel {
		workers.Go(func() {
			for j := range queue {
				s := byID[j.Scenario]
				begun := time.Now()
				v, err := runJob(ctx, exe, j, s.patience(), func(text string) {
					mu.Lock()
					defer mu.Unlock()
					say("        %s: %s", j, text)
				})
				mu.Lock()
				done++
				if err != nil {
					faults[s.id] = append(faults[s.id], err.Error())
					say("%3d/%d  %s", done, len(jobs), err)
				} else {
					say("%3d/%d  %s (%.1f s)", done, len(jobs), j, time.Since(begun).Seconds())
				}
				for id, x := range v {
					if got[id] == nil {
						got[id] = make(map[side][]value)
					}
					got[id][j.Side] = append(got[id][j.Side], x)
				}
				mu.Unlock()
			}
		})
	}
	for _, j := range jobs {
		if ctx.Err() == nil {
			queue <- j
		}
	}
	close(queue)
	workers.Wait()
	if ctx.Err() != nil {
		return nil, errors.New("interrupted")
	}
	var lines []*line
	for _, s := range list {
		for _, f := range s.figures {
			l := &line{
				ID: f.id, Row: s.row, What: f.what, Unit: f.unit, Bound: f.bound, AtLeast: f.atLeast,
				Stock: spreadOf(got[f.id][stock]), Ours: spreadOf(got[f.id][ours]), OnStock: spreadOf(got[f.id][mixed]),
				Errors: faults[s.id],
			}
			l.judge()
			lines = append(lines, l)
		}
	}
	return lines, nil
}

// patience is how long one measurement may take in real time.
func (s *scenario) patience() time.Duration {
	if s.limit > 0 {
		return s.limit
	}
	return 5 * time.Minute
}

// output is what --json prints.
type output struct {
	Go           string  `json:"go"`
	Runs         int     `json:"runs"`
	HorizonS     float64 `json:"horizon_s"`
	OneWayMS     float64 `json:"one_way_ms"`
	TookRealTime float64 `json:"took_real_s"`
	Missed       int     `json:"missed"`
	Lines        []*line `json:"lines"`
}

// report prints the result and decides about the exit code.
func report(o options, lines []*line, took time.Duration, stdout, stderr io.Writer) int {
	bad := missed(lines)
	broken := false
	for _, l := range lines {
		broken = broken || len(l.Errors) > 0
	}
	if o.json {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		out := output{
			Go: runtime.Version(), Runs: o.runs, HorizonS: horizon.Seconds(), OneWayMS: float64(oneWay.Milliseconds()),
			TookRealTime: took.Seconds(), Missed: len(bad), Lines: lines,
		}
		if err := enc.Encode(out); err != nil {
			fmt.Fprintf(stderr, "Error: %v\n", err)
			return 1
		}
	} else {
		writeTable(stdout, lines)
		fmt.Fprintf(stdout, "\n%d run(s) each (rows 10 and 11: one), median (range); virtual time, QUIC, %v one way; a bound holds for the worst run. Took %.0f s.\n",
			o.runs, oneWay, took.Seconds())
	}
	if o.check {
		for _, l := range bad {
			fmt.Fprintf(stderr, "missed: row %s, %s: %s, want %s\n", l.ID, strings.TrimSpace(l.What), l.measured(), l.boundText())
		}
		if len(bad) > 0 {
			return 1
		}
	}
	if broken {
		return 1
	}
	return 0
}
