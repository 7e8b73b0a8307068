//go:build linux

package natlab

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var mustCompile = regexp.MustCompile

func timeout(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// patience is how long we wait for a program to do something: far longer than
// it takes, so that a busy machine is no failure.
const patience = 60 * time.Second

// waitFor polls for what the kernel has no event for.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx := timeout(t, patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited %s for %s", patience, what)
		}
	}
}

// dialFor connects and, for UDP, sends and waits for an answer. Call it in Do.
func dialFor(d time.Duration, network string, to netip.AddrPort) error {
	conn, err := net.DialTimeout(network, to.String(), d)
	if err != nil {
		return err
	}
	defer conn.Close()
	if !strings.HasPrefix(network, "udp") {
		return nil
	}
	if _, err := conn.Write([]byte("?")); err != nil {
		return err
	}
	conn.SetReadDeadline(time.Now().Add(d))
	_, err = conn.Read(make([]byte, 1500))
	return err
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// comm is the name of a process, "" if there is none, or only a zombie that
// init has not got round to.
func comm(pid int) string {
	proc := "/proc/" + strconv.Itoa(pid)
	if status, _ := os.ReadFile(proc + "/status"); strings.Contains(string(status), "State:\tZ") {
		return ""
	}
	b, _ := os.ReadFile(proc + "/comm")
	return strings.TrimSpace(string(b))
}

// conntrackEntries counts the confirmed entries of a machine.
func conntrackEntries(t *testing.T, m *Machine) (n int) {
	t.Helper()
	err := m.Do(func() error {
		b, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
		if err == nil {
			n, err = strconv.Atoi(strings.TrimSpace(string(b)))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func atoi(s string) int { n, _ := strconv.Atoi(s); return n }

func itoa(n int) string { return strconv.Itoa(n) }
