//go:build linux

package main

import (
	"fmt"
	"strings"
	"time"
)

// firstVerdictWithin is how long ours may take to say what it is; noise comes
// on top.
const firstVerdictWithin = 4 * time.Second

// truth is what a judge should say.
func truth(n network) string {
	if n == public || n == fullCone {
		return "public"
	}
	return "private"
}

// last is the latest word of a judge, and first when it spoke first; nil if it
// was silent.
func (j judged) last(judge string) (first, last *verdict) {
	for i := range j.Verdicts {
		if v := &j.Verdicts[i]; v.Judge == judge {
			if first == nil {
				first = v
			}
			last = v
		}
	}
	return first, last
}

// missedVerdicts names the verdicts of ours that are wrong or late, and the
// trials that measured nothing.
func missedVerdicts(list []judged) (missed, broken []string) {
	for _, j := range list {
		if j.Err != "" {
			broken = append(broken, fmt.Sprintf("verdict behind %s, %s, trial %d: %s", j.Network, j.Impl, j.N, j.Err))
			continue
		}
		if j.Impl != ours {
			continue
		}
		first, last := j.last(judgeNode)
		switch {
		case first == nil:
			missed = append(missed, fmt.Sprintf("verdict behind %s, trial %d: none in %s", j.Network, j.N, verdictPatience))
			continue
		case last.Says != truth(j.Network):
			missed = append(missed, fmt.Sprintf("verdict behind %s, trial %d: %s, want %s (%s)", j.Network, j.N, last.Says, truth(j.Network), last.Because))
		}
		if limit := firstVerdictWithin + noise; first.Seconds > limit.Seconds() {
			missed = append(missed, fmt.Sprintf("verdict behind %s, trial %d: after %.1f s, want at most %s", j.Network, j.N, first.Seconds, limit))
		}
	}
	return missed, broken
}

// verdictCell sums up what a judge said behind one network: the last word, and
// the median of when it was first spoken.
func verdictCell(list []judged, n network, judge string) string {
	said := make(map[string][]float64)
	var order []string
	for _, j := range list {
		if j.Network != n || j.Err != "" || (judge == judgeNode) != (j.Impl == ours) {
			continue
		}
		says, seconds := "none", 0.0
		if first, last := j.last(judge); first != nil {
			says, seconds = last.Says, first.Seconds
			if last != first {
				says, seconds = first.Says+", then "+last.Says, last.Seconds
			}
		}
		if said[says] == nil {
			order = append(order, says)
		}
		said[says] = append(said[says], seconds)
	}
	var parts []string
	for _, says := range order {
		text := says
		if says != "none" {
			text += fmt.Sprintf(" %.1f s", median(said[says]))
			if !strings.HasSuffix(says, truth(n)) {
				text = "**" + text + "**"
			}
		}
		if len(order) > 1 {
			text += fmt.Sprintf(" (%d×)", len(said[says]))
		}
		parts = append(parts, text)
	}
	if len(parts) == 0 {
		return "–"
	}
	return strings.Join(parts, ", ")
}

func (j judged) String() string {
	if j.Err != "" {
		return j.Err
	}
	var parts []string
	for _, v := range j.Verdicts {
		parts = append(parts, fmt.Sprintf("%s: %s %.1f s", v.Judge, v.Says, v.Seconds))
	}
	if len(parts) == 0 {
		return "no verdict"
	}
	return strings.Join(parts, "; ")
}
