//go:build linux

package main

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/causeway-p2p/causeway/bench/child"
)

func TestMain(m *testing.M) {
	child.Main(roles) // this binary is its own child, as the program is
	os.Exit(m.Run())
}

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		args string
		want string // part of the error
	}{
		{"", ""},
		{"--quick --check --json", ""},
		{"--transport quic,tcp --impl ours --trials 7 --parallel 2", ""},
		{"--trials -1", "--trials"},
		{"--trials 0", "--trials"},
		{"--parallel 0", "--parallel"},
		{"--transport sctp", "--transport"},
		{"--impl theirs", "--impl"},
		{"--rows (", "--rows"},
		{"all", "unexpected argument"},
	} {
		_, err := parse(strings.Fields(tc.args))
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%q: got %v, want %q", tc.args, err, tc.want)
		}
	}
	if o, _ := parse(nil); o.trials != 3 || !slices.Equal(o.impls, []impl{ours, stock}) {
		t.Errorf("by default: %+v", o)
	}
	if o, _ := parse([]string{"--quick"}); o.trials != 1 {
		t.Errorf("--quick has %d trials, want 1", o.trials)
	}
}

func TestWrongCalls(t *testing.T) {
	for _, args := range [][]string{{"--no-such-flag"}, {"--rows", "no such pair"}} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), args, &stdout, &stderr); code != 2 || !strings.Contains(stderr.String(), "Try:") {
			t.Errorf("%q: exit code %d, %q", args, code, stderr.String())
		}
	}
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, &stdout, &stderr); code != 0 || !strings.HasPrefix(stdout.String(), "usage:") {
		t.Errorf("--help: exit code %d, %q", code, stdout.String())
	}
}

func TestWanted(t *testing.T) {
	count := func(args ...string) (cells, judges int) {
		t.Helper()
		o, err := parse(args)
		if err != nil {
			t.Fatal(err)
		}
		c, j, err := o.wanted()
		if err != nil {
			t.Fatal(err)
		}
		return len(c), len(j)
	}
	// 5 rows by 6 columns and 3 special pairs over 3 transports, and 4 that make
	// sense for nodes with both only.
	if cells, judges := count(); cells != 33*3+4 || judges != 6 {
		t.Errorf("%d cells and %d verdicts, want 103 and 6", cells, judges)
	}
	if cells, judges := count("--rows", "^symmetric/", "--transport", "quic"); cells != 6 || judges != 0 {
		t.Errorf("the row symmetric over QUIC is %d cells and %d verdicts, want 6 and 0", cells, judges)
	}
	if cells, judges := count("--rows", "verdict/"); cells != 0 || judges != 6 {
		t.Errorf("verdict/ is %d cells and %d verdicts, want 0 and 6", cells, judges)
	}
	cells, _ := count("--quick")
	if cells < 12 || cells > 20 {
		t.Errorf("the quick form has %d cells, want a dozen or some more", cells)
	}
	seen := make(map[string]bool)
	for _, p := range pairs() {
		if seen[p.id] {
			t.Errorf("two pairs are named %s", p.id)
		}
		seen[p.id] = true
		for _, q := range p.quick {
			if !slices.Contains(p.transports, q) {
				t.Errorf("%s: quick over %s, which is none of its transports", p.id, q)
			}
		}
	}
}

func TestServe(t *testing.T) {
	var out bytes.Buffer
	err := child.Serve(new(member).actions(), strings.NewReader(`{"do":"dance"} {"do":"start","args":{"Key":"AAAA"}}`), &out)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], `no action \"dance\"`) || !strings.Contains(lines[1], `"err"`) {
		t.Errorf("answered %q", lines)
	}
}
