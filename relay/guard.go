package relay

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// guardInterval is how often we look: a relay under attack gains some
	// thousand descriptors a second at most.
	guardInterval = time.Second
	// guardShare of the memory at hand is what the process may use before it
	// refuses new work.
	guardShare = 0.8
)

// guard watches what the process uses, so that new work is refused before those
// who are here already suffer.
type guard struct {
	short atomic.Pointer[string] // what there is too little of; nil if nothing
	// For tests; nil for what the system says.
	memory func() (used, most int64)
	files  func() (used, most int)
}

// why says what is short, in words, or "".
func (g *guard) why() string {
	if s := g.short.Load(); s != nil {
		return *s
	}
	return ""
}

// run looks until ctx ends.
func (g *guard) run(ctx context.Context, pol func() *policy) {
	tick := time.NewTicker(guardInterval)
	defer tick.Stop()
	for {
		g.look(pol())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (g *guard) look(pol *policy) {
	var short string
	if pol.Memory != Unlimited {
		used, most := g.memory()
		limit := pol.Memory
		if limit == 0 {
			limit = int64(float64(most) * guardShare)
		}
		if limit > 0 && used > limit {
			short = "memory: " + shortBytes(used) + " in use"
		}
	}
	if pol.Files != Unlimited {
		if used, most := g.files(); most > 0 && used*100 > most*pol.Files {
			short = "file descriptors: " + strconv.Itoa(used) + " of " + strconv.Itoa(most) + " in use"
		}
	}
	was := g.why()
	switch {
	case short == "":
		g.short.Store(nil)
		if was != "" {
			log.Info("enough of everything again")
		}
	default:
		g.short.Store(&short)
		if was == "" {
			log.Warn("new work is refused", "reason", Overloaded, "short", short)
		}
	}
}

// memoryInUse is what the Go runtime has from the system and has not given
// back, and what it may have.
func memoryInUse() (used, most int64) {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	used = int64(samples[0].Value.Uint64() - samples[1].Value.Uint64())
	return used, MemoryLimit()
}

// MemoryLimit is what the process may use, in bytes: the least of what the
// runtime was told (GOMEMLIMIT), what the cgroup allows (cgroup v2, memory.max)
// and what the machine has; 0 if nothing is known.
func MemoryLimit() int64 {
	most := debug.SetMemoryLimit(-1) // only reads it
	most = min(most, cgroupLimit(os.DirFS("/")))
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			var kb int64
			if f := strings.Fields(line); len(f) > 1 && f[0] == "MemTotal:" {
				if kb, err = strconv.ParseInt(f[1], 10, 64); err == nil {
					most = min(most, kb<<10)
				}
				break
			}
		}
	}
	if most == math.MaxInt64 {
		return 0
	}
	return most
}
