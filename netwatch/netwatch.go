// Package netwatch tells when the network under this machine has changed: an
// address came or went, the default route leads elsewhere, a cable was pulled
// or plugged in, the machine has slept.
//
//	err := netwatch.Run(ctx, func(c netwatch.Change) {
//		fmt.Println(c) // 192.168.1.10 is gone, 10.7.0.4 is new, default route changed
//	})
//
// On Linux the kernel says that something happened (rtnetlink(7)); elsewhere
// it is looked at every 5 seconds. Either way the state is then read anew and
// compared, so that what does not matter (a docker veth without an address, a
// route to nowhere, a link-local address) is no change.
//
// Sleep is found by the clocks: while a machine sleeps, its wall clock goes on
// and its monotonic one does not. A wall clock that is set forward looks the
// same, and does no harm.
//
// What it does not do: say whether the internet can be reached.
package netwatch

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/causeway-p2p/causeway/internal/logging"
)

var log = logging.For("netwatch")

// Change is what became different, all within a fraction of a second.
type Change struct {
	// Added and Removed are unicast addresses of this machine, without those
	// of the loopback and link-local ones. An address goes with its interface,
	// also if that is only switched off.
	Added   []netip.Addr `json:"added,omitempty"`
	Removed []netip.Addr `json:"removed,omitempty"`
	// Route: the default route, of IPv4 or IPv6, leads elsewhere, came or went.
	Route bool `json:"route,omitempty"`
	// Link: an interface that has addresses lost its carrier, or has it again.
	Link bool `json:"link,omitempty"`
	// Slept is for how long the machine did; 0 if it did not.
	Slept time.Duration `json:"slept_ns,omitempty"`
}

// None reports whether nothing changed.
func (c Change) None() bool {
	return len(c.Added) == 0 && len(c.Removed) == 0 && !c.Route && !c.Link && c.Slept == 0
}

// maxNamed bounds the addresses in a sentence.
const maxNamed = 3

func (c Change) String() string {
	var parts []string
	name := func(addrs []netip.Addr, what string) {
		for i, a := range addrs {
			if i == maxNamed {
				parts = append(parts, fmt.Sprintf("and %d more", len(addrs)-maxNamed))
				return
			}
			parts = append(parts, a.String()+what)
		}
	}
	name(c.Removed, " is gone")
	name(c.Added, " is new")
	if c.Route {
		parts = append(parts, "default route changed")
	}
	if c.Link {
		parts = append(parts, "link lost or regained")
	}
	if c.Slept > 0 {
		parts = append(parts, fmt.Sprintf("slept for %s", c.Slept.Round(time.Second)))
	}
	if len(parts) == 0 {
		return "nothing changed"
	}
	return strings.Join(parts, ", ")
}

const (
	// settle is how long a change may take to become whole: a new network
	// means an address, routes and a second family, one after the other.
	settle = 300 * time.Millisecond
	// tick is how often the clocks are compared, and how often the state is
	// read where the system does not tell of changes.
	tick = 5 * time.Second
	// slept is how far the wall clock must be ahead: more than time servers
	// correct a clock by in one go, less than any sleep that breaks something.
	slept = 10 * time.Second
)

// Run calls changed, from one goroutine, until ctx ends. It must not block for
// long: what happens meanwhile is told in the next call. An error means that
// the interfaces cannot be read at all.
func Run(ctx context.Context, changed func(Change)) error {
	w := watcher{read: read, clocks: systemClocks()}
	return w.run(ctx, hints, changed)
}

// watcher has what Run takes from the system.
type watcher struct {
	read   func() (snapshot, error)
	clocks func() (wall time.Time, mono time.Duration)
}

// run hears through hints, which sends on the channel whenever something may
// have changed, unless a hint waits there already. Where hints returns before
// ctx ends, the system does not tell, and is looked at with every tick.
func (w watcher) run(ctx context.Context, hints func(context.Context, chan<- struct{}) error, changed func(Change)) error {
	ctx, stop := context.WithCancel(ctx)
	hinted, deaf := make(chan struct{}, 1), make(chan error, 1)
	var listening sync.WaitGroup
	listening.Go(func() { deaf <- hints(ctx, hinted) })
	defer listening.Wait()
	defer stop()

	poll := false
	last, err := w.read()
	if err != nil {
		return fmt.Errorf("network interfaces: %w", err)
	}
	wall, mono := w.clocks()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		var c Change
		var look bool
		select {
		case <-ctx.Done():
			return nil
		case err := <-deaf:
			poll = true
			if ctx.Err() == nil {
				log.Debug("the system does not tell of changes", "every", tick, "err", err)
			}
			continue
		case <-hinted:
			if !sleep(ctx, settle) {
				return nil
			}
			select {
			case <-hinted: // came while the first one settled
			default:
			}
			look = true
		case <-ticker.C:
			look = poll
			nowWall, nowMono := w.clocks()
			if ahead := nowWall.Sub(wall) - (nowMono - mono); ahead > slept {
				c.Slept, look = ahead, true
			}
			wall, mono = nowWall, nowMono
		}
		if !look {
			continue
		}
		if now, err := w.read(); err != nil {
			log.Warn("network interfaces not read", "err", err)
		} else {
			last.compare(now, &c)
			last = now
		}
		if !c.None() {
			changed(c)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// systemClocks reads both clocks. Subtracting times with monotonic readings
// uses those; Round strips them.
func systemClocks() func() (time.Time, time.Duration) {
	began := time.Now()
	return func() (time.Time, time.Duration) {
		now := time.Now()
		return now.Round(0), now.Sub(began)
	}
}
