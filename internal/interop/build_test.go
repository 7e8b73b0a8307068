//go:build linux

package interop_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// program is a stock peer: what runs it, and what it calls itself.
type program struct {
	name string // in tests, like v0.36
	argv []string
	js   bool
}

// What build has made.
var (
	relayd  string
	stock   []program // go-libp2p, the oldest first
	js      program
	jsWants string // why there is no js; empty if there is
)

// build builds relayd and all clients into dir.
func build(ctx context.Context, dir string) error {
	root, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	older, err := filepath.Glob("versions/*.mod")
	if err != nil {
		return err
	}
	if len(older) == 0 {
		return fmt.Errorf("no older versions in %s/internal/interop/versions", root)
	}
	noteSources()
	start := time.Now()
	timed := func(name string) {
		fmt.Printf("built %-8s in %.1f s\n", name, time.Since(start).Seconds())
		start = time.Now()
	}
	for _, mod := range older { // Glob sorts; all have two digits
		name := strings.TrimSuffix(filepath.Base(mod), ".mod")
		program := program{name: name, argv: []string{filepath.Join(dir, "client-"+name)}}
		if err := goBuild(ctx, root, program.argv[0], "./internal/interop/client", "-modfile=internal/interop/"+mod); err != nil {
			return err
		}
		stock = append(stock, program)
		timed(name)
	}
	current := program{name: "current", argv: []string{filepath.Join(dir, "client-current")}}
	if err := goBuild(ctx, root, current.argv[0], "./internal/interop/client"); err != nil {
		return err
	}
	stock = append(stock, current)
	timed(current.name)
	relayd = filepath.Join(dir, "relayd")
	if err := goBuild(ctx, root, relayd, "./cmd/relayd"); err != nil {
		return err
	}
	timed("relayd")
	jsWants = installJS(ctx, filepath.Join(dir, "js"))
	timed("js")
	return nil
}

func goBuild(ctx context.Context, root, out, pkg string, flags ...string) error {
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build", "-ldflags=-w", "-o", out}, flags...), pkg)...)
	cmd.Dir = root
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, text)
	}
	return nil
}

// installJS installs what the lock file says, and nothing that it would run.
// It returns what is missing: js-libp2p is not there on every machine.
func installJS(ctx context.Context, dir string) (missing string) {
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "needs the " + tool + " command: install Node.js 20 or newer"
		}
	}
	if err := os.CopyFS(dir, os.DirFS("js")); err != nil {
		return err.Error()
	}
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Sprintf("needs the npm registry: npm ci: %v: %s", err, bytes.TrimSpace(text))
	}
	js = program{name: "js", argv: []string{"node", filepath.Join(dir, "client.mjs")}, js: true}
	return ""
}

// noteSources reads what the programs are made of beside what is imported
// here, so that go test knows that its cached result is stale when it changes.
func noteSources() {
	for _, pattern := range []string{"client/*.go", "report/*.go", "versions/*", "js/*.*", "../../cmd/relayd/*.go"} {
		files, _ := filepath.Glob(pattern)
		for _, f := range files {
			os.ReadFile(f)
		}
	}
}
