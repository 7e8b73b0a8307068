package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/reachability"
)

// story is what the actors go through, in the order of tell.
type story struct {
	*teller
	stage   *stage
	relays  []*actor
	a, b, c *actor
	ctx     context.Context // of those who follow what happens; ends with close
	cancel  context.CancelFunc
	started map[string]string // when each peer's container was started

	ctoa          *pings // C pings A, all the time
	dead, stopped *actor // the relays that were killed and stopped
	rows          []row
}

func newStory(st *stage, out *teller) *story {
	s := &story{teller: out, stage: st}
	for _, name := range []string{"relay1", "relay2", "relay3"} {
		s.relays = append(s.relays, newActor(st, name, "relayd"))
	}
	s.a, s.b, s.c = newActor(st, "a", "peer"), newActor(st, "b", "peer"), newActor(st, "c", "peer")
	return s
}

// storyTime bounds the story: several times what it takes.
const storyTime = 5 * time.Minute

// tell is the story itself. Every line that it says has been seen to be true.
func (s *story) tell(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, storyTime, fmt.Errorf("the story took more than %v", storyTime))
	defer cancel()
	for _, step := range []func(context.Context) error{
		s.setUp, s.relaysServe, s.peersBecomeReachable, s.verdicts,
		s.aReachesB, s.cReachesA, s.cReadsPage,
		s.killRelay, s.stopRelay, s.relayComesBack,
		s.lookBack,
	} {
		err := step(ctx)
		s.flush()
		if err != nil {
			return err
		}
	}
	s.table(s.rows)
	s.line("\nAll of it happened, in %.1f s.", time.Since(s.began).Seconds())
	return nil
}

func (s *story) close() {
	if s.cancel != nil {
		s.cancel()
	}
}

func (s *story) peers() []*actor  { return []*actor{s.a, s.b, s.c} }
func (s *story) actors() []*actor { return append(slices.Clone(s.relays), s.peers()...) }

// note puts a row into the table.
func (s *story) note(what string, took time.Duration, how string, args ...any) {
	s.rows = append(s.rows, row{what, took, fmt.Sprintf(how, args...)})
}

// setUp starts all containers and finds out who is who.
func (s *story) setUp(ctx context.Context) error {
	s.start()
	s.say("stage", "%s; three relays on %s.0.0/16, which is our internet", s.stage.version, s.stage.public)
	s.say("stage", "A and B are behind port-restricted NATs, C behind a symmetric one that lets no UDP out")
	s.progress(fmt.Sprintf("starting %d containers", len(services)+1))
	if err := s.stage.up(ctx); err != nil {
		return err
	}
	// Who follows what happens goes on while the last step ends.
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	var g errgroup.Group
	names := make([]string, 0, 6*len(s.actors()))
	for _, a := range s.actors() {
		g.Go(func() error {
			id, err := a.exec(ctx, "id")
			if err != nil {
				return err
			}
			a.id, err = peer.Decode(id)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, a := range s.actors() {
		names = append(names, "relay "+node.ShortID(a.id), a.name, node.ShortID(a.id), a.name, a.id.String(), a.name)
		a.follow(s.ctx)
	}
	s.call(strings.NewReplacer(names...))
	var err error
	s.started, err = s.stage.startTimes(ctx, s.peers())
	s.say("stage", "all containers are up; whoever joins is told of relay1, and of nothing else")
	return err
}

// relaysServe: each finds out that the internet can dial it, and is listed at
// the rendezvous.
func (s *story) relaysServe(ctx context.Context) error {
	s.scene("Relays find out that they are public, and announce themselves in the DHT")
	for _, r := range s.relays {
		if err := s.serves(ctx, r, time.Time{}); err != nil {
			return err
		}
		if _, err := await(ctx, r, time.Time{}, "its announcement", func(node.Announced) bool { return true }); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) serves(ctx context.Context, r *actor, since time.Time) error {
	e, err := await(ctx, r, since, "it to serve as a relay", func(e node.RelayService) bool { return e.Serving })
	if err != nil {
		return err
	}
	s.recall(e.When(), r.name, "serves as a relay: %s", e.Because)
	return nil
}

// peersBecomeReachable: they find the relays, reserve, and advertise circuit
// addresses.
func (s *story) peersBecomeReachable(ctx context.Context) error {
	s.scene("Peers find relays, and advertise addresses through them")
	for _, p := range s.peers() {
		if err := s.becomesReachable(ctx, p); err != nil {
			return err
		}
		if err := s.findsRelays(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// findsRelays: whom a peer uses it has from the DHT. Those that it joined
// through, or meets there by chance, are used at once; the rendezvous is asked
// as long as relays are missing.
func (s *story) findsRelays(ctx context.Context, p *actor) error {
	joined, err := await(ctx, p, time.Time{}, "it to join", func(node.Joined) bool { return true })
	if err != nil {
		return err
	}
	s.recall(joined.When(), p.name, "joined the network through %s", joined.Peer)
	told := make(map[peer.ID]bool)
	for _, source := range []string{"dht", "connected"} {
		for _, e := range past[node.RelayFound](p) {
			switch {
			case e.Source == "cache" || e.Source == "connected" && e.Relay == s.relays[0].id:
				// What was found is remembered, and relay1 is at hand anyway.
			case e.Source != "dht" && e.Source != "connected":
				return fmt.Errorf("%s was told of %s by %q, not by the DHT", p.name, e.Relay, e.Source)
			case e.Source == source && !told[e.Relay]:
				told[e.Relay] = true
				s.recall(e.When(), p.name, map[string]string{
					"dht": "found %s at the rendezvous in the DHT", "connected": "met %s in the DHT",
				}[source], e.Relay)
			}
		}
	}
	return nil
}

func (s *story) becomesReachable(ctx context.Context, p *actor) error {
	st, err := p.status(ctx)
	if err != nil {
		return err
	}
	first, err := await(ctx, p, time.Time{}, "a circuit address", func(e node.AddrsChanged) bool { return e.Circuits > 0 })
	if err != nil {
		return err
	}
	s.note(p.name+" advertises a circuit address", first.When().Sub(st.Started), "through %s; from its start, knowing only relay1", strings.Join(s.relaysIn(first.Addrs), " and "))
	two, err := await(ctx, p, time.Time{}, "circuit addresses through two relays", func(e node.AddrsChanged) bool { return len(s.relaysIn(e.Addrs)) == 2 })
	if err != nil {
		return err
	}
	s.recall(two.When(), p.name, "reachable through %s, %s after its start", strings.Join(s.relaysIn(two.Addrs), " and "), millis(two.When().Sub(st.Started)))
	return nil
}

// advertised names the relays through which a peer said it could be reached at
// a time.
func (s *story) advertised(p *actor, at time.Time) (names []string) {
	for _, e := range past[node.AddrsChanged](p) {
		if e.When().Before(at) {
			names = s.relaysIn(e.Addrs)
		}
	}
	return names
}

// relaysIn names the relays in circuit addresses.
func (s *story) relaysIn(addrs []string) (names []string) {
	for _, r := range s.relays {
		if slices.ContainsFunc(addrs, func(a string) bool { return strings.Contains(a, r.id.String()+"/p2p-circuit") }) {
			names = append(names, r.name)
		}
	}
	return names
}

// verdicts: everybody behind a NAT knows that it is, and why.
func (s *story) verdicts(ctx context.Context) error {
	s.scene("Everybody behind a NAT knows it")
	for _, p := range s.peers() {
		e, err := await(ctx, p, time.Time{}, "a verdict", func(e node.ReachabilityChanged) bool {
			return e.Verdict.Reachability != reachability.Unknown
		})
		if err != nil {
			return err
		}
		if e.Verdict.Reachability != reachability.Private {
			return fmt.Errorf("%s takes itself for %s, behind a NAT: %s", p.name, e.Verdict.Reachability, e.Verdict.Because)
		}
		s.recall(e.When(), p.name, "%s", e)
	}
	return nil
}

// lookBack: from its first circuit address on each peer always had one, and no
// peer was restarted.
func (s *story) lookBack(ctx context.Context) error {
	s.ctoa.stop()
	for _, p := range s.peers() {
		if err := p.events.over(); err != nil {
			return fmt.Errorf("%s was lost sight of: %w", p.name, err)
		}
		had := false
		for _, e := range past[node.AddrsChanged](p) {
			if had && e.Circuits == 0 {
				return fmt.Errorf("%s had no circuit address at %s", p.name, e.When().Format("15:04:05.000"))
			}
			had = had || e.Circuits > 0
		}
		if !had {
			return fmt.Errorf("%s never had a circuit address", p.name)
		}
	}
	now, err := s.stage.startTimes(ctx, s.peers())
	if err != nil {
		return err
	}
	for _, p := range s.peers() {
		if now[p.name] != s.started[p.name] {
			return fmt.Errorf("%s was restarted, which should not have been necessary", p.name)
		}
	}
	s.note("Peers restarted, or ever without an address", 0, "none")
	return nil
}

// whatToTry says what can be done with the stage that is left.
func (s *story) whatToTry(ctx context.Context) error {
	if _, err := s.stage.run(ctx, "start", s.stopped.container); err != nil {
		return err
	}
	metrics, err := s.stage.run(ctx, "port", s.relays[0].container, "9464/tcp")
	if err != nil {
		return err
	}
	down := "make compose-down"
	if s.stage.name != defaultName {
		down = "DEMO_NAME=" + s.stage.name + " " + down
	}
	s.line(`
The stage is still up, and %[6]s is back too. To try:

  docker exec %[1]s peer status
  docker exec %[2]s peer ping %[3]s
  docker exec %[2]s peer netcheck
  printf 'GET / HTTP/1.0\r\n\r\n' | docker exec -i %[2]s peer connect %[3]s web
  docker exec %[4]s relayd reservations
  docker logs -f %[2]s
  curl http://%[5]s/metrics

%[7]s takes it down.`, s.a.container, s.c.container, s.a.id, s.relays[0].container, metrics, s.stopped.name, down)
	return nil
}
