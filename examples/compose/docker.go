package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/causeway-p2p/causeway/internal/cli"
)

// docker is the command line of Docker, which every engine has: its API would
// have to be found (contexts, ssh, Docker Desktop) the way the command does.
type docker struct {
	compose []string // how compose is called
	version string   // of both, for people
}

// findDocker finds the commands, and that an engine answers.
func findDocker(ctx context.Context) (*docker, error) {
	if _, err := exec.LookPath("docker"); err != nil {
		return nil, cli.Fail(errors.New("docker is not installed, or not on the PATH"),
			"apt install docker.io docker-compose, or https://docs.docker.com/engine/install")
	}
	d := &docker{}
	engine, err := d.run(ctx, "version", "--format", "{{.Server.Version}}")
	if err != nil {
		return nil, err
	}
	for _, c := range [][]string{{"docker", "compose"}, {"docker-compose"}} {
		out, err := output(ctx, nil, c[0], append(c[1:], "version", "--short")...)
		if err == nil {
			d.compose = c
			d.version = fmt.Sprintf("Docker %s, %s %s", engine, strings.Join(c, " "), strings.TrimPrefix(out, "v"))
			return d, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
	}
	return nil, cli.Fail(errors.New("neither docker compose nor docker-compose is installed"),
		"apt install docker-compose, or https://docs.docker.com/compose/install")
}

// run runs a docker command and returns what it printed, without the last
// newline.
func (d *docker) run(ctx context.Context, args ...string) (string, error) {
	return output(ctx, nil, "docker", args...)
}

// stopGrace is how long a command of ours may take to end when it is asked to,
// before it is killed.
const stopGrace = 10 * time.Second

// command is a command that is asked to end, rather than killed, when ctx ends:
// compose then leaves nothing half made.
func command(ctx context.Context, env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	ownGroup(cmd)
	cmd.WaitDelay = stopGrace
	return cmd
}

func output(ctx context.Context, env []string, name string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	run := func() (*exec.Cmd, error) {
		stdout.Reset()
		stderr.Reset()
		cmd := command(ctx, env, name, args...)
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		return cmd, cmd.Run()
	}
	cmd, err := run()
	if struck(cmd) && ctx.Err() == nil {
		_, err = run() // whoever cleans up after Ctrl-C goes on after it
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, context.Canceled):
		return "", errors.New("interrupted")
	case cause != nil:
		return "", cause
	case err != nil:
		return "", explain(called(name, args), err, stdout.String()+"\n"+stderr.String())
	}
	return strings.TrimRight(stdout.String(), "\n"), nil
}

// called is what people call a command: without flags and what follows.
func called(name string, args []string) string {
	isFlag := func(arg string) bool { return strings.HasPrefix(arg, "-") }
	for len(args) > 0 && isFlag(args[0]) {
		args = args[1:]
	}
	if i := slices.IndexFunc(args, isFlag); i >= 0 {
		args = args[:i]
	}
	return strings.Join(append([]string{name}, args...), " ")
}

// complaints are what Docker says when something is wrong that is not the
// demo's fault, and what that means to whoever runs it.
var complaints = []struct {
	said       *regexp.Regexp
	means, try string
}{
	{
		regexp.MustCompile(`(?i)permission denied.*docker(\.sock|.* daemon)|dial unix (\S+): connect: permission denied`),
		"you may not use the Docker engine (permission denied on its socket)",
		`become a member of the group docker and log in again, or sudo env PATH="$PATH" make compose-demo`,
	},
	{
		regexp.MustCompile(`(?i)cannot connect to the docker daemon|failed to connect to the docker API|error during connect|is the docker daemon running`),
		"no Docker engine answers",
		"start it (systemctl start docker, or dockerd, or Docker Desktop); if DOCKER_HOST is set, look where that leads",
	},
	{
		regexp.MustCompile(`(?i)pool overlaps with other one|could not find an available|invalid pool request`),
		"a subnet of the demo is in use on this machine",
		otherSubnets,
	},
	{
		regexp.MustCompile(`(?i)container name "?/?([^" ]+)"? is already in use`),
		"a container named $1 exists, and is not the demo's",
		"DEMO_NAME=demo2 make compose-demo, or docker rm -f $1",
	},
	{
		regexp.MustCompile(`(?i)port is already allocated|bind: address already in use`),
		"a port of this machine that the demo wants is taken",
		"without ports of your own in compose.yml: Docker picks free ones",
	},
	{
		regexp.MustCompile(`(?i)no space left on device`),
		"the disk of the Docker engine is full",
		"docker system df, docker system prune",
	},
	{
		regexp.MustCompile(`(?i)iptables.*(no chain/target/match|permission denied|does not exist|can't initialize)`),
		"the Docker engine cannot set up networks: its iptables rules are gone, or it may not make any",
		"restart the engine (systemctl restart docker)",
	},
}

const otherSubnets = "DEMO_PUBLIC=21.78 DEMO_PRIVATE=172.30 make compose-demo"

// explain makes one sentence of a failed command.
func explain(what string, err error, said string) error {
	for _, c := range complaints {
		if m := c.said.FindStringSubmatchIndex(said); m != nil {
			expand := func(s string) string { return string(c.said.ExpandString(nil, s, said, m)) }
			return cli.Fail(errors.New(expand(c.means)), "%s", expand(c.try))
		}
	}
	if line := complaint(said); line != "" {
		return fmt.Errorf("%s: %s", what, line)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// summary is what make and docker-compose 1.29 say last: that something went
// wrong, and not what.
var summary = regexp.MustCompile(`^make(\[\d+\])?: |^Encountered errors while bringing up the project`)

// complaint is the line that tells what went wrong: the one that says so, or
// the last.
func complaint(said string) (line string) {
	for l := range strings.Lines(said) {
		if l = strings.TrimSpace(l); l == "" {
			continue
		}
		if text, ok := strings.CutPrefix(l, "Error: "); ok {
			return text
		}
		if !summary.MatchString(l) {
			line = l
		}
	}
	return line
}
