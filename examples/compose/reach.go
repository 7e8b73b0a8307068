package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/causeway-p2p/causeway/node"
)

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
	took := first.at.Sub(began)
	s.sayAt(first.at, s.a.name, "reaches B %s after %s (round trip %s)", first.Path, millis(took), tenths(first.RTT))
	s.note("A reaches B by its peer ID", took, "%s", first.Path)
	direct, err := p.await(ctx, began, "an answer over a direct path", func(l pingAt) bool { return answered(l) && l.Path.Direct() })
	if err != nil {
		return err
	}
	at, held := direct.at, direct.at.Sub(began)
	// A's own word is exact. It has none if the direct path came as fast as the
	// relayed one, which on a busy machine it may, and before the first ping too.
	for _, e := range past[node.PathChanged](s.a) {
		if e.Peer == s.b.id && e.From.Relayed() && e.To.Direct() {
			at, held = e.When(), e.Held
		}
	}
	s.sayAt(at, s.a.name, "path to B upgraded to %s after %s: a hole was punched through both NATs", direct.Path, millis(held))
	s.note("… and then directly", held, "%s, through two port-restricted NATs", direct.Path)
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
		return fmt.Errorf("%s has a direct path to A (%s), through a symmetric NAT without UDP", s.c.name, tried.Outcome)
	}
	s.sayAt(tried.When(), s.c.name, "stays on the relay: %s", tried.Why)
	s.note("C reaches A by its peer ID", took, "%s; it stays relayed: %s", first.Path, tried.Why)
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
		return fmt.Errorf("%s got another page than that at A: %q", s.c.name, first)
	}
	s.say(s.c.name, "got it in %s: %q", millis(took), s.named(first))
	s.note("C fetches A's page by its peer ID", took, "the web server has no network but A")
	return nil
}
