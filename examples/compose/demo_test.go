package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The demo is run as a user does, on a stage of its own, whenever a Docker engine
// answers. DOCKER_TESTS=require makes that a must, and runs the bad days too.

// testEnv is where the tests' stage is: not where somebody's demo may be.
var testEnv = []string{"DEMO_NAME=causeway-test", "DEMO_PUBLIC=21.79", "DEMO_PRIVATE=10.79"}

// requireDocker skips the test where there is no engine.
func requireDocker(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("skipped with -short: the demo takes half a minute")
	}
	if _, err := findDocker(t.Context()); err != nil {
		if os.Getenv("DOCKER_TESTS") == "require" {
			t.Fatal(err)
		}
		t.Skipf("skipped: %v", err)
	}
}

// requireAll skips a test of which one run of the demo is enough.
func requireAll(t *testing.T) {
	t.Helper()
	if os.Getenv("DOCKER_TESTS") != "require" {
		t.Skip("skipped: make docker-test runs it")
	}
	requireDocker(t)
}

// demo is a run of the program.
type demo struct {
	*exec.Cmd
	stdout, stderr *printed
	ended          chan struct{}
}

func startDemo(t *testing.T, args ...string) *demo {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "compose")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute)
	t.Cleanup(cancel)
	d := &demo{Cmd: exec.CommandContext(ctx, bin, args...), stdout: newPrinted(), stderr: newPrinted(), ended: make(chan struct{})}
	d.Env = append(os.Environ(), testEnv...)
	d.Stdout, d.Stderr = d.stdout, d.stderr
	ownGroup(d.Cmd)
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(d.ended)
		d.Wait() // its exit code is what counts
	}()
	t.Cleanup(func() {
		down := exec.Command(bin, "down")
		down.Env = d.Env
		if out, err := down.CombinedOutput(); err != nil {
			t.Errorf("compose down: %v\n%s", err, out)
		}
	})
	return d
}

// ends waits for the end, and holds that nothing is left.
func (d *demo) ends(t *testing.T, want int) {
	t.Helper()
	<-d.ended
	if got := d.ProcessState.ExitCode(); got != want {
		t.Fatalf("exit code %d, want %d\n%s\n%s", got, want, d.stdout, d.stderr)
	}
	for _, kind := range [][]string{{"ps", "--all"}, {"network", "ls"}, {"volume", "ls"}} {
		args := append(kind, "--quiet", "--filter", "label=com.docker.compose.project=causeway-test")
		if out, err := exec.Command("docker", args...).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("docker %s: %v, and something is left: %s", strings.Join(args, " "), err, out)
		}
	}
}

// interrupt does what Ctrl-C on a terminal does: all of the group are told.
func (d *demo) interrupt(t *testing.T) {
	t.Helper()
	if err := d.Cancel(); err != nil {
		t.Fatal(err)
	}
}

// waitFor waits until it has said something.
func (d *demo) waitFor(t *testing.T, text string) {
	t.Helper()
	for !strings.Contains(d.stdout.String(), text) {
		select {
		case <-d.stdout.grown():
		case <-d.ended:
			t.Fatalf("it ended without saying %q:\n%s\n%s", text, d.stdout, d.stderr)
		}
	}
}

func TestDemo(t *testing.T) {
	requireDocker(t)
	d := startDemo(t)
	d.waitFor(t, "All of it happened")
	d.interrupt(t) // who has no patience while it is taken down
	d.ends(t, 0)
	t.Logf("\n%s", d.stdout)
	for _, want := range []string{
		`(?m)^ +\d+\.\d\d s  relay1  serves as a relay: `,
		`(?m)^ +\d+\.\d\d s  [ABC]       (found|looks for others, and finds|met) relay[123] (at the rendezvous )?in the DHT$`,
		`(?m)^ +\d+\.\d\d s  C       reachable through relay[123] and relay[123]`,
		`A       path to B upgraded to direct (quic|tcp)`,
		`C       stays on the relay: `,
		`C       got it in .*Hello C`,
		`(?m)^relay[123] is killed: C reaches A again +\d+ ms +via relay[123]`,
		`(?m)^All of it happened, in `,
	} {
		if !regexp.MustCompile(want).MatchString(d.stdout.String()) {
			t.Errorf("it does not say %s", want)
		}
	}
	if strings.Contains(d.stdout.String(), "\x1b") {
		t.Error("there are colours, although nobody is at a terminal")
	}
	if d.stderr.String() != "" {
		t.Errorf("standard error: %s", d.stderr)
	}
}

// TestDemoFails breaks the stage in the middle of the story.
func TestDemoFails(t *testing.T) {
	requireAll(t)
	d := startDemo(t)
	d.waitFor(t, "A reaches B, knowing")
	if out, err := exec.Command("docker", "kill", "causeway-test-web").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d.ends(t, 1)
	m := regexp.MustCompile(`^Error: C fetches /: .*nobody listens on this service.* \(logs: (\S+)\)\n`).FindStringSubmatch(d.stderr.String())
	if m == nil {
		t.Fatalf("it says: %s", d.stderr)
	}
	defer os.RemoveAll(m[1])
	if log, err := os.ReadFile(filepath.Join(m[1], "a.log")); err != nil || !bytes.Contains(log, []byte("joined the network")) {
		t.Errorf("A's log: %v, %q", err, log)
	}
}

// TestDemoInterrupted presses Ctrl-C while the stage is set up, and later.
func TestDemoInterrupted(t *testing.T) {
	requireAll(t)
	for _, moment := range []string{"stage   A and B are", "C reaches A: no hole"} {
		t.Run(moment, func(t *testing.T) {
			d := startDemo(t)
			d.waitFor(t, moment)
			d.interrupt(t)
			d.ends(t, 1)
			if got, want := d.stderr.String(), "Error: interrupted; nothing of the demo is left running\n"; got != want {
				t.Errorf("it says %q, want %q", got, want)
			}
		})
	}
}
