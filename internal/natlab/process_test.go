//go:build linux

package natlab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestWaitLine(t *testing.T) {
	t.Parallel()
	m := New(t).Public("m")
	p := m.Start("sh", "sh", "-c", `echo one; read x < /dev/null; echo "two port=7" >&2; printf unfinished; exit 3`)
	ctx := timeout(t, patience)
	line, sub, err := p.WaitLine(ctx, mustCompile(`port=(\d+)$`))
	if err != nil || line != "two port=7" || len(sub) != 2 || sub[1] != "7" {
		t.Errorf("WaitLine = %q, %q, %v", line, sub, err)
	}
	if line, _, err := p.WaitLine(ctx, mustCompile(`^one$`)); err != nil {
		t.Errorf("an earlier line: %q, %v", line, err)
	}
	if line, _, err := p.WaitLine(ctx, mustCompile(`^unf`)); err != nil || line != "unfinished" {
		t.Errorf("a last line without end: %q, %v", line, err)
	}
	if _, _, err := p.WaitLine(ctx, mustCompile(`never`)); !errors.Is(err, errEnded) || !strings.Contains(err.Error(), "unfinished") {
		t.Errorf("a line that cannot come any more: %v", err)
	}
	if code, err := p.Wait(ctx); code != 3 || err != nil {
		t.Errorf("Wait = %d, %v, want 3", code, err)
	}
	if _, _, err := p.WaitLineAfter(ctx, p.Mark(), mustCompile(`.`)); !errors.Is(err, errEnded) {
		t.Errorf("a line after the end: %v", err)
	}
	for name, want := range map[string]string{"m.sh.stdout": "one\nunfinished", "m.sh.stderr": "two port=7\n"} {
		got, err := os.ReadFile(filepath.Join(m.lab.artifacts, name))
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
	if words := p.lastWords(); !strings.Contains(words, "two port=7") || !strings.Contains(words, "exit status 3") {
		t.Errorf("last words: %s", words)
	}
}

func TestWaitLineEndsWithContext(t *testing.T) {
	t.Parallel()
	p := New(t).Public("m").Start("sleep", "sleep", "600")
	if _, _, err := p.WaitLine(timeout(t, silence), mustCompile(`.`)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want a deadline", err)
	}
}

func TestKillAndStop(t *testing.T) {
	t.Parallel()
	m := New(t).Public("m")
	ctx := timeout(t, patience)
	const script = `trap "echo bye; exit $0" TERM; echo ready $$; while :; do sleep 0.01; done`
	start := func(code string) *Process {
		p := m.Start("sh", "sh", "-c", script, code)
		if _, sub, err := p.WaitLine(ctx, mustCompile(`^ready (\d+)$`)); err != nil {
			t.Fatal(err)
		} else if got := mustCompile(`\d+`).FindString(sub[0]); got != itoa(p.PID()) {
			t.Errorf("PID %d is not the program's own, %s", p.PID(), got)
		}
		return p
	}
	p := start("0")
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	if !strings.HasSuffix(p.Output(), "\nbye") {
		t.Errorf("output %q does not end with bye", p.Output())
	}
	if err := p.Stop(); err != nil {
		t.Errorf("second Stop: %v", err)
	}
	if err := start("5").Stop(); err == nil || !strings.Contains(err.Error(), "exit status 5") {
		t.Errorf("Stop of a program that ends with 5: %v", err)
	}
	p = start("0")
	p.Kill()
	p.Kill()
	if strings.Contains(p.Output(), "bye") || p.ExitCode() != -1 {
		t.Errorf("killed, but output %q, exit code %d", p.Output(), p.ExitCode())
	}
	if p.name != "m.sh#3" {
		t.Errorf("the third is named %s", p.name)
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	a := New(t).NAT("nat", PortRestricted).Host("a")
	r, err := a.Run(timeout(t, patience), strings.NewReader("in"), "sh", "-c", "cat; ip -4 -br addr; echo err >&2; exit 4")
	if err != nil || r.Code != 4 || r.Stderr != "err\n" || !strings.HasPrefix(r.Stdout, "in") || !strings.Contains(r.Stdout, a.IP().String()) {
		t.Errorf("Run = %+v, %v", r, err)
	}
	if _, err := a.Run(t.Context(), nil, "/no/such/program"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a program that does not exist: %v", err)
	}
	began := time.Now()
	// The grandchild holds the pipe open; it dies with the group.
	if _, err := a.Run(timeout(t, silence), nil, "sh", "-c", "sleep 600 & wait"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a program that outlives ctx: %v", err)
	}
	if took := time.Since(began); took >= silence+pipesAfterDeath {
		t.Errorf("ending it took %s", took)
	}
}
