package main

import (
	"context"
	"errors"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"

	"github.com/causeway-p2p/causeway/bench/child"
)

// usage is what a process has used.
type usage struct {
	CPU  float64 `json:"cpu_s"` // user and system, since its start
	RSS  int64   `json:"rss"`
	Heap int64   `json:"heap"`
}

// measureUsage measures this process; settled after collecting garbage and
// giving back what is free.
func measureUsage(_ context.Context, settled bool) (u usage, err error) {
	if settled {
		runtime.GC() // what finalizers and pools still hold goes with the second
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		u.Heap = int64(m.HeapAlloc)
		if u.RSS, err = residentBytes(); err != nil {
			return u, err
		}
	}
	u.CPU, err = cpuSeconds()
	return u, err
}

// profiler writes CPU profiles of this process.
type profiler struct{ file *os.File }

func (p *profiler) begin(_ context.Context, path string) (child.None, error) {
	f, err := os.Create(path)
	if err != nil {
		return child.None{}, err
	}
	p.file = f
	return child.None{}, pprof.StartCPUProfile(f)
}

func (p *profiler) end(context.Context, child.None) (child.None, error) {
	pprof.StopCPUProfile()
	return child.None{}, p.file.Close()
}

var errNotHere = errors.New("not measured on this system")
