// Package cmd_test runs the real binaries: each file in testdata is a session
// at a terminal (github.com/rogpeppe/go-internal/testscript).
package cmd_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	_ "github.com/causeway-p2p/causeway/internal/cli" // see noteSources
)

var binaries string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "causeway-bin-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	noteSources()
	build := exec.Command("go", "build", "-o", dir+"/", "./relayd", "./peer")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		panic(err)
	}
	binaries = dir
	return m.Run()
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", binaries+string(filepath.ListSeparator)+os.Getenv("PATH"))
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"eventually": eventually,
			"exits":      exits,
			"setpeer":    setPeer,
		},
		RequireExplicitExec: true,
	})
}

// eventually runs a command until it succeeds: eventually COMMAND…
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: eventually COMMAND…")
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := ts.Exec(args[0], args[1:]...)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s did not succeed in 20 s: %v", strings.Join(args, " "), err)
		}
		time.Sleep(50 * time.Millisecond) // between two attempts of a real program
	}
}

// exits runs a command and wants an exit code: exits CODE COMMAND…
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("%s: exit code %s, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}

// setpeer puts what the last command printed into a variable: setpeer NAME
func setPeer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: setpeer NAME")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// noteSources reads the commands' sources, so that go test knows that its
// cached result is stale when they change; the rest of what the binaries are
// made of is imported above.
func noteSources() {
	files, err := filepath.Glob("*/*.go")
	if err != nil {
		panic(err)
	}
	for _, f := range files {
		if _, err := os.ReadFile(f); err != nil {
			panic(err)
		}
	}
}
