package main

import (
	"fmt"
	"strings"

	"github.com/causeway-p2p/causeway/internal/cli"
	"github.com/causeway-p2p/causeway/relay"
)

// furtherLimits says in words what relay.Limits.String leaves out: what bounds
// a peer's share, if anything, and the classes.
func furtherLimits(l relay.Limits) (out []string) {
	if s := shareWords(l.Rate, l.Burst, l.MonthlyBytes); len(s) > 0 {
		out = append(out, "each peer "+strings.Join(s, ", "))
	}
	for i := range l.Classes {
		out = append(out, "class "+l.Classes[i].Name+": "+classWords(l.Classes[i]))
	}
	return out
}

// classWords says in words what a class may use.
func classWords(c relay.Class) string {
	var s []string
	if c.Reservations > 0 {
		s = append(s, many(c.Reservations, "reservation"))
	}
	if c.CircuitsPerPeer > 0 {
		s = append(s, many(c.CircuitsPerPeer, "circuit")+" per peer")
	}
	switch {
	case c.HolePunchOnly:
		s = append(s, "circuits for hole punching only")
	case c.CircuitTime > 0 && c.CircuitBytes > 0:
		s = append(s, fmt.Sprintf("each circuit up to %s and %s each way", shortDuration(c.CircuitTime), cli.Bytes(c.CircuitBytes)))
	case c.CircuitTime > 0:
		s = append(s, "each circuit up to "+shortDuration(c.CircuitTime))
	case c.CircuitBytes > 0:
		s = append(s, fmt.Sprintf("each circuit up to %s each way", cli.Bytes(c.CircuitBytes)))
	default:
		s = append(s, "circuits of any length and size")
	}
	s = append(s, shareWords(c.Rate, c.Burst, c.MonthlyBytes)...)
	return strings.Join(s, ", ")
}

// shareWords says what all circuits of one peer may carry together.
func shareWords(rate, burst, monthly int64) (s []string) {
	if rate > 0 {
		s = append(s, cli.Bytes(rate)+"/s")
	}
	if burst > 0 {
		s = append(s, cli.Bytes(burst)+" at once")
	}
	if monthly > 0 {
		s = append(s, cli.Bytes(monthly)+" a month")
	}
	return s
}
