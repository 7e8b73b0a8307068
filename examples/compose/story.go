package main

import (
	"context"
	"errors"
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

	ctoa *pings // C pings A, all the time
	dead *actor // the relay that was killed
	rows []row
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
		if err := s.findsRelays(ctx, p); err != nil {
			return err
		}
		if err := s.becomesReachable(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) findsRelays(ctx context.Context, p *actor) error {
	joined, err := await(ctx, p, time.Time{}, "it to join", func(node.Joined) bool { return true })
	if err != nil {
		return err
	}
	s.recall(joined.When(), p.name, "joined the network through %s", joined.Peer)
	for _, r := range s.relays {
		found, err := await(ctx, p, time.Time{}, r.name+" to come from the rendezvous", func(e node.RelayFound) bool {
			return e.Relay == r.id && e.Source == "dht"
		})
		if err != nil {
			return err
		}
		s.recall(found.When(), p.name, "found %s at the rendezvous in the DHT", r.name)
	}
	for _, rec := range p.events.all() {
		// Besides, relay1 is at hand as the one that was joined through, and what
		// was found is remembered.
		if e, is, err := decode[node.RelayFound](rec); err != nil || is && !slices.Contains([]string{"dht", "connected", "cache"}, e.Source) {
			return errors.Join(err, fmt.Errorf("%s was told of %s by %q", p.name, e.Relay, e.Source))
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
	for _, rec := range p.events.all() {
		if e, is, err := decode[node.AddrsChanged](rec); is && err == nil && e.When().Before(at) {
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

// aReachesB: through a relay at once, then through a hole.
func (s *story) aReachesB(ctx context.Context) error {
	s.scene("A reaches B, knowing nothing but its peer ID")
	began := time.Now()
	p := ping(s.ctx, s.a, s.b)
	defer p.stop()
	first, err := p.await(ctx, began, "an answer", answered)
	if err != nil {
		return err
	}
	if first.Path.Direct() {
		return fmt.Errorf("A's first path to B was %s, through two NATs", first.Path)
	}
	took := first.at.Sub(began)
	s.sayAt(first.at, s.a.name, "reaches B %s after %s (round trip %s)", first.Path, millis(took), tenths(first.RTT))
	s.note("A reaches B by its peer ID", took, "%s", first.Path)
	up, err := p.await(ctx, began, "a direct path", func(l pingAt) bool { return l.Upgrade != nil })
	if err != nil {
		return err
	}
	s.sayAt(up.at, s.a.name, "path to B upgraded to %s after %s: a hole was punched through both NATs", up.Upgrade.To, millis(up.Upgrade.After))
	s.note("… and then directly", up.Upgrade.After, "%s, through two port-restricted NATs", up.Upgrade.To)
	direct, err := p.await(ctx, up.at, "an answer over the direct path", func(l pingAt) bool { return answered(l) && l.Path.Direct() })
	if err != nil {
		return err
	}
	s.sayAt(direct.at, s.a.name, "reaches B %s (round trip %s)", direct.Path, tenths(direct.RTT))
	return nil
}

func tenths(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1000) }

// cReachesA: through a relay, and it stays that way.
func (s *story) cReachesA(ctx context.Context) error {
	s.scene("C reaches A: no hole can be punched there, so the relay stays")
	began := time.Now()
	s.ctoa = ping(s.ctx, s.c, s.a)
	first, err := s.ctoa.await(ctx, began, "an answer", answered)
	if err != nil {
		return err
	}
	took := first.at.Sub(began)
	s.sayAt(first.at, s.c.name, "reaches A %s after %s (round trip %s)", first.Path, millis(took), tenths(first.RTT))
	tried, err := await(ctx, s.c, began, "the attempt at a direct path to end", func(e node.DirectAttempt) bool { return e.Peer == s.a.id })
	if err != nil {
		return err
	}
	if tried.Outcome.Direct() {
		return fmt.Errorf("C has a direct path to A (%s), through a symmetric NAT without UDP", tried.Outcome)
	}
	s.sayAt(tried.When(), s.c.name, "stays on the relay: %s", tried.Why)
	s.note("C reaches A by its peer ID", took, "%s; it stays relayed: %s", first.Path, tried.Why)
	return nil
}

// relayInUse is the relay between C and A.
func (s *story) relayInUse(ctx context.Context) (*actor, error) {
	l, err := s.ctoa.await(ctx, time.Now(), "an answer", answered)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(s.relays, func(r *actor) bool { return r.id == l.Path.Relay })
	if i < 0 {
		return nil, fmt.Errorf("C reaches A %s, which is none of our relays", l.Path)
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
		return fmt.Errorf("C reaches A %s, which should not be possible", again.Path)
	}
	went := s.ctoa.during(killed, again.at)
	s.sayAt(again.at, s.c.name, "reaches A %s; nothing was heard for %s", again.Path, millis(went.silence))
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
	s.note(r.name+" is killed: C reaches A again", again.at.Sub(killed), "%s; nobody was restarted", again.Path)
	s.dead = r
	return nil
}

// cReadsPage: a web server that has no network, at a peer that nobody can
// dial, is reached by that peer's ID.
func (s *story) cReadsPage(ctx context.Context) error {
	s.scene("C fetches a page from the web server at A: http://<A's peer ID>/")
	began := time.Now()
	p, err := fetch(ctx, s.c, s.a.id, "/")
	if err != nil {
		return err
	}
	text, err := p.text()
	if err != nil {
		return err
	}
	took := time.Since(began)
	first, _, _ := strings.Cut(text, "\n")
	if !strings.Contains(first, "Hello "+node.ShortID(s.c.id)) {
		return fmt.Errorf("C got another page than that at A: %q", first)
	}
	s.say(s.c.name, "got it in %s: %q", millis(took), s.named(first))
	s.note("C fetches A's page by its peer ID", took, "the web server has no network but A")
	return nil
}

// stopRelay: the relay between C and A is asked to stop, and nobody notices.
// What runs over it meanwhile runs on to its end.
func (s *story) stopRelay(ctx context.Context) error {
	s.scene("Another relay is stopped politely")
	r, err := s.relayInUse(ctx)
	if err != nil {
		return err
	}
	transfer, err := fetch(ctx, s.c, s.a.id, "/clock")
	if err != nil {
		return err
	}
	stopped := time.Now()
	s.sayAt(stopped, r.name, "is asked to stop (SIGTERM), while C has a transfer from A over it")
	gone := make(chan error, 1)
	go func() {
		_, err := s.stage.run(ctx, "stop", "--time", "20", r.container)
		gone <- err
	}()
	for _, p := range []*actor{s.a, s.c} {
		if err := s.movesAway(ctx, p, r, stopped, gone); err != nil {
			return err
		}
	}
	if err := s.wholeTransfer(transfer, r); err != nil {
		return err
	}
	if err := <-gone; err != nil {
		return err
	}
	return s.nobodyNoticed(ctx, r, stopped, time.Now())
}

// movesAway holds that a peer ceases to advertise a relay before that is gone.
func (s *story) movesAway(ctx context.Context, p, r *actor, since time.Time, gone <-chan error) error {
	if !slices.Contains(s.advertised(p, since), r.name) {
		return nil
	}
	moved, err := await(ctx, p, since, "addresses without "+r.name, func(e node.AddrsChanged) bool {
		return e.Circuits > 0 && !slices.Contains(s.relaysIn(e.Addrs), r.name)
	})
	if err != nil {
		return err
	}
	if len(gone) > 0 {
		return fmt.Errorf("%s advertised %s until it was gone", p.name, r.name)
	}
	s.sayAt(moved.When(), p.name, "advertises only %s, while %s is still there", strings.Join(s.relaysIn(moved.Addrs), " and "), r.name)
	return nil
}

func (s *story) wholeTransfer(transfer *page, over *actor) error {
	text, err := transfer.text()
	if err != nil {
		return fmt.Errorf("C's transfer over %s broke: %w", over.name, err)
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if last := lines[len(lines)-1]; last != fmt.Sprintf("%d of %d", len(lines), len(lines)) {
		return fmt.Errorf("C's transfer over %s ended in the middle, at %q", over.name, last)
	}
	s.say(s.c.name, "has all of the transfer, which took %d s", len(lines))
	return nil
}

// noticeable is a silence that a person would notice.
const noticeable = 2 * time.Second

func (s *story) nobodyNoticed(ctx context.Context, r *actor, stopped, gone time.Time) error {
	s.sayAt(gone, r.name, "has stopped, after %s", millis(gone.Sub(stopped)))
	after, err := s.ctoa.await(ctx, gone, "an answer through the last relay", notOver(r.id))
	if err != nil {
		return err
	}
	went := s.ctoa.during(stopped, after.at)
	if went.failed > 0 || went.silence > noticeable {
		return fmt.Errorf("the end of %s was noticed: %d of C's pings to A failed, %s without an answer", r.name, went.failed, millis(went.silence))
	}
	s.sayAt(after.at, s.c.name, "reaches A %s; all %d pings meanwhile were answered, the longest silence was %s", after.Path, went.answered, millis(went.silence))
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

// lookBack: from its first circuit address on each peer always had one, and no
// peer was restarted.
func (s *story) lookBack(ctx context.Context) error {
	s.ctoa.stop()
	for _, p := range s.peers() {
		had := false
		for _, rec := range p.events.all() {
			e, is, err := decode[node.AddrsChanged](rec)
			if err != nil {
				return err
			}
			if is && had && e.Circuits == 0 {
				return fmt.Errorf("%s had no circuit address at %s", p.name, e.When().Format("15:04:05.000"))
			}
			had = had || is && e.Circuits > 0
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
	url := "none"
	if addr, err := s.stage.run(ctx, "port", s.relays[0].container, "9464/tcp"); err == nil {
		url = "http://" + addr + "/metrics"
	}
	s.line(`
The stage is still up. To try:

  docker exec %[1]s peer status
  docker exec %[2]s peer ping %[3]s
  docker exec %[2]s peer netcheck
  printf 'GET / HTTP/1.0\r\n\r\n' | docker exec -i %[2]s peer connect %[3]s web
  docker exec %[4]s relayd top
  docker logs -f %[2]s
  curl %[5]s

make compose-down takes it down.`, s.a.container, s.c.container, s.a.id, s.relays[0].container, url)
	return nil
}
