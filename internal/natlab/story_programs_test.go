//go:build linux

package natlab_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/admin"
	"github.com/causeway-p2p/causeway/internal/natlab"
	"github.com/causeway-p2p/causeway/node"
)

// patience is how long the story waits for anything: far longer than it should
// take, so that a slow machine is no failure.
const patience = 60 * time.Second

// buildPrograms builds relayd and peer, and returns the directory.
func buildPrograms(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", dir+"/", "./cmd/relayd", "./cmd/peer")
	cmd.Dir = filepath.Join("..", "..") // the module
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return dir
}

// program is a relayd or a peer that runs on a machine, and the means to talk
// to it: its own commands, on the same machine, by its data directory.
type program struct {
	*natlab.Process
	t       *testing.T
	machine *natlab.Machine
	bin     string
	dir     string // data directory
	args    []string
	id      string
}

// install makes the program's key, so that its ID is known, but does not start it.
func install(t *testing.T, m *natlab.Machine, bin string) *program {
	t.Helper()
	p := &program{t: t, machine: m, bin: bin, dir: filepath.Join(t.TempDir(), m.Name())}
	p.id = strings.TrimSpace(p.run(nil, "id"))
	return p
}

// start runs the program for the first time, restart with the same flags.
func (p *program) start(args ...string) {
	p.t.Helper()
	p.args = append(args, "--data-dir", p.dir)
	p.restart()
}

func (p *program) restart() {
	p.t.Helper()
	p.Process = p.machine.Start(filepath.Base(p.bin), p.bin, p.args...)
}

// run runs one of its commands, which must succeed, and returns what it printed.
func (p *program) run(stdin io.Reader, args ...string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience+patience/2)
	defer cancel()
	r, err := p.machine.Run(ctx, stdin, p.bin, append(args, "--data-dir", p.dir)...)
	if err != nil || r.Code != 0 {
		p.t.Fatalf("on %s: %s %s: exit code %d, %v\n%s%s", p.machine.Name(), filepath.Base(p.bin), strings.Join(args, " "), r.Code, err, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

func (p *program) status() (s node.Status) {
	p.t.Helper()
	p.parse(p.run(nil, "status", "--json"), &s)
	return s
}

func (p *program) parse(text string, v any) {
	p.t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		p.t.Fatalf("on %s: %v in %s", p.machine.Name(), err, text)
	}
}

// line waits for a line printed after the mark and returns the first submatch.
func (p *program) line(mark int, re string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	_, sub, err := p.WaitLineAfter(ctx, mark, regexp.MustCompile(re))
	if err != nil {
		p.t.Fatal(err)
	}
	return sub[len(sub)-1]
}

// scan waits until ok, called with each line printed after the mark, says yes.
func scan(t *testing.T, p *natlab.Process, mark int, what string, ok func(line string) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	any := regexp.MustCompile(``)
	for {
		lines := linesFrom(p, mark)
		if slices.ContainsFunc(lines, ok) {
			return
		}
		mark += len(lines)
		if _, _, err := p.WaitLineAfter(ctx, mark, any); err != nil {
			t.Fatalf("waiting for %s: %v", what, err)
		}
	}
}

// linesFrom returns what was printed after the mark.
func linesFrom(p *natlab.Process, mark int) []string {
	if p.Mark() <= mark {
		return nil
	}
	return strings.Split(p.Output(), "\n")[mark:]
}

// event waits for an event that `peer up --json` prints after the mark.
func event[E node.Event](p *program, mark int, what string, ok func(E) bool) (found E) {
	p.t.Helper()
	scan(p.t, p.Process, mark, what, func(line string) bool {
		e, is := parseEvent[E](p, line)
		if is = is && ok(e); is {
			found = e
		}
		return is
	})
	return found
}

// events are those of one type that were printed after the mark.
func events[E node.Event](p *program, mark int) (all []E) {
	for _, line := range linesFrom(p.Process, mark) {
		if e, ok := parseEvent[E](p, line); ok {
			all = append(all, e)
		}
	}
	return all
}

func parseEvent[E node.Event](p *program, line string) (e E, ok bool) {
	p.t.Helper()
	if !strings.Contains(line, `"event":"`+node.EventName(e)+`"`) {
		return e, false
	}
	var rec node.EventRecord
	p.parse(line, &rec)
	p.parse(string(rec.Data), &e)
	return e, true
}

// ping is `peer ping -c 1`: it connects if need be, and tries for a while.
func (p *program) ping(to *program) (l admin.PingLine) {
	p.t.Helper()
	p.parse(p.run(nil, "ping", to.id, "-c", "1", "-t", patience.String(), "--json"), &l)
	if l.Error != nil {
		p.t.Fatalf("%s to %s: %v", p.machine.Name(), to.machine.Name(), l.Error)
	}
	return l
}

// pingUntil pings until a ping takes a path that ok likes. It returns the
// first one that was answered, and when either was.
func (p *program) pingUntil(to *program, what string, ok func(node.Path) bool) (first, last answered) {
	p.t.Helper()
	proc := p.machine.Start("ping-"+to.machine.Name(), p.bin, "ping", to.id, "-c", "0", "-i", "50ms", "--json", "--data-dir", p.dir)
	scan(p.t, proc, 0, what, func(line string) bool {
		var l admin.PingLine
		p.parse(line, &l)
		if l.Error != nil {
			return false
		}
		last = answered{l.Path, l.RTT, time.Now()}
		if first.at.IsZero() {
			first = last
		}
		return ok(l.Path)
	})
	if err := proc.Stop(); err != nil {
		p.t.Error(err)
	}
	return first, last
}

type answered struct {
	path node.Path
	rtt  time.Duration
	at   time.Time
}

// send carries a random file to another peer, `peer connect` to `peer listen`,
// and holds that it arrives whole and both exit with 0.
func (p *program) send(to *program, size int) {
	p.t.Helper()
	data := make([]byte, size)
	rand.Read(data)
	arrived := filepath.Join(p.t.TempDir(), "arrived")
	listen := to.machine.Start("listen", "sh", "-c", `exec "$@" > "$0"`, arrived, to.bin, "listen", "file", "--data-dir", to.dir)
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	if _, _, err := listen.WaitLine(ctx, regexp.MustCompile(`^listening`)); err != nil {
		p.t.Fatal(err)
	}
	p.run(bytes.NewReader(data), "connect", to.id, "file")
	if code, err := listen.Wait(ctx); code != 0 || err != nil {
		p.t.Fatalf("peer listen: exit code %d, %v", code, err)
	}
	got, err := os.ReadFile(arrived)
	if err != nil {
		p.t.Fatal(err)
	}
	if want, have := sha256.Sum256(data), sha256.Sum256(got); want != have {
		p.t.Fatalf("%d bytes sent, SHA-256 %x; %d arrived, SHA-256 %x", len(data), want, len(got), have)
	}
}

// held is a stream between two peers that nothing goes over.
type held struct {
	path string // as the peer that is reached sees it
	end  func()
}

// hold opens a stream to another peer, which stays until it is ended.
func (p *program) hold(to *program) held {
	p.t.Helper()
	start := func(on *program, args ...string) *natlab.Process {
		// An input that never ends, and says nothing.
		script := []string{"-c", `mkfifo "$0" && exec "$@" <>"$0"`, filepath.Join(p.t.TempDir(), "input"), on.bin}
		return on.machine.Start(args[0], "sh", append(append(script, args...), "--data-dir", on.dir)...)
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	listen := start(to, "listen", "held")
	if _, _, err := listen.WaitLine(ctx, regexp.MustCompile(`^listening`)); err != nil {
		p.t.Fatal(err)
	}
	connect := start(p, "connect", to.id, "held")
	_, sub, err := listen.WaitLine(ctx, regexp.MustCompile(` connected (.*)`))
	if err != nil {
		p.t.Fatal(err)
	}
	return held{path: sub[1], end: func() { connect.Kill(); listen.Kill() }}
}

// shortID is a peer ID as people are told it.
func shortID(t *testing.T, id string) string {
	t.Helper()
	p, err := peer.Decode(id)
	if err != nil {
		t.Fatal(err)
	}
	return node.ShortID(p)
}

// clock measures the steps of a story.
type clock struct {
	began, mark time.Time
	rows        []string
}

func newClock() *clock { return &clock{began: time.Now(), mark: time.Now()} }

// done notes that a step has just ended; what it found goes into the table.
func (c *clock) done(step, format string, args ...any) {
	now := time.Now()
	c.rows = append(c.rows, fmt.Sprintf("%7.2f s %7.2f s  %-44s %s",
		now.Sub(c.began).Seconds(), now.Sub(c.mark).Seconds(), step, fmt.Sprintf(format, args...)))
	c.mark = now
}

func (c *clock) table() string {
	return fmt.Sprintf("%9s %9s  step\n%s", "at", "took", strings.Join(c.rows, "\n"))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
