package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestExplain: what Docker's programs say on bad days, as they say it.
func TestExplain(t *testing.T) {
	for _, tt := range []struct{ name, said, want string }{
		{
			"not running", "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
			"no Docker engine answers",
		},
		{
			"not running, later versions", "failed to connect to the docker API at unix:///var/run/docker.sock; check if the path is correct and if the daemon is running: dial unix /var/run/docker.sock: connect: no such file or directory",
			"no Docker engine answers",
		},
		{
			"not ours", "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: Get \"http://%2Fvar%2Frun%2Fdocker.sock/v1.24/version\": dial unix /var/run/docker.sock: connect: permission denied",
			"you may not use the Docker engine (permission denied on its socket)",
		},
		{
			"subnet", "Creating network \"causeway_lan-a\" with the default driver\nPool overlaps with other one on this address space\n",
			"a subnet of the demo is in use on this machine",
		},
		{
			"subnet, compose v2", "failed to create network causeway_lan-a: Error response from daemon: invalid pool request: Pool overlaps with other one on this address space",
			"a subnet of the demo is in use on this machine",
		},
		{
			"name", "ERROR: for relay1  Cannot create container for service relay1: Conflict. The container name \"/causeway-relay1\" is already in use by container \"9c1f\". You have to remove (or rename) that container to be able to reuse that name.",
			"a container named causeway-relay1 exists, and is not the demo's",
		},
		{
			"port", "Error response from daemon: driver failed programming external connectivity on endpoint causeway-relay1: Bind for 127.0.0.1:9464 failed: port is already allocated",
			"a port of this machine that the demo wants is taken",
		},
		{"disk", "write /data/x: no space left on device", "the disk of the Docker engine is full"},
		{"a program of ours", "listening\nError: peer 12D3 cannot be reached\nTry: later\n", "docker up: peer 12D3 cannot be reached"},
		{"something else", "first line\nError response from daemon: strange things\n", "docker up: Error response from daemon: strange things"},
		{"make", "./go.go:1: undefined: x\nmake[1]: *** [Makefile:25: static] Error 1\nmake: *** [Makefile:41: compose-images] Error 2\n", "docker up: ./go.go:1: undefined: x"},
		{"compose v1", "ERROR: for web  strange things\nEncountered errors while bringing up the project.\n", "docker up: ERROR: for web  strange things"},
		{"nothing", "", "docker up: exit status 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := explain("docker up", errors.New("exit status 1"), tt.said).Error(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestFindDocker: programs that are not there, or answer as on bad days.
func TestFindDocker(t *testing.T) {
	const engine = `[ "$1" = version ] && echo 29.0.1 && exit 0
`
	for _, tt := range []struct {
		name, docker, compose string // scripts; "" if not installed
		version, err          string
	}{
		{name: "nothing installed", err: "docker is not installed, or not on the PATH"},
		{name: "no compose", docker: engine + "exit 1", err: "neither docker compose nor docker-compose is installed"},
		{name: "compose v2", docker: engine + "echo v2.40.3", compose: "echo 1.29.2", version: "Docker 29.0.1, docker compose 2.40.3"},
		{name: "compose v1", docker: engine + "exit 1", compose: "echo 1.29.2", version: "Docker 29.0.1, docker-compose 1.29.2"},
		{name: "engine stopped", docker: "echo 'Cannot connect to the Docker daemon at unix:///x' >&2; exit 1", err: "no Docker engine answers"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, script := range map[string]string{"docker": tt.docker, "docker-compose": tt.compose} {
				if script == "" {
					continue
				}
				if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("PATH", dir)
			d, err := findDocker(t.Context())
			if tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Errorf("got error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || d.version != tt.version {
				t.Errorf("got %+v, %v, want %q", d, err, tt.version)
			}
		})
	}
}

// TestCheckClock: an engine whose clock is wrong, and one that does not tell.
func TestCheckClock(t *testing.T) {
	for says, wrong := range map[string]bool{
		time.Now().Add(-time.Hour).Format(time.RFC3339Nano): true,
		time.Now().Add(time.Hour).Format(time.RFC3339Nano):  true,
		"<no value>": false,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "docker"), []byte("#!/bin/sh\necho '"+says+"'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", dir)
		if err := (&stage{docker: &docker{}}).checkClock(t.Context()); err != nil != wrong {
			t.Errorf("%s: %v", says, err)
		}
	}
}

func TestSubnets(t *testing.T) {
	s := &stage{public: "21.77", private: "10.77"}
	ours, err := s.subnets()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ subnet, want string }{
		{"172.17.0.0/16", ""},
		{"10.0.0.0/8", "the demo's subnet 10.77.1.0/24 is taken by somebody (10.0.0.0/8)"},
		{"10.77.3.128/25", "the demo's subnet 10.77.3.0/24 is taken by somebody (10.77.3.128/25)"},
		{"21.77.4.4/32", "the demo's subnet 21.77.0.0/16 is taken by somebody (21.77.4.4/32)"},
		{"fd00::/8", ""},
	} {
		err := overlap(ours, map[string]string{tt.subnet: "somebody"})
		if err == nil && tt.want != "" || err != nil && err.Error() != tt.want {
			t.Errorf("%s: got %v, want %q", tt.subnet, err, tt.want)
		}
	}
	for _, bad := range []string{"300.1", "10", "10.1.2", "a.b", "::", "192.168", "10.1", "127.0"} {
		if got, err := (&stage{public: bad, private: "10.77"}).subnets(); err == nil {
			t.Errorf("%s: got %v, want an error", bad, got)
		}
	}
}

func TestMillis(t *testing.T) {
	for d, want := range map[time.Duration]string{
		1500 * time.Microsecond: "1 ms", 9999 * time.Millisecond: "9999 ms", 12345 * time.Millisecond: "12.3 s",
	} {
		if got := millis(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

// TestTeller: names instead of IDs, what happened in its order, no colours
// without a terminal.
func TestTeller(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := newTeller(f)
	out.call(strings.NewReplacer("relay 12D3…abcdef", "relay1", "12D3…abcdef", "relay1"))
	out.progress("nobody sees this")
	out.recall(out.began.Add(2*time.Second), "B", "second")
	out.recall(out.began.Add(time.Second), "A", "first, through 12D3…abcdef")
	out.flush()
	out.sayAt(out.began.Add(3*time.Second), "relay1", "third via relay 12D3…abcdef")
	got, err := os.ReadFile(f.Name())
	want := "  1.00 s  A       first, through relay1\n  2.00 s  B       second\n  3.00 s  relay1  third via relay1\n"
	if err != nil || string(got) != want {
		t.Errorf("got %q (%v), want %q", got, err, want)
	}
}
