// Package cmd_test runs the real binaries: each file in testdata is a session
// at a terminal (github.com/rogpeppe/go-internal/testscript).
package cmd_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/causeway-p2p/causeway/internal/certfile/certtest"
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

// onLoopback keeps the programs of a script to themselves. On other interfaces
// they would meet those of the scripts beside it, by mDNS, and where one has a
// public address, as a bridge of Docker's may, a peer needs no relay.
var onLoopback = []string{
	"PEER_LISTEN=/ip4/127.0.0.1/tcp/0 /ip4/127.0.0.1/udp/0/quic-v1",
	"PEER_MDNS=false", "RELAYD_MDNS=false",
	"PEER_NO_PORT_MAPPING=true", "RELAYD_NO_PORT_MAPPING=true",
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", binaries+string(filepath.ListSeparator)+os.Getenv("PATH"))
			env.Setenv("HOME", env.WorkDir)
			for _, v := range onLoopback {
				name, value, _ := strings.Cut(v, "=")
				env.Setenv(name, value)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"certify":    certify,
			"eventually": eventually,
			"exits":      exits,
			"setpeer":    setPeer,
		},
		RequireExplicitExec: true,
	})
}

// patience is for what takes a second or two on a machine that has time.
const patience = time.Minute

// eventually runs a command until it succeeds: eventually COMMAND…
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: eventually COMMAND…")
	}
	deadline := time.Now().Add(patience)
	for {
		err := ts.Exec(args[0], args[1:]...)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s did not succeed in %v: %v", strings.Join(args, " "), patience, err)
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

// certify issues a certificate for a name, CERT and KEY, by an authority, CA, that
// it makes anew: certify NAME CERT KEY CA
func certify(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: certify NAME CERT KEY CA")
	}
	t := scriptTB{ts}
	ca := certtest.NewCA(t)
	cert, key := ca.Issue(t, certtest.For(args[0]))
	for i, data := range [][]byte{cert, key, ca.PEM()} {
		ts.Check(os.WriteFile(ts.MkAbs(args[i+1]), data, 0o600))
	}
}

// scriptTB lets a script fail as a test does.
type scriptTB struct{ ts *testscript.TestScript }

func (scriptTB) Helper() {}

func (t scriptTB) Fatal(args ...any) { t.ts.Fatalf("%s", fmt.Sprint(args...)) }

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
