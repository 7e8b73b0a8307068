package main

import (
	"fmt"
	"io"
	"time"

	"github.com/causeway-p2p/causeway/node"
)

// moveTime is how long peers with a reservation get to move to another relay
// when no circuit keeps this one up anyway: a few round trips.
const moveTime = 2 * time.Second

// drainer is a node that can be asked to leave.
type drainer interface {
	Drain(time.Duration)
	Status() node.Status
}

// leave stops politely: no new reservations, a while for the peers to move and
// for the circuits that run, then everything is closed. It ends early with hurry;
// after the first Ctrl-C the second exits at once (cli.Main).
func leave(w io.Writer, n drainer, d time.Duration, hurry <-chan struct{}) {
	start := time.Now()
	// At the last look: the relay may end them just before we see that the time
	// is over, which it may be when all peers have been told.
	circuits := 0
	if s := n.Status().Relay; s != nil {
		circuits = int(s.Circuits)
	}
	n.Drain(d)
	told := false
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		s := n.Status().Relay
		gone := time.Since(start)
		if s == nil || gone >= d {
			break
		}
		circuits = int(s.Circuits)
		if circuits == 0 && (s.Reservations == 0 || gone >= moveTime) {
			break
		}
		if !told {
			told = true
			fmt.Fprintf(w, "draining: %s may move and %s may run on, for %v; press Ctrl-C again to exit now\n",
				many(int(s.Reservations), "reservation"), many(circuits, "circuit"), d)
		}
		select {
		case <-look.C:
		case <-hurry:
			d = 0
		}
	}
	if circuits > 0 {
		fmt.Fprintf(w, "stopped; %s cut off\n", many(circuits, "circuit"))
		return
	}
	fmt.Fprintln(w, "stopped")
}
