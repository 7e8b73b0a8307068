//go:build linux

package natlab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// locksDir has one lock file per lab, held while the lab's process lives.
	locksDir = "/run/natlab"
	// netnsDir is where ip(8) keeps named namespaces.
	netnsDir = "/run/netns"
)

var (
	lockName  = regexp.MustCompile(`^natlab(\d+)\.lock$`)
	netnsName = regexp.MustCompile(`^natlab(\d+)-`)
)

// claim removes the labs whose process is gone, and reserves a name that no
// lab on this machine has. The kernel drops a file lock with its process, even
// on kill -9, so a lock that can be taken belongs to a dead lab.
//
// A dead lab that resists is no reason not to work: its name stays taken, the
// fault is returned beside the result, and the next claim tries again.
func claim() (id string, lock *os.File, leftover, err error) {
	if err := os.MkdirAll(locksDir, 0o755); err != nil {
		return "", nil, nil, err
	}
	// One at a time, across processes: nobody sweeps what is being claimed.
	gate, err := flock(filepath.Join(locksDir, "gate"), unix.LOCK_EX)
	if err != nil {
		return "", nil, nil, err
	}
	defer gate.Close()
	leftover = sweep()
	for n := 0; ; n++ {
		id := "natlab" + strconv.Itoa(n)
		path := lockPath(id)
		if _, err := os.Lstat(path); err == nil {
			continue
		}
		lock, err := flock(path, unix.LOCK_EX|unix.LOCK_NB)
		return id, lock, leftover, err
	}
}

// release gives the name back; the lab's namespaces are gone by now.
func release(lock *os.File) {
	os.Remove(lock.Name())
	lock.Close()
}

// sweep removes dead labs. The caller holds the gate.
func sweep() error {
	ids := map[string][]string{} // lab to its namespaces
	for _, dir := range []struct {
		path string
		rule *regexp.Regexp
	}{{locksDir, lockName}, {netnsDir, netnsName}} {
		entries, err := os.ReadDir(dir.path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			m := dir.rule.FindStringSubmatch(e.Name())
			if m == nil {
				continue
			}
			id := "natlab" + m[1]
			if dir.path == netnsDir {
				ids[id] = append(ids[id], e.Name())
			} else if ids[id] == nil {
				ids[id] = []string{}
			}
		}
	}
	var errs []error
	for id, namespaces := range ids {
		lock, err := flock(lockPath(id), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue // alive
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if err := removeNamespaces(namespaces); err != nil {
			lock.Close() // the file stays, and with it the name taken
			errs = append(errs, fmt.Errorf("remove the dead lab %s: %w", id, err))
			continue
		}
		release(lock)
	}
	return errors.Join(errs...)
}

func lockPath(id string) string { return filepath.Join(locksDir, id+".lock") }

// flock opens (close-on-exec, so that programs in the lab do not keep it) and
// locks a file.
func flock(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}
