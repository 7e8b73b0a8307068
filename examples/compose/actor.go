package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/node"
)

// actor is a relay or a peer on the stage.
type actor struct {
	name      string // as the story calls it
	container string
	program   string // relayd or peer
	docker    *docker
	id        peer.ID
	events    *feed[node.EventRecord]
}

func newActor(s *stage, service, program string) *actor {
	name := service
	if program == "peer" {
		name = strings.ToUpper(service)
	}
	return &actor{name: name, container: s.container(service), program: program, docker: s.docker}
}

// exec runs one of the actor's commands, in its container.
func (a *actor) exec(ctx context.Context, args ...string) (string, error) {
	out, err := a.docker.run(ctx, append([]string{"exec", a.container, a.program}, args...)...)
	if err != nil {
		return "", fmt.Errorf("%s: %w", a.name, err)
	}
	return out, nil
}

func (a *actor) status(ctx context.Context) (s node.Status, err error) {
	out, err := a.exec(ctx, "status", "--json")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(out), &s)
}

// follow takes in what happens to the actor, what has happened before first,
// until ctx ends or the actor stops.
func (a *actor) follow(ctx context.Context) {
	events := newFeed[node.EventRecord]()
	a.events = events
	go func() {
		err := lines(ctx, a, events.add, "events", "--json", "--for", storyTime.String())
		if err == nil {
			err = errors.New("it has stopped")
		}
		events.end(err)
	}()
}

// lines runs one of the actor's commands that prints JSON objects, and hands
// over each, until the command or ctx ends. Docker ends the command here, and
// not the one in the container: that has to end by itself.
func lines[T any](ctx context.Context, a *actor, take func(T), args ...string) error {
	r, w := io.Pipe()
	cmd := command(ctx, nil, "docker", append([]string{"exec", a.container, a.program}, args...)...)
	var stderr strings.Builder
	cmd.Stdout, cmd.Stderr = w, &stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		w.Close()
		ended <- err
	}()
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	var bad error
	for in.Scan() {
		var v T
		if err := json.Unmarshal(in.Bytes(), &v); err != nil {
			bad = errors.Join(bad, fmt.Errorf("%s %s: %w", a.program, args[0], err))
			continue
		}
		take(v)
	}
	r.CloseWithError(in.Err()) // a line that is too long ends it
	err := <-ended
	switch {
	case bad != nil || ctx.Err() != nil:
		return bad
	case err != nil:
		return explain(a.program+" "+args[0], err, stderr.String())
	}
	return nil
}

// patience is how long anything is waited for: many times what it should take,
// so that a slow machine is no failure.
const patience = 45 * time.Second

// clockSlack is how far the engine's clock may be from ours: less than anything
// that is waited for stays as it was before.
const clockSlack = 250 * time.Millisecond

// await waits for an event of one type, which may have happened already, but
// not before since.
func await[E node.Event](ctx context.Context, a *actor, since time.Time, what string, ok func(E) bool) (found E, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("in vain, for %v", patience))
	defer cancel()
	var bad error
	_, err = a.events.find(ctx, func(rec node.EventRecord) bool {
		e, is, err := decode[E](rec)
		bad = errors.Join(bad, err)
		if is && !e.When().Before(since.Add(-clockSlack)) && ok(e) {
			found = e
			return true
		}
		return bad != nil
	})
	if err = errors.Join(bad, err); err != nil {
		return found, fmt.Errorf("%s: waited for %s: %w", a.name, what, err)
	}
	return found, nil
}

// past are the events of one type so far.
func past[E node.Event](a *actor) (out []E) {
	for _, rec := range a.events.all() {
		if e, is, err := decode[E](rec); is && err == nil {
			out = append(out, e)
		}
	}
	return out
}

func decode[E node.Event](rec node.EventRecord) (e E, is bool, err error) {
	if rec.Event != node.EventName(e) {
		return e, false, nil
	}
	if err := json.Unmarshal(rec.Data, &e); err != nil {
		return e, false, fmt.Errorf("event %s: %w", rec.Event, err)
	}
	return e, true, nil
}
