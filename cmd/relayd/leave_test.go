package main

import (
	"strings"
	"testing"
	"time"

	"github.com/causeway-p2p/causeway/internal/virtual"
	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/relay"
)

// leaver is a relay with one reservation and, until a moment, one circuit. Telling
// its peers takes a while.
type leaver struct {
	tells, circuitEnds time.Duration
	start              time.Time
}

func (l *leaver) Drain(time.Duration) { time.Sleep(l.tells) }

func (l *leaver) Status() node.Status {
	r := &relay.Status{Reservations: 1}
	if time.Since(l.start) < l.circuitEnds {
		r.Circuits = 1
	}
	return node.Status{Relay: r}
}

// TestLeave: it waits for the circuit as long as it may, and says if that was not
// long enough.
func TestLeave(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		name           string
		d, tells, ends time.Duration
		hurried        time.Duration // 0: nobody hurries
		took           time.Duration
		want           string
		says           bool // that it drains
	}{
		{"the circuit ends", 10 * s, 0, 5 * s, 0, 5 * s, "stopped", true},
		{"no circuit", 10 * s, 0, 0, 0, moveTime, "stopped", true},
		{"the circuit stays", 10 * s, 0, time.Hour, 0, 10 * s, "stopped; 1 circuit cut off", true},
		{"and the relay ends it in that moment", 10 * s, 0, 10 * s, 0, 10 * s, "stopped; 1 circuit cut off", true},
		{"hurry", 10 * s, 0, time.Hour, 3 * s, 3 * s, "stopped; 1 circuit cut off", true},
		{"telling takes all the time", s, 2 * s, time.Hour, 0, 2 * s, "stopped; 1 circuit cut off", false},
		{"and the relay has ended it", s, 2 * s, s, 0, 2 * s, "stopped; 1 circuit cut off", false},
		{"no time at all", 0, 0, time.Hour, 0, 0, "stopped; 1 circuit cut off", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual.Test(t, func(t *testing.T) {
				hurry := make(chan struct{})
				if c.hurried > 0 {
					time.AfterFunc(c.hurried, func() { close(hurry) })
				}
				var out strings.Builder
				start := time.Now()
				leave(&out, &leaver{c.tells, c.ends, start}, c.d, hurry)
				if took := time.Since(start); took != c.took {
					t.Errorf("it took %v, want %v", took, c.took)
				}
				if !strings.HasSuffix(out.String(), c.want+"\n") || strings.HasPrefix(out.String(), "draining: 1 reservation") != c.says {
					t.Errorf("it says %q, want that it drains: %t, and %q", out.String(), c.says, c.want)
				}
			})
		})
	}
}
