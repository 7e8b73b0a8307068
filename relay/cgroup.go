package relay

import (
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
)

// cgroupLimit is the memory that our cgroup allows, in bytes: the least that
// it or one above it says (memory.max of cgroup v2); math.MaxInt64 if none
// does. The file system is that of the machine.
//
// In a container our cgroup is the root; under systemd it is the unit's, and
// the limit may be that of its slice.
func cgroupLimit(machine fs.FS) int64 {
	most := int64(math.MaxInt64)
	dir := "/"
	if text, err := fs.ReadFile(machine, "proc/self/cgroup"); err == nil {
		for line := range strings.Lines(string(text)) {
			// cgroups(7): "0::" begins the line of version 2.
			if p, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
				dir = path.Join("/", p)
			}
		}
	}
	for ; ; dir = path.Dir(dir) {
		if text, err := fs.ReadFile(machine, path.Join("sys/fs/cgroup", dir, "memory.max")); err == nil {
			if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil { // or "max"
				most = min(most, n)
			}
		}
		if dir == "/" {
			return most
		}
	}
}
