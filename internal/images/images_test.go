// Package images_test runs the images as operators do: locked down, as nobody
// in particular, with a volume for what must stay.
package images_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/causeway-p2p/causeway/internal/cli" // what the images are made of
)

const (
	// commandTime bounds a docker command; docker stop takes up to 10 s.
	commandTime = 30 * time.Second
	buildTime   = 5 * time.Minute // from nothing, on a slow machine
	// maxSize is what an image may take, in bytes.
	maxSize = 40 << 20
)

// lockedDown are flags of docker run that images must work with.
var lockedDown = []string{"--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"}

// images are those that a test has built.
type images struct {
	*testing.T
	name string // prefix of the images, containers and volumes
}

// build makes the images. It skips the test where no Docker engine answers;
// with DOCKER_TESTS=require that is a failure.
func build(t *testing.T) *images {
	t.Helper()
	if testing.Short() {
		t.Skip("skipped with -short: runs containers")
	}
	i := &images{t, fmt.Sprintf("causeway-images-test-%d", os.Getpid())}
	if _, out, err := i.try("version"); err != nil {
		if os.Getenv("DOCKER_TESTS") == "require" {
			t.Fatalf("no Docker engine answers: %v\n%s", err, out)
		}
		t.Skipf("skipped: no Docker engine answers: %v", err)
	}
	noteSources(t)
	ctx, cancel := context.WithTimeout(t.Context(), buildTime)
	defer cancel()
	t.Cleanup(func() { _, _, _ = i.try("rmi", "--force", i.image("relayd"), i.image("peer")) })
	out, err := exec.CommandContext(ctx, "make", "-C", "../..", "images", "IMAGES="+i.name, "TAGS=test", "CONTEXT="+t.TempDir()).CombinedOutput()
	if err != nil {
		t.Fatalf("make images: %v\n%s", err, out)
	}
	return i
}

// noteSources reads what the images are made from, so that go test knows that
// its cached result is stale when it changes; the rest is imported above.
func noteSources(t *testing.T) {
	t.Helper()
	files, err := filepath.Glob("../../cmd/*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(files, "../../Dockerfile", "../../Makefile") {
		if _, err := os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
	}
}

func (i *images) image(program string) string { return i.name + "/" + program + ":test" }

// try runs a docker command, and returns its exit code and what it printed.
func (i *images) try(args ...string) (code int, out string, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(i.Context()), commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", args...)
	var both bytes.Buffer
	cmd.Stdout, cmd.Stderr = &both, &both
	err = cmd.Run()
	if cmd.ProcessState != nil {
		code = cmd.ProcessState.ExitCode()
	}
	return code, strings.TrimSpace(both.String()), err
}

func (i *images) docker(args ...string) string {
	i.Helper()
	_, out, err := i.try(args...)
	if err != nil {
		i.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// run starts a container, with a volume of its own.
func (i *images) run(program string, flags ...string) (container string) {
	i.Helper()
	container = i.name + "-" + program
	i.Cleanup(func() {
		_, _, _ = i.try("rm", "--force", container)
		_, _, _ = i.try("volume", "rm", "--force", container)
	})
	args := append([]string{"run", "--detach", "--name", container, "--volume", container + ":/data", "--health-interval", "500ms"}, lockedDown...)
	i.docker(append(append(args, flags...), i.image(program))...)
	return container
}

// health is what Docker knows of a container's.
type health struct {
	Status string
	Log    []struct{ Output string }
}

// healthy waits until Docker says that a container is healthy, and returns what
// its last check printed.
func (i *images) healthy(container string) string {
	i.Helper()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for end := time.Now().Add(commandTime); ; <-look.C {
		var h health
		out := i.docker("inspect", "--format", "{{json .State.Health}}", container)
		if err := json.Unmarshal([]byte(out), &h); err != nil {
			i.Fatalf("health of %s: %v in %s", container, err, out)
		}
		if h.Status == "healthy" {
			return h.Log[len(h.Log)-1].Output
		}
		if time.Now().After(end) {
			_, logs, _ := i.try("logs", container)
			i.Fatalf("%s is not healthy: %s\n%s", container, out, logs)
		}
	}
}

func wantIn(t *testing.T, what, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%s: got\n%s\nwant %q in it", what, got, w)
		}
	}
}

func TestImages(t *testing.T) {
	i := build(t)
	for _, program := range []string{"relayd", "peer"} {
		var c struct {
			Size   int64
			Config struct{ User string }
		}
		out := i.docker("image", "inspect", "--format", "{{json .}}", i.image(program))
		if err := json.Unmarshal([]byte(out), &c); err != nil {
			t.Fatal(err)
		}
		if c.Size > maxSize || c.Config.User != "65532:65532" {
			t.Errorf("%s: %d bytes, user %q; want %d at most, and 65532:65532", program, c.Size, c.Config.User, maxSize)
		}
		t.Logf("%s: %.1f MB", program, float64(c.Size)/1e6)

		// Wrong calls, and a volume that is somebody else's.
		run := append([]string{"run", "--rm", "--network", "none"}, lockedDown...)
		code, out, _ := i.try(append(run, i.image(program), "--no-such-flag")...)
		if code != 2 {
			t.Errorf("%s: exit code %d of a wrong call, want 2", program, code)
		}
		wantIn(t, program, out, "Error: unknown flag: --no-such-flag\nTry: "+program+" --help")
		code, out, _ = i.try(append(run, "--tmpfs", "/data:mode=755", i.image(program), "id")...)
		if code != 1 {
			t.Errorf("%s: exit code %d where it cannot write, want 1", program, code)
		}
		wantIn(t, program, out, "Error: cannot write to data directory /data: permission denied\nTry: chown -R 65532 ")
	}

	// A relay, and a peer that joins by its invitation. They share a network
	// that nobody else is on.
	relay := i.run("relayd", "--network", "none", "--env", "RELAYD_NETWORK=demo", "--env", "RELAYD_RELAY=on", "--env", "RELAYD_ALLOW_PRIVATE=true")
	wantIn(t, "health", i.healthy(relay), "healthy: serving as a relay, 0 reservations")
	i.docker("exec", relay, "relayd", "invite", "--write", "/data/demo.toml")
	peer := i.run("peer", "--network", "container:"+relay, "--volume", relay+":/relay:ro", "--env", "PEER_CONFIG=/relay/demo.toml", "--env", "PEER_READY=true")
	wantIn(t, "health", i.healthy(peer), "healthy: others can reach this node")
	id := i.docker("exec", relay, "relayd", "id")
	wantIn(t, "peer status", i.docker("exec", peer, "peer", "status"), "network       demo", id+" reserved")

	// Both stop politely, and are the same when they come back.
	was := i.docker("exec", peer, "peer", "id")
	i.docker("stop", relay)
	i.docker("stop", peer)
	for _, c := range []string{relay, peer} {
		if code := i.docker("inspect", "--format", "{{.State.ExitCode}}", c); code != "0" {
			t.Errorf("%s: exit code %s after docker stop, want 0", c, code)
		}
	}
	wantIn(t, "log", i.docker("logs", relay), "draining: 1 reservation may move", "\nstopped")
	wantIn(t, "log", i.docker("logs", peer), "says that it will leave", "\nstopped")
	i.docker("start", relay)
	i.docker("start", peer)
	wantIn(t, "relayd after a restart", i.docker("exec", relay, "relayd", "id"), id)
	wantIn(t, "peer after a restart", i.docker("exec", peer, "peer", "id"), was)
}
