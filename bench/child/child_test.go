package child_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/causeway-p2p/causeway/bench/child"
)

func TestMain(m *testing.M) {
	child.Main(roles) // this binary is its own child
	goleak.VerifyTestMain(m)
}

// roles are what this test binary can be.
var roles = map[string]func() child.Actions{
	"counter":  new(counter).actions,
	"stubborn": func() child.Actions { <-time.After(time.Minute); return nil }, // does not look at its input
}

// counter adds up, and misbehaves when asked to.
type counter struct{ sum int }

func (c *counter) actions() child.Actions {
	return child.Actions{
		"add":  child.Action(c.add),
		"env":  child.Action(func(_ context.Context, key string) (string, error) { return os.Getenv(key), nil }),
		"fail": child.Action(func(_ context.Context, why string) (child.None, error) { return child.None{}, errors.New(why) }),
		"wait": child.Action(wait),
		"die":  child.Action(die),
		"chan": child.Action(func(context.Context, child.None) (chan int, error) { return make(chan int), nil }),
	}
}

func (c *counter) add(_ context.Context, n int) (int, error) {
	c.sum += n
	return c.sum, nil
}

func wait(ctx context.Context, _ child.None) (child.None, error) {
	<-ctx.Done()
	return child.None{}, ctx.Err()
}

// die says a lot, and the reason first.
func die(_ context.Context, reason string) (child.None, error) {
	fmt.Fprintf(os.Stderr, "%s\n%s\n", reason, strings.Repeat("goroutine\n", 1000))
	os.Exit(3)
	return child.None{}, nil
}

func self(t *testing.T) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(t.Context(), exe)
}

func start(t *testing.T, cmd *exec.Cmd, role string) *child.Process {
	t.Helper()
	c, err := child.Start(cmd, "node1", role)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// wantError checks what the parent is told.
func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if err == nil || !strings.Contains(err.Error(), p) {
			t.Errorf("got error %v, want one with %q", err, p)
		}
	}
}

func TestAsk(t *testing.T) {
	c := start(t, self(t), "counter")
	for _, tc := range []struct{ add, want int }{{3, 3}, {4, 7}} { // the same process, and its state
		if got, err := child.Ask[int](t.Context(), c, "add", tc.add); err != nil || got != tc.want {
			t.Errorf("add %d: got %d, %v, want %d", tc.add, got, err, tc.want)
		}
	}
	for _, tc := range []struct {
		do   string
		args any
		want string
	}{
		{"dance", child.None{}, `node1: dance: there is no action "dance"`},
		{"fail", "no room", "node1: fail: no room"},
		{"add", "three", "cannot unmarshal"},
		{"add", make(chan int), "unsupported type"},
		{"chan", child.None{}, "unsupported type"},
	} {
		wantError(t, child.Tell(t.Context(), c, tc.do, tc.args), tc.want)
	}
	_, err := child.Ask[string](t.Context(), c, "add", 1)
	wantError(t, err, "cannot unmarshal number")
	// None of these is a reason to end it.
	if got, err := child.Ask[int](t.Context(), c, "add", 1); err != nil || got != 9 {
		t.Errorf("after errors: got %d, %v, want 9", got, err)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("CHILD_TEST", "inherited")
	cmd := self(t)
	c := start(t, cmd, "counter")
	if got, err := child.Ask[string](t.Context(), c, "env", "CHILD_TEST"); err != nil || got != "inherited" {
		t.Errorf("without an environment: got %q, %v", got, err)
	}
	cmd = self(t)
	cmd.Env = append(os.Environ(), "CHILD_TEST=given")
	c = start(t, cmd, "counter")
	if got, err := child.Ask[string](t.Context(), c, "env", "CHILD_TEST"); err != nil || got != "given" {
		t.Errorf("with one: got %q, %v", got, err)
	}
}

// TestDeath: that a child died, and what it said first, reaches the parent.
func TestDeath(t *testing.T) {
	c := start(t, self(t), "counter")
	err := child.Tell(t.Context(), c, "die", "panic: a reason")
	wantError(t, err, "node1: die: the process ended\n  panic: a reason\n  goroutine")
	if len(err.Error()) > 4<<10 {
		t.Errorf("the error has %d bytes, want the head of what was said", len(err.Error()))
	}
	wantError(t, child.Tell(t.Context(), c, "add", 1), "node1: add: ")
	wantError(t, child.Tell(t.Context(), start(t, self(t), "nobody"), "add", 1), `no role "nobody"`)

	c = start(t, self(t), "counter")
	c.Kill()
	wantError(t, child.Tell(t.Context(), c, "wait", child.None{}), "node1: wait: ")
}

func TestStartFails(t *testing.T) {
	_, err := child.Start(exec.CommandContext(t.Context(), "/no/such/program"), "node1", "counter")
	wantError(t, err, "start node1: ", "no such file")
}

// TestContext: when the context of a request ends, the child does, and the
// cause is told.
func TestContext(t *testing.T) {
	tooSlow := errors.New("too slow")
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(tooSlow)
	c := start(t, self(t), "counter")
	if err := child.Tell(ended, c, "add", 1); !errors.Is(err, tooSlow) {
		t.Errorf("ended before: got %v, want %v", err, tooSlow)
	}
	if got, err := child.Ask[int](t.Context(), c, "add", 1); err != nil || got != 1 {
		t.Errorf("the child was asked nothing: got %d, %v, want 1", got, err)
	}
	soon, stop := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, tooSlow)
	defer stop()
	if err := child.Tell(soon, c, "wait", child.None{}); !errors.Is(err, tooSlow) {
		t.Errorf("ended meanwhile: got %v, want %v", err, tooSlow)
	}
	if err := child.Tell(t.Context(), c, "add", 1); err == nil {
		t.Error("a child of unknown state was left alive")
	}
}

// TestClose: a child ends with its input, or else is killed.
func TestClose(t *testing.T) {
	cmd := self(t)
	c := start(t, cmd, "counter")
	if err := child.Tell(t.Context(), c, "add", 1); err != nil { // it is there, and not about to be
		t.Fatal(err)
	}
	c.Close()
	c.Close()
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("got exit code %d, want 0: by itself", code)
	}
	cmd = self(t)
	cmd.WaitDelay = 10 * time.Millisecond
	c = start(t, cmd, "stubborn")
	c.Close()
	if code := cmd.ProcessState.ExitCode(); code != -1 {
		t.Errorf("stubborn: got exit code %d, want -1: killed", code)
	}
}

func TestServe(t *testing.T) {
	var out bytes.Buffer
	// The end of the input ends the request that is being worked on, and what
	// is no request is an end, too.
	in := strings.NewReader(`{"do":"add","args":2} {"do":"add","args":3} {"do":"wait","args":{}} stray`)
	if err := child.Serve(new(counter).actions(), in, &out); err != nil {
		t.Fatal(err)
	}
	want := "{\"value\":2}\n{\"value\":5}\n{\"err\":\"context canceled\"}\n"
	if out.String() != want {
		t.Errorf("answered %q, want %q", out.String(), want)
	}
}

func TestServeNobody(t *testing.T) {
	r, w := io.Pipe()
	r.Close()
	err := child.Serve(new(counter).actions(), strings.NewReader(`{"do":"add","args":2}`), w)
	wantError(t, err, "answer: ")
}
