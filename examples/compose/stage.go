package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	manet "github.com/multiformats/go-multiaddr/net"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-p2p/causeway/internal/cli"
)

// stage is the containers, networks and volumes of compose.yml.
type stage struct {
	*docker
	root            string // the repository
	name            string // of the compose project, and what container names begin with
	public, private string // the first two bytes of the addresses
}

const defaultName = "causeway-demo"

// validName is what compose takes for a project, and Docker in the names of
// containers and as a tag.
var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

func newStage(ctx context.Context) (*stage, error) {
	root, err := findRoot()
	if err != nil {
		return nil, err
	}
	d, err := findDocker(ctx)
	if err != nil {
		return nil, err
	}
	get := func(name, otherwise string) string {
		if v := os.Getenv(name); v != "" {
			return v
		}
		return otherwise
	}
	name := get("DEMO_NAME", defaultName)
	if !validName.MatchString(name) {
		return nil, cli.Usage(fmt.Errorf("DEMO_NAME %q is no name for a compose project: a-z, 0-9, - and _ make one", name), "DEMO_NAME=demo2 make compose-demo")
	}
	return &stage{
		docker: d, root: root, name: name,
		public: get("DEMO_PUBLIC", "21.77"), private: get("DEMO_PRIVATE", "10.77"),
	}, nil
}

// services are the containers that run all the time.
var services = []string{"relay1", "relay2", "relay3", "router-a", "router-b", "router-c", "a", "b", "c", "web"}

// images are those that the demo builds. Another demo has others, which may be
// of another version.
func (s *stage) images() []string {
	return []string{"causeway/relayd:" + s.name, "causeway/peer:" + s.name, "causeway/stage:" + s.name}
}

func (s *stage) container(service string) string { return s.name + "-" + service }

// prepare gets everything ready: whatever an earlier demo left is taken down,
// and the images are built.
func (s *stage) prepare(ctx context.Context, out *teller) error {
	if err := errors.Join(s.checkClock(ctx), s.checkSubnets(ctx)); err != nil {
		return err
	}
	out.progress("taking down what an earlier demo left")
	if err := s.down(ctx); err != nil {
		return err
	}
	out.progress("building the programs and their images")
	return s.build(ctx)
}

// findRoot finds the repository.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, composeFile)); err == nil {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", cli.Fail(fmt.Errorf("%s is not in the repository of the demo", dir), "cd to it, and make compose-demo")
		}
	}
}

const composeFile = "examples/compose/compose.yml"

// build builds the images, always: what is there may be of an older version,
// and if it is not, nothing is to do. Those that it replaces are removed, after
// Ctrl-C too.
func (s *stage) build(ctx context.Context) error {
	before := s.imageIDs(ctx)
	_, err := output(ctx, nil, "make", "--no-print-directory", "--directory="+s.root, "compose-images", "DEMO_NAME="+s.name)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), downTime)
	defer cancel()
	after := s.imageIDs(ctx)
	for image, id := range before {
		if id != after[image] {
			_, _ = s.run(ctx, "image", "rm", id) // in use by somebody else, perhaps
		}
	}
	if err != nil {
		return fmt.Errorf("the images could not be built: %w", err)
	}
	return nil
}

// imageIDs are those of the images that are there.
func (s *stage) imageIDs(ctx context.Context) map[string]string {
	ids := make(map[string]string)
	for _, i := range s.images() {
		if id, err := s.run(ctx, "image", "inspect", "--format", "{{.Id}}", i); err == nil {
			ids[i] = id
		}
	}
	return ids
}

// removeImages removes them.
func (s *stage) removeImages(ctx context.Context) error {
	var errs []error
	for image := range s.imageIDs(ctx) {
		_, err := s.run(ctx, "image", "rm", image)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// onStage runs compose.
func (s *stage) onStage(ctx context.Context, args ...string) error {
	env := []string{"DEMO_NAME=" + s.name, "DEMO_PUBLIC=" + s.public, "DEMO_PRIVATE=" + s.private}
	args = append([]string{"--project-name=" + s.name, "--file=" + filepath.Join(s.root, composeFile)}, args...)
	_, err := output(ctx, env, s.compose[0], append(s.compose[1:len(s.compose):len(s.compose)], args...)...)
	return err
}

func (s *stage) up(ctx context.Context) error {
	err := s.onStage(ctx, "up", "--detach", "--no-build")
	if err == nil {
		return nil
	}
	if ill := s.ill(ctx); len(ill) > 0 { // of which compose may tell no more than that there are some
		return fmt.Errorf("%w (not well: %s)", err, strings.Join(ill, ", "))
	}
	return err
}

// ill names the containers that have failed, or have not become healthy.
func (s *stage) ill(ctx context.Context) (names []string) {
	list, _ := s.run(ctx, "ps", "--all", "--filter", "label=com.docker.compose.project="+s.name, "--format", "{{.Names}} {{.Status}}")
	for line := range strings.Lines(list) {
		name, status, _ := strings.Cut(strings.TrimSpace(line), " ")
		failed := strings.HasPrefix(status, "Exited (") && !strings.HasPrefix(status, "Exited (0)")
		if failed || strings.HasSuffix(status, "(unhealthy)") {
			names = append(names, name)
		}
	}
	return names
}

func (s *stage) down(ctx context.Context) error {
	return s.onStage(ctx, "down", "--volumes", "--remove-orphans", "--timeout", "1")
}

// startTimes tells when each actor's container was started.
func (s *stage) startTimes(ctx context.Context, actors []*actor) (map[string]string, error) {
	out := make(map[string]string)
	for _, a := range actors {
		at, err := s.run(ctx, "inspect", "--format", "{{.State.StartedAt}} {{.RestartCount}}", a.container)
		if err != nil {
			return nil, err
		}
		out[a.name] = at
	}
	return out, nil
}

// checkClock finds out whether the engine's clock and ours agree: what happens
// to actors tells its time by the one, what the story does by the other. They
// are two on a Mac and where the engine is far away.
func (s *stage) checkClock(ctx context.Context) error {
	before := time.Now()
	text, err := s.run(ctx, "info", "--format", "{{.SystemTime}}")
	after := time.Now()
	if ctx.Err() != nil {
		return err
	}
	at, bad := time.Parse(time.RFC3339Nano, text) // not every engine tells
	wrong := max(before.Sub(at), at.Sub(after))
	if bad == nil && wrong > clockSlack {
		return cli.Fail(fmt.Errorf("the clock of the Docker engine and that of this machine are %v apart", wrong.Round(time.Millisecond)),
			"restart Docker Desktop, or set the clock of the machine where the engine runs")
	}
	return nil
}

// network is what docker tells of one of its networks.
type network struct {
	Name   string
	Labels map[string]string
	IPAM   struct{ Config []struct{ Subnet string } }
}

// checkSubnets finds out whether the demo's addresses are free, by Docker's
// networks and this machine's interfaces. The engine would say so as well, but
// not who has them.
func (s *stage) checkSubnets(ctx context.Context) error {
	ours, err := s.subnets()
	if err != nil {
		return err
	}
	taken := make(map[string]string)
	ids, err := s.run(ctx, "network", "ls", "--quiet")
	if err != nil {
		return err
	}
	var networks []network
	text, err := s.run(ctx, append([]string{"network", "inspect"}, strings.Fields(ids)...)...)
	if err == nil { // otherwise one has just been removed, and the engine will tell
		err = json.Unmarshal([]byte(text), &networks)
	}
	if ctx.Err() != nil {
		return err
	}
	own := make(map[string]bool)
	for _, n := range networks {
		for _, c := range n.IPAM.Config {
			if n.Labels["com.docker.compose.project"] == s.name {
				own[c.Subnet] = true
			} else {
				taken[c.Subnet] = "Docker network " + n.Name
			}
		}
	}
	interfaces, _ := net.Interfaces() // if they cannot be had, the engine will tell
	for _, i := range interfaces {
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && !own[p.Masked().String()] && taken[p.Masked().String()] == "" {
				taken[p.Masked().String()] = "interface " + i.Name + " of this machine"
			}
		}
	}
	return overlap(ours, taken)
}

// subnets are those of compose.yml.
func (s *stage) subnets() (out []netip.Prefix, err error) {
	for _, text := range []string{s.public + ".0.0/16", s.private + ".1.0/24", s.private + ".2.0/24", s.private + ".3.0/24", s.private + ".9.0/24"} {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, cli.Usage(fmt.Errorf("DEMO_PUBLIC %q and DEMO_PRIVATE %q are not two numbers from 0 to 255 with a dot", s.public, s.private), otherSubnets)
		}
		out = append(out, p)
	}
	if internet, err := manet.FromIP(out[0].Addr().AsSlice()); err != nil || !manet.IsPublicAddr(internet) {
		return nil, cli.Usage(fmt.Errorf("DEMO_PUBLIC %s is no part of the internet: relays there would take themselves for private", s.public), otherSubnets)
	}
	return out, nil
}

func overlap(ours []netip.Prefix, taken map[string]string) error {
	for _, p := range ours {
		for subnet, by := range taken {
			if q, err := netip.ParsePrefix(subnet); err == nil && p.Overlaps(q) {
				return cli.Fail(fmt.Errorf("the demo's subnet %s is taken by %s (%s)", p, by, q), otherSubnets)
			}
		}
	}
	return nil
}

// withLogs saves what the containers have logged, and says where.
func (s *stage) withLogs(ctx context.Context, cause error) error {
	dir, err := os.MkdirTemp("", s.name+"-logs-")
	if err != nil {
		return cause
	}
	var g errgroup.Group
	for _, service := range services {
		g.Go(func() error {
			cmd := command(ctx, nil, "docker", "logs", "--timestamps", s.container(service))
			f, err := os.Create(filepath.Join(dir, service+".log"))
			if err != nil {
				return err
			}
			cmd.Stdout, cmd.Stderr = f, f
			return errors.Join(cmd.Run(), f.Close())
		})
	}
	_ = g.Wait() // of containers that were never made there is nothing to say
	return fmt.Errorf("%w (logs: %s)", cause, dir)
}
