package main

import (
	"encoding/json"
	"errors"
	"flag"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/causeway-p2p/causeway/bench/child"
)

func TestMain(m *testing.M) {
	child.Main(roles) // the smoke test starts this binary again
	goleak.VerifyTestMain(m)
}

func TestParse(t *testing.T) {
	o, err := parse([]string{"--rows", "^a/", "--rounds", "5", "--json", "--quick"})
	if err != nil || !o.rows.MatchString("a/tls/1") || o.rows.MatchString("b/a/") || o.rounds != 5 || !o.json || !o.quick || o.check {
		t.Errorf("got %+v, %v", o, err)
	}
	if o, err := parse(nil); err != nil || o.rounds != 3 || !o.rows.MatchString("anything") {
		t.Errorf("no flags: got %+v, %v, want 3 rounds of every row", o, err)
	}
	for _, args := range [][]string{{"--rounds", "0"}, {"--rows", "("}, {"--no-such"}, {"stray"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("parse %q: got no error", args)
		}
	}
	if _, err := parse([]string{"--help"}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("--help: got %v", err)
	}
}

func TestWanted(t *testing.T) {
	for args, want := range map[string]string{
		"--rows ^a/quic":           "a/quic/1 a/quic/16 a/quic/100",
		"--rows ^a/quic --quick":   "a/quic/16",
		"--quick":                  "a/tls/16 a/noise/16 a/quic/16 b/tls b/noise c/tls d/reserve/10k f/fairness",
		"--rows ^e|^g":             "e/reservation e/circuit g/copy g/splice g/tls",
		"--rows connect --check":   "d/connect/1 d/connect/16 d/connect/64",
		"--rows c/quic --rounds 9": "c/quic",
	} {
		o, err := parse(strings.Fields(args))
		if err != nil {
			t.Fatal(err)
		}
		list, err := o.wanted(rows())
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, r := range list {
			ids = append(ids, r.id)
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%q: got %s, want %s", args, got, want)
		}
	}
	o, _ := parse([]string{"--rows", "zzz"})
	if _, err := o.wanted(rows()); err == nil || !strings.Contains(err.Error(), "zzz") {
		t.Errorf("no such row: got %v, want an error that names it", err)
	}
}

// TestRows: every name means one thing, and every row has something to say.
func TestRows(t *testing.T) {
	seen := make(map[string]bool)
	for _, r := range rows() {
		if seen[r.id] {
			t.Errorf("row %s is there twice", r.id)
		}
		seen[r.id] = true
		names := make(map[string]bool)
		for _, f := range r.figures {
			if names[f.name] || f.what == "" || f.unit == "" {
				t.Errorf("row %s: figure %+v is there twice or says nothing", r.id, f)
			}
			names[f.name] = true
		}
		if len(names) == 0 || len(r.sides) == 0 || r.open == nil {
			t.Errorf("row %s measures nothing", r.id)
		}
	}
}

func TestReport(t *testing.T) {
	kept := &line{Row: "a/tls/16", What: "kept"}
	bad := judged(figure{what: "  bytes", unit: secondsPerGB, bound: ratioAtMost(0.35)}, []float64{2}, []float64{1})
	bad.Again = true
	broken := &line{Row: "e/x", What: "broken", Errors: []string{"ours: died"}}
	for name, c := range map[string]struct {
		o      options
		lines  []*line
		code   int
		stderr string
	}{
		"all well":               {options{check: true}, []*line{kept}, 0, ""},
		"missed, nobody asked":   {options{}, []*line{kept, bad}, 0, ""},
		"missed":                 {options{check: true}, []*line{kept, bad}, 1, "missed: a/x,   bytes: 0.500×, want ≤ 0.35× (measured twice)\n"},
		"not measured":           {options{}, []*line{broken}, 1, "not measured: e/x: ours: died\n"},
		"missed, asked, as JSON": {options{check: true, json: true}, []*line{kept, bad}, 1, "missed: a/x,   bytes: 0.500×, want ≤ 0.35× (measured twice)\n"},
	} {
		var stdout, stderr strings.Builder
		if code := report(c.o, c.lines, time.Second, &stdout, &stderr); code != c.code || stderr.String() != c.stderr {
			t.Errorf("%s: got exit code %d and %q, want %d and %q", name, code, stderr.String(), c.code, c.stderr)
		}
		if c.o.json {
			var out output
			if err := json.Unmarshal([]byte(stdout.String()), &out); err != nil || out.Missed != 1 || len(out.Lines) != 2 || *out.Lines[1].Ratio != 0.5 {
				t.Errorf("%s: got %v in %s, want both lines and the second missed", name, err, stdout.String())
			}
		}
	}
}
