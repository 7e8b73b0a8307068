//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
)

// markdown is all tables that there is something in.
func markdown(out output) string {
	var b strings.Builder
	for _, i := range []impl{stock, ours, oursStock, stockOurs} {
		for _, t := range transports {
			matrix(&b, out.Cells, i, t)
		}
	}
	specialTable(&b, out.Cells)
	guessTable(&b, out.Cells)
	verdictTable(&b, out.Verdicts)
	fmt.Fprintf(&b, "%d trial(s) of each, round trip %.0f ms, %s, go-libp2p %s, %d CPUs, %.0f s in all.\n",
		out.Trials, out.RTT*1000, out.Go, out.Libp2p, out.CPUs, out.TookS)
	return b.String()
}

// document is markdown with an introduction, for docs.
func document(out output) string {
	return `# Direct paths behind NATs, measured

` + "`go run ./bench/nat`" + ` on one machine: network namespaces, the kernel's NAT
([internal/natlab](../internal/natlab)), every node a process of its own, every
trial with fresh processes and fresh mappings. See
[bench/nat](../bench/nat/README.md) for what is measured and how.

` + bounds(out) + "\n" + markdown(out)
}

// bounds says which of them were kept.
func bounds(out output) string {
	if len(out.Missed)+len(out.Broken) == 0 {
		return "Every bound was kept.\n"
	}
	var b strings.Builder
	b.WriteString("Bounds that were missed:\n\n")
	for _, m := range append(slices.Clone(out.Missed), out.Broken...) {
		fmt.Fprintf(&b, "- %s\n", m)
	}
	return b.String()
}

// matrix is the table of one impl over one transport; nothing if it is empty.
func matrix(b *strings.Builder, cells []*cell, i impl, transport string) {
	rows := [][]string{append([]string{"relayed \\ caller", string(public)}, names(natted)...)}
	for _, relayed := range natted {
		row := []string{string(relayed)}
		some := false
		for _, caller := range append([]network{public}, natted...) {
			text := ""
			for _, c := range cells {
				if c.pair.relayed == relayed && c.pair.caller == caller && c.Transport == transport {
					if s := c.score(i); s.tried > 0 {
						text, some = s.String(), true
					}
				}
			}
			row = append(row, text)
		}
		if some {
			rows = append(rows, row)
		}
	}
	if len(rows) == 1 {
		return
	}
	fmt.Fprintf(b, "### %s, %s\n\nMedian seconds from relayed to direct; successes of trials where not all.\n\n", titles[i], transportTitles[transport])
	writeTable(b, rows)
}

var (
	titles = map[impl]string{
		stock: "Stock go-libp2p", ours: "Ours",
		oursStock: "Ours, called by stock go-libp2p", stockOurs: "Stock go-libp2p, called by ours",
	}
	transportTitles = map[string]string{quic: "QUIC", tcp: "TCP", both: "QUIC and TCP"}
)

// specialTable has what is no pair of NATs.
func specialTable(b *strings.Builder, cells []*cell) {
	rows := [][]string{{"", "transport", "stock", "ours"}}
	for _, c := range cells {
		if c.pair.what != "" {
			rows = append(rows, []string{c.pair.what, transportTitles[c.Transport], c.score(stock).String(), c.score(ours).String()})
		}
	}
	if len(rows) > 1 {
		b.WriteString("### Special pairs\n\nMedian seconds from relayed to direct; successes of trials where not all.\n\n")
		writeTable(b, rows)
	}
}

// guessTable says what it costs to guess ports.
func guessTable(b *strings.Builder, cells []*cell) {
	rows := [][]string{{"relayed/caller", "transport", "direct", "median s", "packets if direct", "packets if not"}}
	for _, c := range cells {
		s := c.score(ours)
		if !c.pair.guess || c.Transport == tcp || s.tried == 0 {
			continue
		}
		packets := map[bool][]float64{}
		for _, t := range c.Trials {
			if t.Impl == ours && !t.Broken {
				packets[t.Direct] = append(packets[t.Direct], float64(t.Packets))
			}
		}
		count := func(list []float64) string {
			if len(list) == 0 {
				return ""
			}
			return fmt.Sprintf("%.0f", median(list))
		}
		seconds := ""
		if s.direct > 0 {
			seconds = fmt.Sprintf("%.2f", s.median)
		}
		rows = append(rows, []string{
			c.ID, transportTitles[c.Transport], fmt.Sprintf("%d of %d", s.direct, s.tried), seconds,
			count(packets[true]), count(packets[false]),
		})
	}
	if len(rows) > 1 {
		fmt.Fprintf(b, "### Guessing ports, ours\n\nPackets are what both nodes sent from the call to the direct connection, or in %s without one; medians.\n\n", giveUp)
		writeTable(b, rows)
	}
}

func verdictTable(b *strings.Builder, list []judged) {
	rows := [][]string{{"behind", "stock, AutoNAT v1", "stock, AutoNAT v2", "ours"}}
	for _, n := range append([]network{public}, natted...) {
		if slices.ContainsFunc(list, func(j judged) bool { return j.Network == n }) {
			rows = append(rows, []string{string(n), verdictCell(list, n, judgeV1), verdictCell(list, n, judgeV2), verdictCell(list, n, judgeNode)})
		}
	}
	if len(rows) > 1 {
		b.WriteString("### Verdicts\n\nWhat was said, and when after the start; wrong ones in bold. A relay kept means that\nthe node seeks one all the same, until strangers have got through.\n\n")
		writeTable(b, rows)
	}
}

func names(list []network) (s []string) {
	for _, n := range list {
		s = append(s, string(n))
	}
	return s
}

// writeTable writes a Markdown table whose columns are aligned, so that it
// reads as well in a terminal.
func writeTable(b *strings.Builder, rows [][]string) {
	width := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, c := range r {
			width[i] = max(width[i], len([]rune(c)), 3)
		}
	}
	for n, r := range rows {
		for i, c := range r {
			fmt.Fprintf(b, "| %s%s ", c, strings.Repeat(" ", width[i]-len([]rune(c))))
		}
		b.WriteString("|\n")
		if n == 0 {
			for _, w := range width {
				b.WriteString("|" + strings.Repeat("-", w+2))
			}
			b.WriteString("|\n")
		}
	}
	b.WriteString("\n")
}
