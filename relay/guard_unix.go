//go:build unix

package relay

import (
	"math"
	"os"
	"syscall"
)

// filesInUse counts file descriptors, and what the process may have; 0, 0
// where the system does not tell.
func filesInUse() (used, most int) {
	var lim syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim) != nil {
		return 0, 0
	}
	// The size of the directory is their number since Linux 6.2
	// (fs/proc/fd.c); before that it is 0 and they must be listed.
	const dir = "/proc/self/fd"
	if st, err := os.Stat(dir); err == nil && st.Size() > 0 {
		return int(st.Size()), int(min(lim.Cur, math.MaxInt32))
	}
	d, err := os.Open(dir)
	if err != nil {
		return 0, 0
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return 0, 0
	}
	return len(names), int(min(lim.Cur, math.MaxInt32))
}
