//go:build linux

package natlab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestCrasher is not a test: it is the program whose crashes the tests below
// look at.
func TestCrasher(t *testing.T) {
	how := os.Getenv("NATLAB_TEST_CRASH")
	if how == "" {
		t.Skip("run by the other tests of this file")
	}
	lab := New(t)
	mark := os.Getenv("NATLAB_TEST_MARK")
	a := lab.NAT("nat"+mark, FullCone).Host("a" + mark)
	p := a.Start("sh", "sh", "-c", `echo my last words; setsid sleep 600 & echo ready; wait`)
	if _, _, err := p.WaitLine(timeout(t, patience), mustCompile("ready")); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("pid=%d\n", p.PID())
	switch how {
	case "panic":
		panic("crash")
	case "fatal in Do":
		a.Do(func() error { t.Fatal("crash"); return nil })
	case "exit":
		os.Exit(9)
	case "kill":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
}

// mark is in the names of namespaces that are looked for after their lab has
// gone. Other test binaries may make labs meanwhile, even with the same number.
func mark(t *testing.T) string {
	return itoa(os.Getpid()) + "-" + mustCompile(`[^a-zA-Z]+`).ReplaceAllString(t.Name(), "")
}

// crash runs this test binary and returns what it said, and the PID of the
// program in its lab.
func crash(t *testing.T, how string, env ...string) (out string, pid int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrasher$", "-test.v")
	cmd.Env = append(os.Environ(), "NATLAB_TEST_CRASH="+how, "NATLAB_TEST_MARK="+mark(t),
		"GORACE=atexit_sleep_ms=0") // or each run takes a second longer
	cmd.Env = append(cmd.Env, env...)
	var buf bytes.Buffer
	cmd.Stdout, cmd.Stderr = &buf, &buf
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if m := mustCompile(`pid=(\d+)`).FindStringSubmatch(buf.String()); m != nil {
		pid = atoi(m[1])
	}
	return buf.String(), pid
}

// marked lists the namespaces with the test's mark.
func marked(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(netnsDir, "natlab*"+mark(t)))
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		all[i] = filepath.Base(all[i])
	}
	return all
}

func TestFailingTestCleansUp(t *testing.T) {
	for _, how := range []string{"panic", "fatal in Do"} {
		t.Run(how, func(t *testing.T) {
			out, pid := crash(t, how)
			if pid == 0 {
				t.Fatalf("there was no lab:\n%s", out)
			}
			if left := marked(t); len(left) > 0 {
				t.Errorf("left %s\n%s", left, out)
			}
			if comm(pid) == "sh" {
				t.Errorf("process %d is left\n%s", pid, out)
			}
			// After a panic the testing package loses what cleanups log.
			if how != "panic" && !strings.Contains(out, "my last words") {
				t.Errorf("the log does not have the program's output:\n%s", out)
			}
		})
	}
}

// A run that had no chance to clean up leaves nothing to the next.
func TestLeftoversOfACrash(t *testing.T) {
	for _, how := range []string{"exit", "kill"} {
		t.Run(how, func(t *testing.T) {
			alive := New(t).Public("alive")
			var left []string
			var pid int
			for range 5 { // another test binary's New may be faster than we
				var out string
				out, pid = crash(t, how)
				if pid == 0 {
					t.Fatalf("there was no lab:\n%s", out)
				}
				if left = marked(t); len(left) == 2 {
					break
				}
			}
			if len(left) != 2 {
				t.Fatalf("the crash left %s, want 2 namespaces", left)
			}
			// Pdeathsig gets the program at once, the next lab its child.
			waitFor(t, "the program to die with its test", func() bool { return comm(pid) != "sh" })
			if pids := processesIn(left); len(pids) > 1 {
				t.Errorf("processes left: %d, want at most the one that left the group", pids)
			}
			escaped := processesIn(left)
			New(t)
			if left := marked(t); len(left) != 0 {
				t.Errorf("%s outlived the next lab's start", left)
			}
			for _, pid := range escaped {
				if comm(pid) == "sleep" {
					t.Errorf("process %d outlived the next lab's start", pid)
				}
			}
			if err := alive.Do(func() error { return nil }); err != nil {
				t.Errorf("a live lab was swept: %v", err)
			}
		})
	}
}

// What is missing is said in one sentence, and NATLAB=require insists.
func TestRequirements(t *testing.T) {
	bin := t.TempDir() // has ip, but not nft
	ip, err := exec.LookPath("ip")
	if err != nil {
		t.Skip("ip is missing here too")
	}
	if err := os.Symlink(ip, filepath.Join(bin, "ip")); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		path, require, want string
	}{
		{"/nonexistent", "", "--- SKIP"},
		{"/nonexistent", "", "apt install iproute2"},
		{bin, "", "apt install nftables"},
		{bin, "require", "--- FAIL"},
		{bin, "require", "apt install nftables"},
	} {
		out, _ := crash(t, "exit", "PATH="+tc.path, "NATLAB="+tc.require)
		if !strings.Contains(out, tc.want) {
			t.Errorf("PATH=%s NATLAB=%s: no %q in\n%s", tc.path, tc.require, tc.want, out)
		}
	}
}
