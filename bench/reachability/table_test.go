package main

import (
	"encoding/json"
	"errors"
	"flag"
	"strings"
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	for name, c := range map[string]struct {
		l      line
		missed bool
	}{
		"no bound":                   {line{Ours: &spread{Max: 9}}, false},
		"kept":                       {line{Bound: bounded(1), Ours: &spread{Median: 0.5, Max: 1}}, false},
		"the worst run counts":       {line{Bound: bounded(1), Ours: &spread{Median: 0.5, Max: 1.1}}, true},
		"on stock relays too":        {line{Bound: bounded(1), Ours: &spread{Max: 0.5}, OnStock: &spread{Max: 2}}, true},
		"stock itself may":           {line{Bound: bounded(1), Stock: &spread{Max: 99, Over: true}, Ours: &spread{Max: 0.5}}, false},
		"measured on one kind only":  {line{Bound: bounded(1), OnStock: &spread{Max: 0.5}}, false},
		"over the horizon":           {line{Bound: bounded(1e9), Ours: &spread{Max: 21600, Over: true}}, true},
		"bound of zero":              {line{Bound: bounded(0), Ours: &spread{Max: 0.002}}, true},
		"zero is within zero":        {line{Bound: bounded(0), Ours: &spread{}}, false},
		"ours was not measured":      {line{Bound: bounded(1), Stock: &spread{Max: 0.5}}, true},
		"something was not measured": {line{Bound: bounded(1), Ours: &spread{}, Errors: []string{"x"}}, true},
		"lower bound kept":           {line{Bound: bounded(99), AtLeast: true, Ours: &spread{Min: 99.5, Max: 100}}, false},
		"lower bound, worst run":     {line{Bound: bounded(99), AtLeast: true, Ours: &spread{Min: 98, Max: 100}}, true},
		"no bound, and not measured": {line{Errors: []string{"x"}}, false},
	} {
		c.l.judge()
		if c.l.Missed != c.missed {
			t.Errorf("%s: got missed %v, want %v", name, c.l.Missed, c.missed)
		}
	}
}

func TestSpread(t *testing.T) {
	s := spreadOf([]value{{V: 3}, {V: 1}, {V: 21600, Over: true}})
	if s.Median != 3 || s.Min != 1 || s.Max != 21600 || s.Over {
		t.Errorf("spread of 3, 1, over: got %+v", s)
	}
	if s := spreadOf([]value{{V: 1}, {V: 21600, Over: true}}); !s.Over {
		t.Errorf("spread of 1, over: got %+v, want a median over the horizon", s)
	}
	if s := spreadOf(nil); s != nil {
		t.Errorf("spread of nothing: got %+v, want nil", s)
	}
}

// An outlier beyond the horizon must not hide behind the median of others.
func TestJudgeSeesOverInAnyRun(t *testing.T) {
	l := line{Bound: bounded(1), Ours: spreadOf([]value{{V: 0.1}, {V: 0.2}, {V: horizon.Seconds(), Over: true}})}
	if l.judge(); !l.Missed {
		t.Error("one run of three did not end: got kept, want missed")
	}
}

func TestQuantity(t *testing.T) {
	for _, c := range []struct {
		v    float64
		u    unit
		want string
	}{
		{0, seconds, "0"},
		{0.152, seconds, "152 ms"},
		{30.33, seconds, "30.3 s"},
		{1, seconds, "1 s"},
		{180, seconds, "3 min"},
		{21600, seconds, "6 h"},
		{0.5, seconds, "500 ms"},
		{24, count, "24"},
		{99.98765, percent, "99.988 %"},
		{100, percent, "100 %"},
		{0, percent, "0 %"},
	} {
		if got := quantity(c.v, c.u); got != c.want {
			t.Errorf("quantity(%v, %q): got %q, want %q", c.v, c.u, got, c.want)
		}
	}
}

func TestTable(t *testing.T) {
	lines := []*line{
		{ID: "1", What: "kept", Unit: seconds, Bound: bounded(1), Stock: spreadOf([]value{{V: horizon.Seconds(), Over: true}}), Ours: spreadOf([]value{{V: 0.2}})},
		{ID: "2", What: "missed", Unit: seconds, Bound: bounded(1), Stock: spreadOf([]value{{V: 60}}), Ours: spreadOf([]value{{V: 0.5}, {V: 0.6}, {V: 2}})},
	}
	for _, l := range lines {
		l.judge()
	}
	var b strings.Builder
	writeTable(&b, lines)
	for _, want := range []string{">6 h", "200 ms", "≤ 1 s", "ok", "600 ms (500 ms–2 s)", "MISSED"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("table: got\n%s\nwant it to contain %q", b.String(), want)
		}
	}
}

func TestReport(t *testing.T) {
	kept := &line{ID: "1a", What: "kept", Unit: seconds, Bound: bounded(1), Ours: &spread{Max: 0.5, Runs: []float64{0.5}}}
	bad := &line{ID: "3b", What: "  … missed", Unit: seconds, Bound: bounded(1), Ours: &spread{Median: 2, Min: 2, Max: 2, Runs: []float64{2}}}
	broken := &line{ID: "9", What: "broken", Unit: seconds, Errors: []string{"crashed"}}
	for _, l := range []*line{kept, bad, broken} {
		l.judge()
	}
	for name, c := range map[string]struct {
		o      options
		lines  []*line
		code   int
		stderr string
	}{
		"all kept":               {options{check: true}, []*line{kept}, 0, ""},
		"missed, not asked":      {options{}, []*line{kept, bad}, 0, ""},
		"missed, asked":          {options{check: true}, []*line{kept, bad}, 1, "missed: row 3b, … missed: 2 s, want ≤ 1 s\n"},
		"not measured":           {options{}, []*line{broken}, 1, ""},
		"missed, asked, as JSON": {options{check: true, json: true}, []*line{kept, bad}, 1, "missed: row 3b, … missed: 2 s, want ≤ 1 s\n"},
	} {
		var stdout, stderr strings.Builder
		if code := report(c.o, c.lines, time.Second, &stdout, &stderr); code != c.code || stderr.String() != c.stderr {
			t.Errorf("%s: got exit code %d and %q, want %d and %q", name, code, stderr.String(), c.code, c.stderr)
		}
		if c.o.json {
			var out output
			if err := json.Unmarshal([]byte(stdout.String()), &out); err != nil {
				t.Errorf("%s: %v in %s", name, err, stdout.String())
			} else if out.Missed != 1 || len(out.Lines) != 2 || out.Lines[1].ID != "3b" || !out.Lines[1].Missed {
				t.Errorf("%s: got %+v, want both lines and the second missed", name, out)
			}
		}
	}
}

func TestParse(t *testing.T) {
	o, err := parse([]string{"--rows", "1, 3", "--json"})
	if err != nil || strings.Join(o.rows, "+") != "1+3" || !o.json || o.runs != 3 {
		t.Errorf("got %+v, %v", o, err)
	}
	if o, err := parse([]string{"--check"}); err != nil || o.runs != 1 {
		t.Errorf("--check: got %d runs, %v, want 1", o.runs, err)
	}
	for _, args := range [][]string{{"--runs", "-1"}, {"--parallel", "0"}, {"--crowd", "-5"}, {"--no-such"}, {"stray"}} {
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
		"":                    "1a 1b 1c 1d 1e 1f 2 3a 3c 4 5 6 7 9a 9b 9c 8",
		"--rows 3":            "3a 3c",
		"--rows 3d":           "3c",
		"--rows 8,2":          "2 8",
		"--crowd 60":          "10",
		"--day":               "11",
		"--day --crowd 9":     "10 11",
		"--rows 10":           "10",
		"--full --rows 4":     "4",
		"--full --parallel 1": "1a 1b 1c 1d 1e 1f 2 3a 3c 4 5 6 7 9a 9b 9c 8 10 11",
	} {
		o, err := parse(strings.Fields(args))
		if err != nil {
			t.Fatal(err)
		}
		list, err := o.wanted(scenarios())
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, s := range list {
			ids = append(ids, s.id)
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%q: got %s, want %s", args, got, want)
		}
	}
	o, _ := parse([]string{"--rows", "1,77"})
	if _, err := o.wanted(scenarios()); err == nil || !strings.Contains(err.Error(), `"77"`) {
		t.Errorf("row 77: got %v, want an error that names it", err)
	}
}

// TestScenarios: every row is there, every name means one thing.
func TestScenarios(t *testing.T) {
	seen := make(map[string]bool)
	rows := make(map[int]bool)
	for _, s := range scenarios() {
		rows[s.row] = true
		if scenarioByID(s.id) == nil || scenarioByID(s.id).id != s.id {
			t.Errorf("scenario %q is not found by its name", s.id)
		}
		for _, f := range s.figures {
			if seen[f.id] {
				t.Errorf("figure %q is there twice", f.id)
			}
			seen[f.id] = true
		}
	}
	for row := 1; row <= 11; row++ {
		if !rows[row] {
			t.Errorf("row %d is missing", row)
		}
	}
}

func TestCalendar(t *testing.T) {
	const end = 24 * time.Hour
	draw := func(seed uint64) (list []time.Duration) {
		c := newCalendar(seed, end)
		c.every(time.Hour, time.Minute, func() {}, func() {})
		for _, h := range c.sorted() {
			list = append(list, h.at)
		}
		return list
	}
	a, b := draw(1), draw(1)
	if len(a) < 10 || len(a)%2 != 0 {
		t.Errorf("a day of hourly mishaps: got %d happenings, want about 48, each with its end", len(a))
	}
	for i := range a {
		if a[i] != b[i] || (i > 0 && a[i] < a[i-1]) {
			t.Fatalf("happening %d: got %v and %v, want the same for the same seed, in order", i, a[i], b[i])
		}
	}
	if c := draw(2); len(c) == len(a) && c[0] == a[0] {
		t.Error("another seed: got the same day")
	}
}

func TestWatch(t *testing.T) {
	at := func(d time.Duration) time.Duration { return step(d) }
	if at(0) != finest || at(time.Second) != finest || at(time.Hour) != 3600*time.Millisecond || at(100*time.Hour) != 10*time.Second {
		t.Errorf("steps: got %v, %v, %v, %v", at(0), at(time.Second), at(time.Hour), at(100*time.Hour))
	}
}
