//go:build linux

package main

import (
	"strings"
	"testing"
	"time"
)

// cellOf makes a cell of results in seconds; a negative one is a failure.
func cellOf(p pair, transport string, stockSeconds, oursSeconds []float64) *cell {
	c := newCell(p, transport)
	for i, list := range map[impl][]float64{stock: stockSeconds, ours: oursSeconds} {
		for n, s := range list {
			t := trial{Pair: p.id, Transport: transport, Impl: i, N: n + 1}
			if s >= 0 {
				t.outcome = outcome{Direct: true, Seconds: s}
			} else {
				t.outcome = outcome{Err: "no direct connection"}
			}
			c.Trials = append(c.Trials, t)
		}
	}
	return c
}

func TestBounds(t *testing.T) {
	plain, all := pair{id: "a/b"}, pair{id: "a/b", mustAll: true}
	some, fast := pair{id: "a/b", mustSome: true}, pair{id: "a/b", within: time.Second}
	const no = -1
	for _, tc := range []struct {
		name        string
		pair        pair
		transport   string
		stock, ours []float64
		want        string // part of the only sentence; empty is none
	}{
		{"as fast", plain, quic, []float64{.3, .3, .3}, []float64{.3, .3, .3}, ""},
		{"within a fifth and the noise", plain, quic, []float64{.3, .3, .3}, []float64{.45, .45, .45}, ""},
		{"slower", plain, quic, []float64{.3, .3, .3}, []float64{.3, .5, .5}, "0.50 s"},
		{"fails where stock never does", plain, quic, []float64{.3, .3, .3}, []float64{.3, .3, no}, "2 of 3"},
		{"fails where stock may", plain, quic, []float64{.3, no, .3}, []float64{.3, .3, no}, ""},
		{"never where stock may", plain, quic, []float64{.3, no, no}, []float64{no, no, no}, "never"},
		{"never, like stock", plain, quic, []float64{no, no}, []float64{no, no}, ""},
		{"better than stock", plain, quic, []float64{no, no}, []float64{9, no}, ""},
		{"without stock", plain, quic, nil, []float64{9, no}, ""},
		{"without ours", all, quic, []float64{.3}, nil, ""},
		{"all", all, both, []float64{no, no}, []float64{.3, no}, "want all"},
		{"all, without stock", all, both, nil, []float64{.3, no}, "want all"},
		{"within", fast, quic, []float64{10.6}, []float64{.9}, ""},
		{"not within", fast, quic, []float64{10.6}, []float64{1.1}, "at most 1s"},
		{"within, but not all", fast, quic, []float64{10.6, 10.6}, []float64{.9, no}, "want all"},
		{"some", some, quic, []float64{no, no}, []float64{no, 3}, ""},
		{"none", some, quic, []float64{no, no}, []float64{no, no}, "at least one"},
		{"none over TCP", some, tcp, []float64{no, no}, []float64{no, no}, ""},
	} {
		got := cellOf(tc.pair, tc.transport, tc.stock, tc.ours).missed()
		switch {
		case tc.want == "" && len(got) > 0:
			t.Errorf("%s: missed %q", tc.name, got)
		case tc.want != "" && (len(got) != 1 || !strings.Contains(got[0], tc.want)):
			t.Errorf("%s: missed %q, want one that says %q", tc.name, got, tc.want)
		}
	}
}

func TestScore(t *testing.T) {
	c := cellOf(pair{id: "a/b"}, quic, []float64{.4, .2, .3, .5}, []float64{-1, -1})
	c.Trials = append(c.Trials, trial{Impl: ours, Broken: true})
	if s := c.score(stock); s.String() != "0.35" || s.tried != 4 || s.direct != 4 {
		t.Errorf("stock's score is %+v, %s", s, s)
	}
	if s := c.score(ours); s.String() != "**0**" || s.tried != 2 {
		t.Errorf("our score is %+v, %s", s, s)
	}
	if s := cellOf(pair{}, quic, []float64{.2, -1}, nil).score(stock); s.String() != "1/2 0.20" {
		t.Errorf("a score with a failure is %s", s)
	}
	if len(c.broken()) != 1 {
		t.Errorf("broken: %q, want one", c.broken())
	}
}

func said(judge string, seconds float64, says string) verdict {
	return verdict{Judge: judge, Seconds: seconds, Says: says}
}

func TestVerdicts(t *testing.T) {
	list := []judged{
		{Network: portRestricted, Impl: ours, N: 1, Verdicts: []verdict{said(judgeNode, 2.5, "private")}},
		{Network: portRestricted, Impl: ours, N: 2, Verdicts: []verdict{said(judgeNode, 6, "private")}},
		{Network: addressRestricted, Impl: ours, N: 1, Verdicts: []verdict{said(judgeNode, .3, "public")}},
		{Network: fullCone, Impl: ours, N: 1, Verdicts: []verdict{said(judgeNode, 1, "private"), said(judgeNode, 2, "public")}},
		{Network: cgnat, Impl: ours, N: 1, Verdicts: []verdict{{Judge: judgeNode, Seconds: .3, Says: "public", Insured: true}}},
		{Network: symmetric, Impl: ours, N: 1},
		{Network: addressRestricted, Impl: ours, N: 2, Verdicts: []verdict{{Judge: judgeNode, Seconds: .3, Says: "public", Insured: true}, said(judgeNode, 20, "private")}},
		{Network: public, Impl: ours, N: 1, Err: "no lab"},
		{Network: symmetric, Impl: stock, N: 1, Verdicts: []verdict{said(judgeV1, 17, "private")}},
	}
	missed, broken := missedVerdicts(list)
	if len(missed) != 4 || len(broken) != 1 {
		t.Errorf("missed %q, want the late, the wrong, the missing and the one that was right too late; broken %q", missed, broken)
	}
	for _, tc := range []struct {
		network network
		judge   string
		want    string
	}{
		{portRestricted, judgeNode, "private 4.2 s"},
		{addressRestricted, judgeNode, "**public 0.3 s** (1×); public with a relay kept 0.3 s, then private 20.0 s (1×)"},
		{fullCone, judgeNode, "private 1.0 s, then public 2.0 s"},
		{cgnat, judgeNode, "public with a relay kept 0.3 s"},
		{symmetric, judgeNode, "none"},
		{symmetric, judgeV1, "private 17.0 s"},
		{symmetric, judgeV2, "none"},
		{public, judgeNode, "–"},
	} {
		if got := verdictCell(list, tc.network, tc.judge); got != tc.want {
			t.Errorf("%s by %s: %q, want %q", tc.network, tc.judge, got, tc.want)
		}
	}
}

func TestTables(t *testing.T) {
	out := output{Trials: 1, Missed: []string{"same-lan was slow"}, Cells: []*cell{
		cellOf(pair{id: "symmetric/public", relayed: symmetric, caller: public}, quic, []float64{.2}, []float64{.1}),
		cellOf(pair{id: "symmetric/symmetric", guess: true}, quic, nil, []float64{1, -1, 3}),
		cellOf(pair{id: "same-lan", what: "same LAN"}, both, []float64{-1}, []float64{.1}),
	}}
	text := document(out)
	for _, want := range []string{
		"### Stock go-libp2p, QUIC\n", "### Ours, QUIC\n", "| symmetric ", "### Special pairs",
		"| symmetric/symmetric | QUIC      | 2 of 3 | 2.00     | 0 ",
		"| same LAN | QUIC and TCP | **0** | 0.10 |", "# Direct paths", "- same-lan was slow\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in:\n%s", want, text)
		}
	}
	for _, not := range []string{"Ours, TCP", "### Verdicts", "| full cone  "} {
		if strings.Contains(text, not) {
			t.Errorf("there is %q in:\n%s", not, text)
		}
	}
}
