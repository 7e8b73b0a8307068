package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/relay"
)

// relayInUse is the relay between C and A.
func (s *story) relayInUse(ctx context.Context) (*actor, error) {
	l, err := s.ctoa.await(ctx, time.Now(), "an answer", answered)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(s.relays, func(r *actor) bool { return r.id == l.Path.Relay })
	if i < 0 {
		return nil, fmt.Errorf("%s reaches A %s, which is none of our relays", s.c.name, l.Path)
	}
	return s.relays[i], nil
}

// killRelay: the relay between C and A dies without a word.
func (s *story) killRelay(ctx context.Context) error {
	s.scene("The relay between C and A is killed")
	r, err := s.relayInUse(ctx)
	if err != nil {
		return err
	}
	killed := time.Now()
	if _, err := s.stage.run(ctx, "kill", "--signal", "KILL", r.container); err != nil {
		return err
	}
	s.sayAt(killed, r.name, "is killed (SIGKILL)")
	again, err := s.ctoa.await(ctx, killed, "an answer through another relay", notOver(r.id))
	if err != nil {
		return err
	}
	if again.Path.Direct() {
		return fmt.Errorf("%s reaches A %s, which should not be possible", s.c.name, again.Path)
	}
	went := s.ctoa.during(killed, again.at)
	s.recall(again.at, s.c.name, "reaches A %s; nothing was heard for %s", again.Path, millis(went.silence))
	for _, p := range []*actor{s.a, s.c} {
		if !slices.Contains(s.advertised(p, killed), r.name) {
			continue // it holds others
		}
		living, err := await(ctx, p, killed, "two living relays in its addresses", func(e node.AddrsChanged) bool {
			on := s.relaysIn(e.Addrs)
			return len(on) == 2 && !slices.Contains(on, r.name)
		})
		if err != nil {
			return err
		}
		s.recall(living.When(), p.name, "advertises %s, %s after the kill", strings.Join(s.relaysIn(living.Addrs), " and "), millis(living.When().Sub(killed)))
	}
	if err := s.asksRendezvous(ctx, s.a, r, killed); err != nil {
		return err
	}
	s.note(r.name+" is killed: C reaches A again", again.at.Sub(killed), "%s; nobody was restarted", again.Path)
	s.dead = r
	return nil
}

// asksRendezvous: a peer that lacks a relay, as A does now, has every source
// asked for others, so that the rendezvous has named it the living ones by now.
func (s *story) asksRendezvous(ctx context.Context, p, dead *actor, since time.Time) error {
	for _, r := range s.relays {
		if r == dead {
			continue
		}
		found, err := await(ctx, p, time.Time{}, r.name+" to come from the rendezvous", func(e node.RelayFound) bool {
			return e.Relay == r.id && e.Source == "dht"
		})
		if err != nil {
			return err
		}
		if found.When().After(since) {
			s.recall(found.When(), p.name, "looks for others, and finds %s at the rendezvous in the DHT", r.name)
		}
	}
	return nil
}

// stopRelay: the relay between C and A is asked to stop, and nobody notices.
// What runs over it meanwhile runs on to its end, which comes when all else is
// elsewhere: until then the relay must be there, however long that takes.
func (s *story) stopRelay(ctx context.Context) error {
	s.scene("Another relay is stopped politely")
	began := time.Now()
	transfer, r, err := s.beginTransfer(ctx)
	if err != nil {
		return err
	}
	stopped := time.Now()
	s.sayAt(stopped, r.name, "is asked to stop (SIGTERM), while C has a transfer from A over it")
	gone := make(chan error, 1)
	go func() {
		// Spelt out it is --time in old versions, and --timeout in new ones.
		_, err := s.stage.run(ctx, "stop", "-t", "60", r.container)
		gone <- err
	}()
	for _, p := range []*actor{s.a, s.c} {
		if err := s.movesAway(ctx, p, r, stopped); err != nil {
			return err
		}
	}
	moved, err := s.ctoa.await(ctx, stopped, "an answer through another relay", notOver(r.id))
	if err != nil {
		return err
	}
	if len(gone) > 0 {
		return fmt.Errorf("%s left while C had a transfer from A over it", r.name)
	}
	s.recall(moved.at, s.c.name, "reaches A %s, while %s is still there", moved.Path, r.name)
	s.flush()
	if err := s.wholeTransfer(transfer, r, began); err != nil {
		return err
	}
	if err := <-gone; err != nil {
		return err
	}
	return s.nobodyNoticed(ctx, r, stopped, time.Now())
}

// beginTransfer has C fetch something from A that lasts, and tells over which
// relay. C's pings go the same way.
func (s *story) beginTransfer(ctx context.Context) (*page, *actor, error) {
	began := time.Now()
	transfer, err := fetch(ctx, s.c, s.a.id, "/clock")
	if err != nil {
		return nil, nil, err
	}
	over := s.named(transfer.path)
	i := slices.IndexFunc(s.relays, func(r *actor) bool { return over == "via "+r.name })
	if i < 0 {
		return nil, nil, fmt.Errorf("%s's transfer from A goes %s, which is none of our relays", s.c.name, over)
	}
	r := s.relays[i]
	_, err = s.ctoa.await(ctx, began, "an answer "+over+", as its transfer goes", func(l pingAt) bool { return answered(l) && l.Path.Relay == r.id })
	return transfer, r, err
}

// movesAway waits until a peer has ceased to advertise a relay that is about to
// go.
func (s *story) movesAway(ctx context.Context, p, r *actor, since time.Time) error {
	if !slices.Contains(s.advertised(p, since), r.name) {
		return nil
	}
	moved, err := await(ctx, p, since, "addresses without "+r.name, func(e node.AddrsChanged) bool {
		return e.Circuits > 0 && !slices.Contains(s.relaysIn(e.Addrs), r.name)
	})
	if err != nil {
		return err
	}
	s.recall(moved.When(), p.name, "advertises only %s, while %s is still there", strings.Join(s.relaysIn(moved.Addrs), " and "), r.name)
	return nil
}

func (s *story) wholeTransfer(transfer *page, over *actor, began time.Time) error {
	text, err := transfer.text()
	if err != nil {
		return fmt.Errorf("the transfer from A to C over %s broke: %w", over.name, err)
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if last := lines[len(lines)-1]; last != fmt.Sprintf("%d in all", len(lines)-1) {
		return fmt.Errorf("the transfer from A to C over %s ended in the middle, at %q", over.name, last)
	}
	s.say(s.c.name, "has all of the transfer, which took %s", millis(time.Since(began)))
	return nil
}

// nobodyNoticed: all pings were answered, and the relay cut nothing off. How
// long that took is told, and no reason to fail: it is the machine's as well.
func (s *story) nobodyNoticed(ctx context.Context, r *actor, stopped, gone time.Time) error {
	s.sayAt(gone, r.name, "has stopped, after %s", millis(gone.Sub(stopped)))
	after, err := s.ctoa.await(ctx, gone, "an answer through the last relay", notOver(r.id))
	if err != nil {
		return err
	}
	went := s.ctoa.during(stopped, after.at)
	if went.failed > 0 {
		return fmt.Errorf("the end of %s was noticed: %d of C's pings to A failed", r.name, went.failed)
	}
	for _, p := range []*actor{s.a, s.c} {
		for _, e := range past[node.CircuitEnded](p) {
			if e.Relay == r.id && (e.Reason == string(relay.Draining) || e.Reason == string(relay.Stopping)) {
				return fmt.Errorf("the end of %s was noticed: %s: %s", r.name, p.name, e)
			}
		}
	}
	s.sayAt(after.at, s.c.name, "reaches A %s; all %d pings meanwhile were answered, the longest silence was %s", after.Path, went.answered, millis(went.silence))
	s.stopped = r
	s.note(r.name+" is stopped politely: longest silence", went.silence, "all %d pings were answered, and a transfer ended whole", went.answered)
	return nil
}

// relayComesBack: the relay that was killed is started again, and used again.
func (s *story) relayComesBack(ctx context.Context) error {
	s.scene(s.dead.name + " comes back")
	r, began := s.dead, time.Now()
	if _, err := s.stage.run(ctx, "start", r.container); err != nil {
		return err
	}
	r.follow(s.ctx)
	if err := s.serves(ctx, r, began); err != nil {
		return err
	}
	up, err := r.status(ctx)
	if err != nil {
		return err
	}
	if up.ID != r.id.String() {
		return fmt.Errorf("%s came back as somebody else", r.name)
	}
	for _, p := range []*actor{s.a, s.c} {
		e, err := await(ctx, p, began, r.name+" in its addresses again", func(e node.AddrsChanged) bool {
			return slices.Contains(s.relaysIn(e.Addrs), r.name)
		})
		if err != nil {
			return err
		}
		took := e.When().Sub(up.Started)
		s.recall(e.When(), p.name, "advertises %s again, %s after its start", strings.Join(s.relaysIn(e.Addrs), " and "), millis(took))
		if p == s.a {
			s.note(r.name+" comes back: A is reachable through it", took, "after its start, by the key and address it had before")
		}
	}
	return nil
}
