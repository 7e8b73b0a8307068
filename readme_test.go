package causeway_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// block is one ```sh block of the README and what the comment above it says
// about it:
//
//	<!-- test: run -->                          exits 0
//	<!-- test: run, says "text" -->             … and prints text
//	<!-- test: keep running, says "text" -->    prints text and goes on
//	<!-- test: skip, why -->                    is not run
type block struct {
	line     int
	commands string
	mode     string
	says     string
}

var testComment = regexp.MustCompile(`^<!-- test: (run|keep running|skip)(?:, says "([^"]+)")?(?:, [^"]*)? -->$`)

func readmeBlocks(t *testing.T) []block {
	t.Helper()
	f, err := os.Open("README.md")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var blocks []block
	var cur *block
	mode, says := "", ""
	for n, sc := 1, bufio.NewScanner(f); sc.Scan(); n++ {
		line := sc.Text()
		switch {
		case strings.HasPrefix(line, "<!-- test:"):
			m := testComment.FindStringSubmatch(line)
			if m == nil {
				t.Fatalf("README.md:%d: %s: not understood", n, line)
			}
			mode, says = m[1], m[2]
		case line == "```sh" && mode == "":
			t.Errorf("README.md:%d: a shell block without a test comment above it", n)
		case line == "```sh":
			cur = &block{line: n, mode: mode, says: says}
			mode, says = "", ""
		case line == "```" && cur != nil:
			blocks = append(blocks, *cur)
			cur = nil
		case cur != nil:
			cur.commands += line + "\n"
		}
	}
	if len(blocks) == 0 {
		t.Fatal("README.md has no shell blocks")
	}
	return blocks
}

// TestREADME runs the README's commands as somebody would who has just cloned
// the repository: in order, each in a terminal of its own. Building goes to
// ./bin as the README says, which git ignores.
func TestREADME(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped with -short: runs every command of the README")
	}
	for _, port := range []string{"4001"} {
		if inUse(port) {
			t.Skipf("skipped: port %s, which the README's relay uses, is taken on this machine", port)
		}
	}
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	env := append(os.Environ(), "HOME="+home, "XDG_DATA_HOME=", "PATH="+filepath.Join(wd, "bin")+":"+os.Getenv("PATH"),
		// Other peers on this machine and its LAN are left alone, and a public
		// address on one of its interfaces does not make relays superfluous.
		"PEER_LISTEN=/ip4/127.0.0.1/tcp/0 /ip4/127.0.0.1/udp/0/quic-v1", "PEER_MDNS=false", "PEER_NO_PORT_MAPPING=true")
	// The Go tool keeps its caches, or everything would be built again.
	for _, v := range []string{"GOCACHE", "GOMODCACHE"} {
		out, err := exec.Command("go", "env", v).Output()
		if err != nil {
			t.Fatal(err)
		}
		env = append(env, v+"="+strings.TrimSpace(string(out)))
	}
	for _, b := range readmeBlocks(t) {
		if b.mode == "skip" {
			continue
		}
		commands := strings.ReplaceAll(b.commands, "/tmp/somebody-else", filepath.Join(home, "somebody-else"))
		cmd := exec.Command("bash", "-euo", "pipefail", "-c", commands)
		cmd.Env = env
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		out := newWatchedBuffer()
		cmd.Stdout, cmd.Stderr = out, out
		start := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		t.Cleanup(func() { stop(cmd, done) })
		if err := b.expect(out, done); err != nil {
			t.Fatalf("README.md:%d: %s\n%v after %v; it printed:\n%s", b.line, b.commands, err, time.Since(start).Round(time.Millisecond), out)
		}
	}
}

// expect waits until the block did what the README says.
func (b block) expect(out *watchedBuffer, done chan error) error {
	timeout := time.After(5 * time.Minute) // most of it the compiler's, if it has nothing cached
	if b.mode == "run" {
		select {
		case err := <-done:
			done <- nil // for stop
			if err != nil {
				return fmt.Errorf("failed (%w)", err)
			}
			if !strings.Contains(out.String(), b.says) {
				return fmt.Errorf("did not say %q", b.says)
			}
			return nil
		case <-timeout:
			return errors.New("did not end")
		}
	}
	for {
		grown := out.grown()
		if strings.Contains(out.String(), b.says) {
			return nil
		}
		select {
		case err := <-done:
			done <- err
			if err == nil {
				return errors.New("ended instead of running on")
			}
			return fmt.Errorf("ended instead of running on: %w", err)
		case <-grown:
		case <-timeout:
			return fmt.Errorf("did not say %q", b.says)
		}
	}
}

func stop(cmd *exec.Cmd, done chan error) {
	syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-done
	}
}

func inUse(port string) bool {
	out, err := exec.Command("bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/"+port).CombinedOutput()
	return err == nil && len(out) == 0
}

// watchedBuffer collects output and tells when there is more.
type watchedBuffer struct {
	mu   sync.Mutex // guards the fields below
	text strings.Builder
	more chan struct{}
}

func newWatchedBuffer() *watchedBuffer { return &watchedBuffer{more: make(chan struct{})} }

func (w *watchedBuffer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.more)
	w.more = make(chan struct{})
	return w.text.Write(p)
}

func (w *watchedBuffer) grown() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.more
}

func (w *watchedBuffer) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}
