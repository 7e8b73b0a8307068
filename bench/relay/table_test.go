package main

import (
	"slices"
	"strings"
	"testing"
)

func judged(f figure, stockRounds, ourRounds []float64) *line {
	l := newLine("a/x", f)
	l.set(stock, spreadOf(stockRounds))
	l.set(ours, spreadOf(ourRounds))
	l.judge()
	return l
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		in            []float64
		mid, low, top float64
	}{
		{[]float64{3}, 3, 3, 3},
		{[]float64{9, 1, 2}, 2, 1, 9},
		{[]float64{4, 1, 2, 8}, 3, 1, 8},
	} {
		before := slices.Clone(c.in)
		s := spreadOf(c.in)
		if s.Median != c.mid || s.Min != c.low || s.Max != c.top {
			t.Errorf("%v: got %+v, want %v in %v to %v", c.in, s, c.mid, c.low, c.top)
		}
		if !slices.Equal(s.Rounds, before) {
			t.Errorf("%v: got rounds %v, want them in their order", before, s.Rounds)
		}
	}
	if spreadOf(nil) != nil {
		t.Error("no values: got a spread")
	}
}

func TestJudge(t *testing.T) {
	none := []float64(nil)
	for _, c := range []struct {
		name        string
		bound       *bound
		stock, ours []float64
		ratio       float64 // 0 for none
		missed      bool
		verdict     string
	}{
		{"no bound", nil, []float64{2}, []float64{4}, 2, false, ""},
		{"ratio kept", ratioAtMost(0.5), []float64{2, 4, 4}, []float64{2, 2, 9}, 0.5, false, "ok"},
		{"ratio missed", ratioAtMost(0.5), []float64{4}, []float64{2.1}, 0.525, true, "MISSED"},
		{"ratio without stock", ratioAtMost(0.5), none, []float64{2}, 0, true, "MISSED"},
		{"ratio of nothing", ratioAtMost(0.5), []float64{0}, []float64{2}, 0, true, "MISSED"},
		{"value kept", atMost(5), []float64{800}, []float64{5}, 0.00625, false, "ok"},
		{"value missed", atMost(5), none, []float64{5.1}, 0, true, "MISSED"},
		{"value without ours", atMost(5), []float64{1}, none, 0, true, "MISSED"},
	} {
		l := judged(figure{unit: micros, bound: c.bound}, c.stock, c.ours)
		var ratio float64
		if l.Ratio != nil {
			ratio = *l.Ratio
		}
		if ratio != c.ratio || l.Missed != c.missed || l.verdict() != c.verdict {
			t.Errorf("%s: got ratio %v, missed %v, %q, want %v, %v, %q", c.name, ratio, l.Missed, l.verdict(), c.ratio, c.missed, c.verdict)
		}
	}
	l := judged(figure{unit: micros, bound: atMost(5)}, nil, nil)
	if got, want := l.shortfall(), "not measured, want ≤ 5.00 µs"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestQuantity(t *testing.T) {
	for _, c := range []struct {
		v    float64
		u    unit
		want string
	}{
		{2.806, secondsPerGB, "2.81"},
		{395.4, megabytes, "395 MB/s"},
		{23761.2, perSecond, "23761/s"},
		{42.14, micros, "42.1 µs"},
		{1.5, times, "1.50×"},
		{793, bytesEach, "793 B"},
	} {
		if got := quantity(c.v, c.u); got != c.want {
			t.Errorf("%v %s: got %q, want %q", c.v, c.u, got, c.want)
		}
	}
}

func TestWriteTable(t *testing.T) {
	wide := judged(figure{what: "cost", unit: secondsPerGB, bound: ratioAtMost(0.35)}, []float64{2, 3, 4}, []float64{1, 1, 1})
	proxied := newLine("g/x", figure{what: "proxy", unit: megabytes})
	proxied.set(alone, spreadOf([]float64{700}))
	var b strings.Builder
	writeTable(&b, []*line{wide, proxied})
	const want = `
row  figure  stock go-libp2p   ours  ours/stock  bound
────────────────────────────────────────────────────────────
a/x  cost    3.00 (2.00–4.00)  1.00  0.33×       ≤ 0.35×  ok

row  figure  alone
───────────────────────
g/x  proxy   700 MB/s
`
	if got := "\n" + b.String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
