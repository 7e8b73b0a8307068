//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A cell is one pair over one transport: stock's trials and ours.
type cell struct {
	pair      pair
	ID        string  `json:"pair"`
	Transport string  `json:"transport"`
	Trials    []trial `json:"trials"`
	// First are the trials that missed a bound; those in Trials came after.
	First []trial `json:"first,omitempty"`
}

func newCell(p pair, transport string) *cell {
	return &cell{pair: p, ID: p.id, Transport: transport}
}

// score sums up the trials of one impl.
type score struct {
	tried, direct int
	median        float64 // seconds, of those that succeeded
}

func (c *cell) score(i impl) (s score) {
	var seconds []float64
	for _, t := range c.Trials {
		if t.Impl != i || t.Broken {
			continue
		}
		s.tried++
		if t.Direct {
			s.direct++
			seconds = append(seconds, t.Seconds)
		}
	}
	s.median = median(seconds)
	return s
}

func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	mid := len(list) / 2
	if len(list)%2 == 0 {
		return (list[mid-1] + list[mid]) / 2
	}
	return list[mid]
}

// String is a score as the tables have it: successes, median seconds.
func (s score) String() string {
	switch {
	case s.tried == 0:
		return "–"
	case s.direct == 0:
		return "**0**"
	}
	text := fmt.Sprintf("%.2f", s.median)
	if s.direct < s.tried {
		text = fmt.Sprintf("%d/%d %s", s.direct, s.tried, text)
	}
	return text
}

const (
	// slower is how much longer than stock ours may take.
	slower = 1.2
	// noise is what a busy machine adds to a fifth of a second.
	noise = 100 * time.Millisecond
)

// missed names the bounds that ours did not keep, in a sentence each. Bounds
// that compare need both.
func (c *cell) missed() (list []string) {
	ours, stock := c.score(ours), c.score(stock)
	if ours.tried == 0 {
		return nil
	}
	say := func(format string, args ...any) {
		list = append(list, fmt.Sprintf("%s over %s: ", c.ID, c.Transport)+fmt.Sprintf(format, args...))
	}
	switch {
	case (c.pair.mustAll || c.pair.within > 0) && ours.direct < ours.tried:
		say("ours got a direct path in %d of %d trials, want all", ours.direct, ours.tried)
	case stock.tried > 0 && stock.direct == stock.tried && ours.direct < ours.tried:
		say("ours got a direct path in %d of %d trials, stock in all", ours.direct, ours.tried)
	case stock.direct > 0 && ours.direct == 0:
		say("ours never got a direct path, stock in %d of %d trials", stock.direct, stock.tried)
	}
	if limit := stock.median*slower + noise.Seconds(); stock.direct > 0 && ours.direct > 0 && ours.median > limit {
		say("ours took %.2f s, stock %.2f, want at most %.2f", ours.median, stock.median, limit)
	}
	if within := c.pair.within; within > 0 && ours.median > within.Seconds() {
		say("ours took %.2f s, want at most %s", ours.median, within)
	}
	for _, i := range []impl{oursStock, stockOurs} {
		if s := c.score(i); stock.tried > 0 && stock.direct == stock.tried && s.direct < s.tried {
			say("%s got a direct path in %d of %d trials, two stock nodes in all", i, s.direct, s.tried)
		}
	}
	if c.pair.mustSome && c.Transport != tcp && ours.direct == 0 {
		say("ours got a direct path in none of %d trials, want at least one", ours.tried)
	}
	return list
}

// broken names the trials that measured nothing.
func (c *cell) broken() (list []string) {
	for _, t := range c.Trials {
		if t.Broken {
			list = append(list, fmt.Sprintf("%s over %s, %s, trial %d: %s", t.Pair, t.Transport, t.Impl, t.N, strings.TrimSpace(t.Err)))
		}
	}
	return list
}

func (o outcome) String() string {
	if o.Direct {
		return fmt.Sprintf("%.2f s %s", o.Seconds, o.Path)
	}
	return o.Err
}
