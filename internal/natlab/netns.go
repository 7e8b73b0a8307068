//go:build linux

package natlab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// This file is all that talks to ip(8), nft(8) and the kernel.

// addNamespace makes a named namespace with its loopback up.
func addNamespace(netns string) error {
	if err := command("", "ip", "netns", "add", netns); err != nil {
		return err
	}
	return command("", "ip", "-n", netns, "link", "set", "lo", "up")
}

// ipBatch runs lines of ip(8) in one namespace, in one process.
func ipBatch(netns string, lines ...string) error {
	return command(strings.Join(lines, "\n")+"\n", "ip", "-n", netns, "-batch", "-")
}

// nft feeds a script to nft(8) in one namespace.
func nft(netns, script string, flags ...string) error {
	return inNamespace(netns, func() error {
		// A child starts in the namespace of the thread that forks it.
		return command(script, "nft", append(flags, "-f", "-")...)
	})
}

// sysctl writes settings of one namespace. Settings this kernel does not have
// are left alone: what is not there cannot do harm.
func sysctl(netns string, settings map[string]string) error {
	return inNamespace(netns, func() error {
		for key, value := range settings {
			err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		return nil
	})
}

func command(stdin, name string, args ...string) error {
	cmd := exec.Command(name, args...) //nolint:noctx // ip and nft end by themselves
	cmd.Stdin = strings.NewReader(stdin)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s\n%s", name, strings.Join(args, " "), err, strings.TrimSpace(said.String()), stdin)
	}
	return nil
}

// inNamespace runs f on this goroutine with its thread inside the namespace.
func inNamespace(netns string, f func() error) error {
	target, err := os.Open(filepath.Join(netnsDir, netns))
	if err != nil {
		return err
	}
	defer target.Close()
	runtime.LockOSThread()
	// Not /proc/self: that is the first thread, which may be elsewhere.
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	if err := unix.Setns(int(target.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter %s: %w", netns, err)
	}
	// Deferred, because f may panic or call t.Fatal.
	defer func() {
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			// Going on would run other goroutines in the wrong namespace.
			panic(fmt.Sprintf("natlab: leave %s: %v", netns, err))
		}
		runtime.UnlockOSThread()
	}()
	return f()
}

const (
	// dying is how long killed processes get to be gone. SIGKILL takes
	// microseconds, or for ever in a hung system call.
	dying     = 5 * time.Second
	dyingPoll = 2 * time.Millisecond
)

// removeNamespaces kills what runs in the namespaces and deletes them. A
// namespace that does not exist is not an error.
func removeNamespaces(namespaces []string) error {
	var there []string
	for _, netns := range namespaces {
		if _, err := os.Lstat(filepath.Join(netnsDir, netns)); err == nil {
			there = append(there, netns)
		}
	}
	if len(there) == 0 {
		return nil
	}
	var errs []error
	deadline := time.Now().Add(dying)
	for {
		pids := processesIn(there)
		if len(pids) == 0 {
			break
		}
		if time.Now().After(deadline) {
			errs = append(errs, fmt.Errorf("processes %v do not die", pids))
			break
		}
		for _, pid := range pids {
			unix.Kill(pid, unix.SIGKILL)
		}
		time.Sleep(dyingPoll) // there is no event for "left the namespace"
	}
	for _, netns := range there {
		// What ip netns del does. EINVAL: a crash came between creating the
		// file and mounting the namespace on it.
		path := filepath.Join(netnsDir, netns)
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && err != unix.EINVAL {
			errs = append(errs, fmt.Errorf("unmount %s: %w", path, err))
		}
		if err := os.Remove(path); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// processesIn lists the processes whose first thread is in one of the
// namespaces. This process is not among them, even while a thread of it is.
func processesIn(namespaces []string) []int {
	ours := map[[2]uint64]bool{}
	for _, netns := range namespaces {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(netnsDir, netns), &st) == nil {
			ours[[2]uint64{st.Dev, st.Ino}] = true
		}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		var st unix.Stat_t // fails for zombies, which are dead enough
		if unix.Stat(filepath.Join("/proc", e.Name(), "ns/net"), &st) == nil && ours[[2]uint64{st.Dev, st.Ino}] {
			pids = append(pids, pid)
		}
	}
	return pids
}
