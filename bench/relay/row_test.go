package main

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

// script is a row whose probes follow orders instead of measuring.
type script struct {
	opened, closed int
	order          []string
	next           map[side][]float64
	fails          side
}

type scripted struct {
	*script
	side side
}

func (s *script) row(f figure, fresh bool) *row {
	return &row{id: "s", sides: both, figures: []figure{f}, fresh: fresh, open: func(_ context.Context, _ *bench, sd side) (probe, error) {
		s.opened++
		return &scripted{s, sd}, nil
	}}
}

func (s *scripted) round(context.Context, int) (values, error) {
	s.order = append(s.order, string(s.side))
	if s.fails == s.side {
		return nil, errors.New("broken")
	}
	list := s.next[s.side]
	s.next[s.side] = list[1:]
	return values{"x": list[0]}, nil
}

func (s *scripted) close() { s.closed++ }

func TestMeasure(t *testing.T) {
	for _, c := range []struct {
		name   string
		fresh  bool
		fails  side
		opened int
		order  string
		errs   int
	}{
		{"interleaved", false, "", 2, "stock ours ours stock stock ours", 0},
		{"fresh", true, "", 6, "stock ours ours stock stock ours", 0},
		{"one breaks", false, ours, 2, "stock ours stock stock", 1},
	} {
		s := &script{fails: c.fails, next: map[side][]float64{stock: {1, 2, 3}, ours: {4, 5, 6}}}
		b := &bench{progress: io.Discard}
		lines := b.measure(t.Context(), s.row(figure{name: "x", unit: times, bound: atMost(7)}, c.fresh), 3)
		if got := strings.Join(s.order, " "); got != c.order || s.opened != c.opened || s.closed != s.opened {
			t.Errorf("%s: got %s, %d opened, %d closed, want %s, %d opened and closed", c.name, got, s.opened, s.closed, c.order, c.opened)
		}
		l := lines[0]
		if !slices.Equal(l.Stock.Rounds, []float64{1, 2, 3}) || len(l.Errors) != c.errs || l.Missed != (c.errs > 0) {
			t.Errorf("%s: got %+v, errors %v, missed %v, want stock's three rounds and %d errors", c.name, l.Stock, l.Errors, l.Missed, c.errs)
		}
	}
}

// TestCheck: what is missed once is measured again, and the second try counts.
func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name   string
		ours   []float64
		code   int
		rounds int
	}{
		{"kept", []float64{1}, 0, 1},
		{"noise", []float64{9, 1, 1}, 0, 2},
		{"missed", []float64{9, 9, 9}, 1, 2},
	} {
		s := &script{next: map[side][]float64{stock: {4, 4, 4}, ours: c.ours}}
		var stdout, stderr strings.Builder
		args := []string{"--check", "--rounds", "1"}
		code := run(t.Context(), args, []*row{s.row(figure{name: "x", what: "x", unit: times, bound: ratioAtMost(0.5)}, false)}, &stdout, &stderr)
		if code != c.code {
			t.Errorf("%s: got exit code %d, want %d; said %s", c.name, code, c.code, stderr.String())
		}
		if again := strings.Contains(stderr.String(), "once more, with 2 rounds"); again != (c.rounds == 2) {
			t.Errorf("%s: measured again: got %v, want %v; said %s", c.name, again, c.rounds == 2, stderr.String())
		}
	}
}
