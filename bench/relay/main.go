// Command relay measures, in one run, what it costs to relay with go-libp2p's
// circuit v2 relay and with ours: CPU, latency beside bulk, reservations,
// memory, fairness.
//
//	go run ./bench/relay
//
// See README.md for what each row means and how to read the table.
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
	"strings"
	"syscall"
	"time"

	"github.com/causeway-p2p/causeway/bench/child"
)

const usageText = `usage: go run ./bench/relay [flags]

Measures go-libp2p's relay and ours side by side, on loopback, each in a process
of its own and loaded by the same clients, and prints a table.

  --rows REGEXP  only the rows whose name matches, e.g. '^a/tls' or 'reserve'
  --rounds N     interleaved rounds of each measurement (default 3); medians
                 and ranges are shown
  --quick        only the rows that have a bound, with smaller volumes
  --check        exit 1 and name what misses its bound; what misses is measured
                 once more, with twice the rounds, before it counts
  --slack FACTOR multiply the bounds, for machines whose noise is not to decide
                 (default 1)
  --json         the result as JSON
  --pprof DIR    write CPU profiles of the relays to DIR

Examples:
  go run ./bench/relay
  go run ./bench/relay --quick --check
  go run ./bench/relay --rows '^a/.*/16' --rounds 7
  go run ./bench/relay --rows d/reserve --pprof /tmp/profiles

Exit codes: 0 all went well, 1 a bound was missed (--check) or something could
not be measured, 2 a wrong call.
`

func main() {
	child.Main(roles) // does not return in a child process
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], rows(), os.Stdout, os.Stderr))
}

// options are the flags.
type options struct {
	rows   *regexp.Regexp
	rounds int
	quick  bool
	check  bool
	slack  float64
	json   bool
	pprof  string
}

func parse(args []string) (options, error) {
	var o options
	var rows string
	fs := flag.NewFlagSet("relay", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&rows, "rows", "", "")
	fs.IntVar(&o.rounds, "rounds", 3, "")
	fs.BoolVar(&o.quick, "quick", false, "")
	fs.BoolVar(&o.check, "check", false, "")
	fs.Float64Var(&o.slack, "slack", 1, "")
	fs.BoolVar(&o.json, "json", false, "")
	fs.StringVar(&o.pprof, "pprof", "", "")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if o.rounds < 1 {
		return o, fmt.Errorf("--rounds is %d, want at least 1", o.rounds)
	}
	if o.slack < 1 {
		return o, fmt.Errorf("--slack is %v, want at least 1", o.slack)
	}
	var err error
	if o.rows, err = regexp.Compile(rows); err != nil {
		return o, fmt.Errorf("--rows: %w", err)
	}
	return o, nil
}

// wanted picks the rows that the flags ask for.
func (o options) wanted(all []*row) ([]*row, error) {
	var out []*row
	for _, r := range all {
		if o.rows.MatchString(r.id) && (!o.quick || r.bounded()) {
			out = append(out, r)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no row matches %q", o.rows)
	}
	return out, nil
}

func run(ctx context.Context, args []string, all []*row, stdout, stderr io.Writer) int {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usageText)
		return 0
	}
	var list []*row
	if err == nil {
		list, err = o.wanted(all)
	}
	if err != nil {
		fmt.Fprintf(stderr, "Error: %v\nTry: go run ./bench/relay --help\n", err)
		return 2
	}
	if o.pprof != "" {
		if err := os.MkdirAll(o.pprof, 0o755); err != nil {
			fmt.Fprintf(stderr, "Error: %v\n", err)
			return 1
		}
	}
	begun := time.Now()
	b := &bench{quick: o.quick, slack: o.slack, pprof: o.pprof, progress: stderr}
	var lines []*line
	for _, r := range list {
		got := b.measure(ctx, r, o.rounds)
		if o.check && anyMissed(got) && ctx.Err() == nil {
			fmt.Fprintf(stderr, "%s missed its bound; once more, with %d rounds, in case that was noise\n", r.id, 2*o.rounds)
			got = b.measure(ctx, r, 2*o.rounds)
			for _, l := range got {
				l.Again = true
			}
		}
		lines = append(lines, got...)
	}
	if ctx.Err() != nil {
		fmt.Fprintln(stderr, "Error: interrupted")
		return 1
	}
	return report(o, lines, time.Since(begun), stdout, stderr)
}

// output is what --json prints.
type output struct {
	Go       string  `json:"go"`
	Libp2p   string  `json:"go_libp2p"`
	CPUs     int     `json:"cpus"`
	Rounds   int     `json:"rounds"`
	Quick    bool    `json:"quick"`
	TookS    float64 `json:"took_s"`
	Missed   int     `json:"missed"`
	Unusable int     `json:"not_measured"`
	Lines    []*line `json:"lines"`
}

// report prints the result and decides about the exit code.
func report(o options, lines []*line, took time.Duration, stdout, stderr io.Writer) int {
	out := output{
		Go: runtime.Version(), Libp2p: libp2pVersion(), CPUs: runtime.NumCPU(), Rounds: o.rounds, Quick: o.quick,
		TookS: took.Seconds(), Lines: lines,
	}
	for _, l := range lines {
		if l.Missed {
			out.Missed++
		}
		if len(l.Errors) > 0 {
			out.Unusable++
		}
	}
	if o.json {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(out); err != nil {
			fmt.Fprintf(stderr, "Error: %v\n", err)
			return 1
		}
	} else {
		writeTable(stdout, lines)
		fmt.Fprintf(stdout, "\nMedian of %d round(s) (range); the ratio is that of the medians. %s, go-libp2p %s, %d CPUs. Took %.0f s.\n",
			o.rounds, out.Go, out.Libp2p, out.CPUs, out.TookS)
	}
	seen := make(map[string]bool)
	for _, l := range lines {
		for _, e := range l.Errors {
			if !seen[l.Row+e] {
				seen[l.Row+e] = true
				fmt.Fprintf(stderr, "not measured: %s: %s\n", l.Row, strings.TrimSpace(e))
			}
		}
	}
	if o.check {
		for _, l := range lines {
			if l.Missed {
				fmt.Fprintf(stderr, "missed: %s, %s: %s\n", l.Row, l.What, l.shortfall())
			}
		}
	}
	if out.Unusable > 0 || (o.check && out.Missed > 0) {
		return 1
	}
	return 0
}
