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

// lastVerdictWithin is how long until it stays at that. It takes 4 s, too, for
// strangers to fail at an address-restricted NAT: the tests in virtual time hold
// that. Six dials at once take longer on a busy machine.
const lastVerdictWithin = 6 * time.Second

// truth is what a judge should say.
func truth(n network) string {
	if n == public || n == fullCone {
		return "public"
	}
	return "private"
}

// right: a node that says public and is not does no harm while it keeps a relay.
func (v verdict) right(n network) bool {
	return v.Says == truth(n) || v.Insured
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
		case !last.right(j.Network):
			missed = append(missed, fmt.Sprintf("verdict behind %s, trial %d: %s, want %s (%s)", j.Network, j.N, last.Says, truth(j.Network), last.Because))
		}
		if limit := firstVerdictWithin + noise; first.Seconds > limit.Seconds() {
			missed = append(missed, fmt.Sprintf("verdict behind %s, trial %d: after %.1f s, want at most %s", j.Network, j.N, first.Seconds, limit))
		} else if last.Seconds > lastVerdictWithin.Seconds() {
			missed = append(missed, fmt.Sprintf("verdict behind %s, trial %d: %s only after %.1f s, want at most %s", j.Network, j.N, last.Says, last.Seconds, lastVerdictWithin))
		}
	}
	return missed, broken
}

// A course is one way in which a judge's trials went: what was said, in which
// order.
type course struct {
	words   []verdict
	seconds [][]float64 // of each word
	count   int
}

// courses sorts the trials of one judge behind one network.
func courses(list []judged, n network, judge string) (all []*course) {
	known := make(map[string]*course)
	for _, j := range list {
		if j.Network != n || j.Err != "" || (judge == judgeNode) != (j.Impl == ours) {
			continue
		}
		var words []verdict
		var text []string
		for _, v := range j.Verdicts {
			if v.Judge == judge {
				words, text = append(words, v), append(text, v.word())
			}
		}
		key := strings.Join(text, ", ")
		c := known[key]
		if c == nil {
			c = &course{words: words, seconds: make([][]float64, len(words))}
			known[key], all = c, append(all, c)
		}
		c.count++
		for i, v := range words {
			c.seconds[i] = append(c.seconds[i], v.Seconds)
		}
	}
	return all
}

// verdictCell sums up what a judge said behind one network; times are medians.
func verdictCell(list []judged, n network, judge string) string {
	var parts []string
	all := courses(list, n, judge)
	for _, c := range all {
		text := "none"
		if last := len(c.words) - 1; last >= 0 {
			var said []string
			for i, v := range c.words {
				said = append(said, fmt.Sprintf("%s %.1f s", v.word(), median(c.seconds[i])))
			}
			text = strings.Join(said, ", then ")
			if !c.words[last].right(n) {
				text = "**" + text + "**"
			}
		}
		if len(all) > 1 {
			text += fmt.Sprintf(" (%d×)", c.count)
		}
		parts = append(parts, text)
	}
	if len(parts) == 0 {
		return "–"
	}
	return strings.Join(parts, "; ")
}

func (v verdict) word() string {
	if v.Insured {
		return v.Says + " with a relay kept"
	}
	return v.Says
}

func (j judged) String() string {
	if j.Err != "" {
		return j.Err
	}
	var parts []string
	for _, v := range j.Verdicts {
		parts = append(parts, fmt.Sprintf("%s: %s %.1f s", v.Judge, v.word(), v.Seconds))
	}
	if len(parts) == 0 {
		return "no verdict"
	}
	return strings.Join(parts, "; ")
}
