package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// spread is what the rounds made of one figure of one side.
type spread struct {
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Rounds []float64 `json:"rounds"`
}

// spreadOf summarises values, in the order in which they were measured.
func spreadOf(vs []float64) *spread {
	if len(vs) == 0 {
		return nil
	}
	sorted := slices.Sorted(slices.Values(vs))
	mid := sorted[len(sorted)/2]
	if len(sorted)%2 == 0 {
		mid = (mid + sorted[len(sorted)/2-1]) / 2
	}
	return &spread{Median: mid, Min: sorted[0], Max: sorted[len(sorted)-1], Rounds: vs}
}

// A bound is what must not be exceeded: by ours divided by stock, or by ours.
type bound struct {
	ratio bool
	max   float64
}

func ratioAtMost(v float64) *bound { return &bound{ratio: true, max: v} }

func atMost(v float64) *bound { return &bound{max: v} }

// line is one line of the table, and of --json.
type line struct {
	Row    string  `json:"row"`
	Figure string  `json:"figure"`
	What   string  `json:"what"`
	Unit   unit    `json:"unit"`
	Stock  *spread `json:"stock,omitempty"`
	Ours   *spread `json:"ours,omitempty"`
	Alone  *spread `json:"alone,omitempty"`
	// Ratio is that of the medians, ours by stock's; nil if one is missing.
	Ratio *float64 `json:"ratio,omitempty"`
	// Bound is what the ratio (BoundOf "ratio") or ours must not exceed.
	Bound   *float64 `json:"bound,omitempty"`
	BoundOf string   `json:"bound_of,omitempty"`
	Missed  bool     `json:"missed"`
	// Again tells that the bound was missed once, and this is the second try.
	Again  bool     `json:"measured_again,omitempty"`
	Errors []string `json:"errors,omitempty"`
}

func newLine(row string, f figure) *line {
	l := &line{Row: row, Figure: f.name, What: f.what, Unit: f.unit}
	if f.bound != nil {
		l.Bound, l.BoundOf = &f.bound.max, string(ours)
		if f.bound.ratio {
			l.BoundOf = "ratio"
		}
	}
	return l
}

func (l *line) set(s side, v *spread) {
	switch s {
	case stock:
		l.Stock = v
	case ours:
		l.Ours = v
	case alone:
		l.Alone = v
	}
}

// judge computes the ratio and decides whether the bound is missed. What could
// not be measured is missed too.
func (l *line) judge() {
	if l.Stock != nil && l.Ours != nil && l.Stock.Median > 0 {
		r := l.Ours.Median / l.Stock.Median
		l.Ratio = &r
	}
	if l.Bound == nil {
		return
	}
	v := l.bounded()
	l.Missed = v == nil || *v > *l.Bound
}

// bounded is the value that the bound speaks of; nil if it was not measured.
func (l *line) bounded() *float64 {
	switch {
	case l.BoundOf == "ratio":
		return l.Ratio
	case l.Ours != nil:
		return &l.Ours.Median
	}
	return nil
}

func anyMissed(lines []*line) bool {
	return slices.ContainsFunc(lines, func(l *line) bool { return l.Missed })
}

func (l *line) boundText() string {
	switch {
	case l.Bound == nil:
		return ""
	case l.BoundOf == "ratio":
		return fmt.Sprintf("≤ %.2f×", *l.Bound)
	}
	return "≤ " + quantity(*l.Bound, l.Unit)
}

// shortfall says what was measured and what was wanted, for a sentence.
func (l *line) shortfall() string {
	v := l.bounded()
	if v == nil {
		return "not measured, want " + l.boundText()
	}
	got := quantity(*v, l.Unit)
	if l.BoundOf == "ratio" {
		got = fmt.Sprintf("%.3f×", *v) // 0.353 is above 0.35
	}
	text := got + ", want " + l.boundText()
	if l.Again {
		text += " (measured twice)"
	}
	return text
}

func (l *line) verdict() string {
	switch {
	case len(l.Errors) > 0:
		return "ERROR"
	case l.Bound == nil:
		return ""
	case l.Missed:
		return "MISSED"
	}
	return "ok"
}

// unit says how a number is written.
type unit string

const (
	secondsPerGB unit = "CPU s/GB"
	megabytes    unit = "MB/s"
	micros       unit = "µs"
	millis       unit = "ms"
	perSecond    unit = "1/s"
	bytesEach    unit = "B"
	times        unit = "×"
)

// quantity writes a number with three digits that count, and its unit.
func quantity(v float64, u unit) string {
	prec := 2
	switch {
	case v >= 100:
		prec = 0
	case v >= 10:
		prec = 1
	}
	text := fmt.Sprintf("%.*f", prec, v)
	switch u {
	case times:
		return text + "×"
	case secondsPerGB:
		return text
	case perSecond:
		return text + "/s"
	}
	return text + " " + string(u)
}

// cell is a spread as people read it: the median, and the range unless it is
// narrow.
func (l *line) cell(s *spread) string {
	if s == nil {
		return "–"
	}
	text := quantity(s.Median, l.Unit)
	if lo, hi := number(s.Min, l.Unit), number(s.Max, l.Unit); len(s.Rounds) > 1 && s.Max-s.Min > s.Median/20 {
		text += " (" + lo + "–" + hi + ")"
	}
	return text
}

func number(v float64, u unit) string {
	text, _, _ := strings.Cut(quantity(v, u), " ")
	return strings.TrimSuffix(strings.TrimSuffix(text, "/s"), "×")
}

func (l *line) ratioText() string {
	if l.Ratio == nil {
		return ""
	}
	return fmt.Sprintf("%.2f×", *l.Ratio)
}

// writeTable prints the lines in columns, the upper bounds in a table of their
// own.
func writeTable(w io.Writer, lines []*line) {
	compared := [][]string{{"row", "figure", "stock go-libp2p", "ours", "ours/stock", "bound", ""}}
	single := [][]string{{"row", "figure", "alone", ""}}
	for _, l := range lines {
		if l.Alone != nil || strings.HasPrefix(l.Row, "g/") {
			single = append(single, []string{l.Row, l.What, l.cell(l.Alone), l.verdict()})
			continue
		}
		compared = append(compared, []string{l.Row, l.What, l.cell(l.Stock), l.cell(l.Ours), l.ratioText(), l.boundText(), l.verdict()})
	}
	if len(compared) > 1 {
		writeColumns(w, compared)
	}
	if len(single) > 1 {
		if len(compared) > 1 {
			fmt.Fprintln(w)
		}
		writeColumns(w, single)
	}
}

func writeColumns(w io.Writer, rows [][]string) {
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
			b.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(c)+2))
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
