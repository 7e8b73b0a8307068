package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// spread is what the runs of one side made of one figure.
type spread struct {
	Median  float64   `json:"median"`
	Min     float64   `json:"min"`
	Max     float64   `json:"max"`
	Over    bool      `json:"over_horizon,omitempty"` // the median had not ended at the horizon
	AnyOver bool      `json:"some_over_horizon,omitempty"`
	Runs    []float64 `json:"runs"`
}

// spreadOf summarises values; with an even number the median is the upper of
// the two in the middle.
func spreadOf(vs []value) *spread {
	if len(vs) == 0 {
		return nil
	}
	vs = slices.Clone(vs)
	slices.SortFunc(vs, func(a, b value) int {
		switch {
		case a.V < b.V:
			return -1
		case a.V > b.V:
			return 1
		}
		return 0
	})
	s := &spread{Median: vs[len(vs)/2].V, Over: vs[len(vs)/2].Over, Min: vs[0].V, Max: vs[len(vs)-1].V}
	for _, v := range vs {
		s.Runs = append(s.Runs, v.V)
		s.AnyOver = s.AnyOver || v.Over
	}
	return s
}

// line is one line of the table, and of --json.
type line struct {
	ID      string   `json:"id"`
	Row     int      `json:"row"`
	What    string   `json:"what"`
	Unit    unit     `json:"unit"`
	Bound   *float64 `json:"bound,omitempty"`
	AtLeast bool     `json:"at_least,omitempty"` // the bound is a lower one
	Stock   *spread  `json:"stock,omitempty"`
	Ours    *spread  `json:"ours,omitempty"`
	OnStock *spread  `json:"ours_on_stock_relays,omitempty"`
	Missed  bool     `json:"missed"`
	Errors  []string `json:"errors,omitempty"`
}

// judge decides whether ours misses the bound: in the worst run, on our relays
// and on stock ones. What could not be measured is missed too.
func (l *line) judge() {
	l.Missed = false
	if l.Bound == nil {
		return
	}
	if len(l.Errors) > 0 || (l.Ours == nil && l.OnStock == nil) {
		l.Missed = true
	}
	for _, s := range []*spread{l.Ours, l.OnStock} {
		switch {
		case s == nil:
		case s.Over || s.AnyOver:
			l.Missed = true
		case l.AtLeast:
			l.Missed = l.Missed || s.Min < *l.Bound
		default:
			l.Missed = l.Missed || s.Max > *l.Bound
		}
	}
}

// verdict is the last column.
func (l *line) verdict() string {
	switch {
	case l.Bound == nil:
		return ""
	case len(l.Errors) > 0:
		return "ERROR"
	case l.Missed:
		return "MISSED"
	}
	return "ok"
}

func (l *line) boundText() string {
	if l.Bound == nil {
		return ""
	}
	sign := "≤ "
	if l.AtLeast {
		sign = "≥ "
	}
	return sign + quantity(*l.Bound, l.Unit)
}

// cell is a spread as people read it: the median, and the range unless it is
// narrow.
func (l *line) cell(s *spread) string {
	if s == nil {
		return "–"
	}
	text := quantity(s.Median, l.Unit)
	if s.Over {
		text = ">" + text
	}
	lo, hi := quantity(s.Min, l.Unit), quantity(s.Max, l.Unit)
	if len(s.Runs) > 1 && lo != hi && s.Max-s.Min > s.Median/20 {
		text += " (" + lo + "–" + hi + ")"
	}
	return text
}

// quantity writes a number with its unit.
func quantity(v float64, u unit) string {
	switch u {
	case seconds:
		return duration(v)
	case percent:
		return trimZeros(fmt.Sprintf("%.3f", v)) + " %"
	}
	return trimZeros(fmt.Sprintf("%.1f", v))
}

func duration(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v < 1:
		return fmt.Sprintf("%.0f ms", v*1000)
	case v < 100:
		return trimZeros(fmt.Sprintf("%.1f", v)) + " s"
	case v < 6000:
		return trimZeros(fmt.Sprintf("%.1f", v/60)) + " min"
	}
	return trimZeros(fmt.Sprintf("%.1f", v/3600)) + " h"
}

func trimZeros(s string) string {
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// writeTable prints the lines in columns.
func writeTable(w io.Writer, lines []*line) {
	rows := [][]string{{"row", "situation", "stock go-libp2p", "ours", "ours on stock relays", "bound", ""}}
	for _, l := range lines {
		rows = append(rows, []string{l.ID, l.What, l.cell(l.Stock), l.cell(l.Ours), l.cell(l.OnStock), l.boundText(), l.verdict()})
	}
	width := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, c := range r {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	for n, r := range rows {
		var b strings.Builder
		for i, c := range r {
			b.WriteString(c)
			if i < len(r)-1 {
				b.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(c)+2))
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
		if n == 0 {
			total := 0
			for _, x := range width {
				total += x + 2
			}
			fmt.Fprintln(w, strings.Repeat("─", total-2))
		}
	}
}

// missed lists the lines in which ours misses its bound.
func missed(lines []*line) (list []*line) {
	for _, l := range lines {
		if l.Missed {
			list = append(list, l)
		}
	}
	return list
}

// measured says what ours measured, for a sentence.
func (l *line) measured() string {
	switch {
	case len(l.Errors) > 0:
		return "could not be measured"
	case l.Ours == nil && l.OnStock == nil:
		return "not measured"
	case l.Ours == nil:
		return l.cell(l.OnStock) + " on stock relays"
	case l.OnStock == nil:
		return l.cell(l.Ours)
	}
	return l.cell(l.Ours) + ", on stock relays " + l.cell(l.OnStock)
}
