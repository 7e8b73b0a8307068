//go:build linux

// Command nat measures, in one run, which pairs of NATs go-libp2p's nodes and
// ours get a direct path through, how long that takes, and what they think of
// their own reachability. The NATs are the kernel's (internal/natlab).
//
//	go run ./bench/nat
//
// See README.md for how to read the tables.
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
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/causeway-p2p/causeway/bench/child"
)

const usage = `usage: go run ./bench/nat [flags]

Lets two nodes behind every pair of NATs find a direct path, stock go-libp2p and
ours in turn, on network namespaces with a round trip of 40 ms, and prints a
table. Needs root, iproute2 and nftables.

  --rows REGEXP     only the pairs whose name matches, e.g. '^symmetric/' or
                    'same-lan'; the name is RELAYED/CALLER. 'verdict/' are the
                    verdicts
  --trials N        trials of each (default 3; 1 with --quick)
  --transport LIST  quic, tcp, both (the nodes have both); default all three
  --impl LIST       ours, stock (default both), ours-stock, stock-ours: the node
                    that is relayed, and the one that calls it
  --quick           a dozen telling pairs, each with one or two transports
  --parallel N      trials at a time (default 6)
  --check           exit 1 and name what misses its bound; what misses is tried
                    once more before it counts
  --json            the result as JSON, with every trial
  --markdown FILE   write the tables to FILE as well

Examples:
  go run ./bench/nat --quick --check
  go run ./bench/nat --rows '^symmetric/(full-cone|address)' --transport quic --trials 6
  go run ./bench/nat --rows verdict/ --impl ours
  go run ./bench/nat --check --markdown docs/nat-matrix.md

Exit codes: 0 all went well, 1 a bound was missed (--check) or something could
not be measured, 2 a wrong call.
`

func main() {
	child.Main(roles) // does not return in a child process
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// options are the flags.
type options struct {
	rows       *regexp.Regexp
	trials     int
	transports []string
	impls      []impl
	quick      bool
	parallel   int
	check      bool
	json       bool
	markdown   string
}

func parse(args []string) (options, error) {
	var o options
	var rows, transportList, impls string
	fs := flag.NewFlagSet("nat", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&rows, "rows", "", "")
	fs.IntVar(&o.trials, "trials", 0, "")
	fs.StringVar(&transportList, "transport", "", "")
	fs.StringVar(&impls, "impl", "ours,stock", "")
	fs.BoolVar(&o.quick, "quick", false, "")
	fs.IntVar(&o.parallel, "parallel", 6, "")
	fs.BoolVar(&o.check, "check", false, "")
	fs.BoolVar(&o.json, "json", false, "")
	fs.StringVar(&o.markdown, "markdown", "", "")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	given := false
	fs.Visit(func(f *flag.Flag) { given = given || f.Name == "trials" })
	if !given {
		o.trials = 3
		if o.quick {
			o.trials = 1
		}
	}
	if o.trials < 1 {
		return o, fmt.Errorf("--trials is %d, want at least 1", o.trials)
	}
	if o.parallel < 1 {
		return o, fmt.Errorf("--parallel is %d, want at least 1", o.parallel)
	}
	var err error
	if o.rows, err = regexp.Compile(rows); err != nil {
		return o, fmt.Errorf("--rows: %w", err)
	}
	for t := range strings.SplitSeq(transportList, ",") {
		switch {
		case slices.Contains(transports, t):
			o.transports = append(o.transports, t)
		case t != "":
			return o, fmt.Errorf("--transport %q, want some of %s", t, strings.Join(transports, ", "))
		}
	}
	for i := range strings.SplitSeq(impls, ",") {
		if i := impl(i); i == ours || i == stock || i.mixed() {
			o.impls = append(o.impls, i)
		} else {
			return o, fmt.Errorf("--impl %q, want some of ours, stock, ours-stock, stock-ours", i)
		}
	}
	return o, nil
}

// output is what --json prints.
type output struct {
	Go       string   `json:"go"`
	Libp2p   string   `json:"go_libp2p"`
	CPUs     int      `json:"cpus"`
	RTT      float64  `json:"rtt_s"`
	Trials   int      `json:"trials"`
	Quick    bool     `json:"quick"`
	TookS    float64  `json:"took_s"`
	Cells    []*cell  `json:"cells"`
	Verdicts []judged `json:"verdicts"`
	Missed   []string `json:"missed"`
	Broken   []string `json:"broken"`
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage)
		return 0
	}
	var cells []*cell
	var judges []network
	if err == nil {
		cells, judges, err = o.wanted()
	}
	if err != nil {
		fmt.Fprintf(stderr, "Error: %v\nTry: go run ./bench/nat --help\n", err)
		return 2
	}
	begun := time.Now()
	if err := probe(); err != nil {
		fmt.Fprintf(stderr, "Error: %v\n", err)
		return 1
	}
	r := runner{options: o, progress: stderr}
	verdicts := r.measure(ctx, cells, judges)
	if o.check && ctx.Err() == nil {
		verdicts = r.again(ctx, cells, verdicts)
	}
	if ctx.Err() != nil {
		fmt.Fprintln(stderr, "Error: interrupted")
		return 1
	}
	out := output{
		Go: runtime.Version(), Libp2p: libp2pVersion(), CPUs: runtime.NumCPU(), RTT: 2 * oneWay.Seconds(),
		Trials: o.trials, Quick: o.quick, TookS: time.Since(begun).Seconds(),
		Cells: cells, Verdicts: verdicts, Missed: []string{}, Broken: []string{},
	}
	for _, c := range cells {
		out.Missed = append(out.Missed, c.missed()...)
		out.Broken = append(out.Broken, c.broken()...)
	}
	missed, broken := missedVerdicts(verdicts)
	out.Missed, out.Broken = append(out.Missed, missed...), append(out.Broken, broken...)
	return report(o, out, stdout, stderr)
}

// report prints the result and decides about the exit code.
func report(o options, out output, stdout, stderr io.Writer) int {
	if o.json {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(out); err != nil {
			fmt.Fprintf(stderr, "Error: %v\n", err)
			return 1
		}
	} else {
		fmt.Fprint(stdout, markdown(out))
	}
	if o.markdown != "" {
		if err := os.WriteFile(o.markdown, []byte(document(out)), 0o644); err != nil {
			fmt.Fprintf(stderr, "Error: %v\n", err)
			return 1
		}
	}
	for _, b := range out.Broken {
		fmt.Fprintf(stderr, "not measured: %s\n", b)
	}
	if o.check {
		for _, m := range out.Missed {
			fmt.Fprintf(stderr, "missed: %s\n", m)
		}
	}
	if len(out.Broken) > 0 || (o.check && len(out.Missed) > 0) {
		return 1
	}
	return 0
}

func libp2pVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == "github.com/libp2p/go-libp2p" {
				return d.Version
			}
		}
	}
	return "of unknown version"
}
