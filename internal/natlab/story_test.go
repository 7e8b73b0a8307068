//go:build linux

package natlab_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/causeway-p2p/causeway/internal/natlab"
	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/reachability"
)

// TestStory is what the project is for, told with the real programs: three
// relays, four peers behind NATs who know one address, and relays that die.
//
//	relay1    relay2    relay3                  public
//	   └─────────┼─────────┘
//	   natA    natB    natC    natD    natE
//	     a       b       c       d       e      peers, and a relayd that cannot be one
//
// NATs A and B are port-restricted, so that a hole can be punched between
// them. C and D are symmetric, both with ports that nobody can guess: c and d
// stay on the relays.
func TestStory(t *testing.T) {
	if testing.Short() {
		t.Skip("real programs take a minute")
	}
	natlab.New(t) // skips before anything is built
	bin := buildPrograms(t)
	for _, transport := range []struct{ name, relay, peer, bootstrap string }{
		{name: "quic", bootstrap: "/udp/4001/quic-v1"}, // listening is as by default: QUIC and TCP
		{name: "tcp", relay: "/ip4/0.0.0.0/tcp/4001", peer: "/ip4/0.0.0.0/tcp/0", bootstrap: "/tcp/4001"},
	} {
		t.Run(transport.name, func(t *testing.T) {
			s := newStory(t, bin, transport.name)
			s.relayFlags, s.peerFlags = listenFlag(transport.relay), listenFlag(transport.peer)
			s.bootstrap = transport.bootstrap
			defer func() { t.Logf("%s\n%s", t.Name(), s.table()) }()
			s.tell()
		})
	}
}

func listenFlag(addr string) []string {
	if addr == "" {
		return nil
	}
	return []string{"--listen", addr}
}

type story struct {
	*clock
	t         *testing.T
	lab       *natlab.Lab
	bin       string // directory of the programs
	transport string // of direct paths

	relayFlags, peerFlags []string
	bootstrap             string // how relay1 is reached

	relays     []*program
	a, b, c, d *program
	dead       map[string]bool // IDs of the relays that were killed and not started again
}

func newStory(t *testing.T, bin, transport string) *story {
	return &story{clock: newClock(), t: t, lab: natlab.New(t), bin: bin, transport: transport, dead: make(map[string]bool)}
}

func (s *story) tell() {
	s.startRelays()
	s.startPeers()
	s.peersFindRelays()
	s.verdicts()
	s.reachEachOther()
	s.carryFiles()
	s.killRelay()
	s.blackholeRelay()
	s.relayBehindNAT()
	s.stopRelay()
	s.lookBack()
}

// startRelays: each of the three finds out that it is public, serves, and is
// listed at the rendezvous. relay1 knows nobody, the others know relay1.
func (s *story) startRelays() {
	for i := 1; i <= 3; i++ {
		s.relays = append(s.relays, install(s.t, s.lab.Public(fmt.Sprint("relay", i)), filepath.Join(s.bin, "relayd")))
	}
	s.done("lab and keys", "")
	for i, r := range s.relays {
		// As long as anything here is waited for: see stopRelay.
		args := append([]string{"--network", "lab", "--drain", patience.String()}, s.relayFlags...)
		if i > 0 {
			args = append(args, "--bootstrap", s.bootstrapAddr())
		}
		r.start(args...)
	}
	for _, r := range s.relays {
		s.serves(r, 0)
	}
}

func (s *story) bootstrapAddr() string {
	r := s.relays[0]
	return "/ip4/" + r.machine.IP().String() + s.bootstrap + "/p2p/" + r.id
}

// serves holds that a relay becomes public, serves and announces itself.
func (s *story) serves(r *program, mark int) {
	s.t.Helper()
	because := r.line(mark, `^[0-9:.]+  serving as a relay: (.*)`)
	s.done(r.machine.Name()+" serves", "%s", because)
	r.line(mark, `^[0-9:.]+  announced as a relay`)
	s.done(r.machine.Name()+" is announced", "")
	if st := r.status(); st.Reachability.Reachability != reachability.Public || !st.Relay.Serving {
		s.t.Errorf("%s: reachability %+v, relay %+v, want public and serving", r.machine.Name(), st.Reachability, st.Relay)
	}
}

func (s *story) startPeers() {
	start := func(name string, kind natlab.Kind) *program {
		p := install(s.t, s.lab.NAT("nat"+strings.ToUpper(name), kind).Host(name), filepath.Join(s.bin, "peer"))
		p.start(append([]string{"up", "--json", "--network", "lab", "--bootstrap", s.bootstrapAddr()}, s.peerFlags...)...)
		return p
	}
	s.a = start("a", natlab.PortRestricted)
	s.b = start("b", natlab.PortRestricted)
	s.c = start("c", natlab.Symmetric)
	s.d = start("d", natlab.Symmetric)
	for _, p := range s.peers() {
		p.line(0, `"event":"joined"`)
	}
	s.done("a, b, c, d up and joined", "")
}

func (s *story) peers() []*program { return []*program{s.a, s.b, s.c, s.d} }

// peersFindRelays: relay1 is at hand as the peer that was joined through; the
// others are met in the DHT or come from the rendezvous, whichever is faster.
// Reservations and circuit addresses follow.
func (s *story) peersFindRelays() {
	for _, p := range s.peers() {
		event(p, 0, "circuit addresses", func(e node.AddrsChanged) bool { return e.Circuits > 0 })
	}
	s.done("each advertises a circuit address", "")
	for _, p := range s.peers() {
		for _, r := range s.relays {
			event(p, 0, r.machine.Name()+" to be found", func(e node.RelayFound) bool {
				return e.Relay.String() == r.id && (e.Source == "connected" || r != s.relays[0])
			})
		}
	}
	s.done("each has found all relays", "")
	for _, p := range s.peers() {
		s.holdsTwo(p, 0)
	}
	s.done("each has two reservations", "")
}

// holdsTwo waits until a peer advertises two relays, and none that is dead.
func (s *story) holdsTwo(p *program, mark int) node.AddrsChanged {
	s.t.Helper()
	e := event(p, mark, "two living relays in the addresses", func(e node.AddrsChanged) bool {
		on := relaysIn(e.Addrs)
		return len(on) == 2 && !slices.ContainsFunc(on, func(id string) bool { return s.dead[id] })
	})
	var held []string
	st := p.status()
	for _, r := range st.AutoRelay.Relays {
		if r.Advertised {
			held = append(held, r.ID)
		}
	}
	slices.Sort(held)
	if on := relaysIn(st.Addrs); !slices.Equal(on, held) || !st.Reachable {
		s.t.Errorf("%s advertises the relays %q and shows %q in its status; reachable: %t", p.machine.Name(), on, held, st.Reachable)
	}
	return e
}

// relaysIn lists the relays in circuit addresses.
func relaysIn(addrs []string) (ids []string) {
	for _, a := range addrs {
		if before, _, ok := strings.Cut(a, "/p2p-circuit"); ok {
			ids = append(ids, before[strings.LastIndexByte(before, '/')+1:])
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// verdicts: everybody behind a NAT knows that it is, and why.
func (s *story) verdicts() {
	for _, p := range s.peers() {
		e := event(p, 0, "a verdict", func(e node.ReachabilityChanged) bool {
			return e.Verdict.Reachability != reachability.Unknown
		})
		if e.Verdict.Reachability != reachability.Private || e.Verdict.Because == "" {
			s.t.Errorf("%s: %s", p.machine.Name(), e)
		}
		s.done(p.machine.Name()+" knows that it is private", "%s; %s after it was up",
			e.Verdict.Because, seconds(e.When().Sub(p.status().Started)))
	}
}

// reachEachOther: by peer ID alone, first through a relay; a hole is punched
// where that is possible.
func (s *story) reachEachOther() {
	first, direct := s.b.pingUntil(s.a, "a direct path from b to a", node.Path.Direct)
	s.done("b reaches a by its ID", "first %s in %s; %s after %s", first.path, seconds(first.at.Sub(s.mark)),
		direct.path, seconds(direct.at.Sub(s.mark)))
	if direct.path.Transport != s.transport {
		s.t.Errorf("the direct path is over %s, want %s", direct.path.Transport, s.transport)
	}
	l := s.d.ping(s.c)
	s.done("d reaches c by its ID", "%s, %s", l.Path, l.RTT)
	if !l.Path.Relayed() {
		s.t.Errorf("d reaches c %s: nobody can punch a hole there", l.Path)
	}
}

func (s *story) carryFiles() {
	const size = 1 << 20
	s.b.send(s.a, size)
	s.done("1 MiB from b to a", "%s", s.b.ping(s.a).Path)
	s.d.send(s.c, size)
	s.done("1 MiB from d to c", "%s", s.d.ping(s.c).Path)
}

// inUse is the relay on d's way to c.
func (s *story) inUse() *program {
	s.t.Helper()
	l := s.d.ping(s.c)
	i := slices.IndexFunc(s.relays, func(r *program) bool { return r.id == l.Path.Relay.String() })
	if i < 0 {
		s.t.Fatalf("d reaches c %s, which is none of our relays", l.Path)
	}
	return s.relays[i]
}

const (
	// replacedWithin bounds what should take 3 s: noticing that a relay has
	// vanished, and advertising another.
	replacedWithin = 15 * time.Second
	// reachedWithin bounds how long d needs to get through again. go-libp2p
	// itself needs 31 s and more.
	reachedWithin = 20 * time.Second
)

// survives holds that c and d get over the end of the relay between them,
// while nobody restarts anything.
func (s *story) survives(name string, end func(*program)) *program {
	s.t.Helper()
	r := s.inUse()
	mark, began := s.c.Mark(), time.Now()
	s.mark = began
	s.dead[r.id] = true
	end(r)
	l := s.d.ping(s.c)
	again := time.Since(began)
	lost := event(s.c, mark, "the relay to be lost", func(e node.RelayLost) bool { return e.Relay.String() == r.id })
	replaced := event(s.c, mark, "the relay to be replaced", func(e node.RelayReplaced) bool { return e.Old.String() == r.id })
	living := s.holdsTwo(s.c, mark)
	s.done(r.machine.Name()+" "+name, "c: %s after %s, another reserved %s, only living advertised %s; d there again %s, %s",
		lost.Reason, seconds(lost.When().Sub(began)), seconds(replaced.When().Sub(began)),
		seconds(living.When().Sub(began)), seconds(again), l.Path)
	if d := living.When().Sub(began); d > replacedWithin {
		s.t.Errorf("%s: another relay was advertised after %s, want less than %s", name, d, replacedWithin)
	}
	if again > reachedWithin {
		s.t.Errorf("%s: d reached c after %s, want less than %s", name, again, reachedWithin)
	}
	if s.dead[l.Path.Relay.String()] {
		s.t.Errorf("d reaches c %s, which is dead", l.Path)
	}
	return r
}

func (s *story) killRelay() {
	r := s.survives("kill -9", func(r *program) { r.Kill() })
	// A relay was missing, so every source was asked; so was the rendezvous.
	found := event(s.c, 0, "a relay by rendezvous", func(e node.RelayFound) bool { return e.Source == "dht" })
	s.done("c has a relay by rendezvous", "%s after it was up", seconds(found.When().Sub(s.c.status().Started)))
	r.restart()
	s.serves(r, 0)
	delete(s.dead, r.id)
}

func (s *story) blackholeRelay() {
	r := s.survives("blackholed", func(r *program) { s.lab.Blackhole(r.machine) })
	s.lab.Restore(r.machine)
	delete(s.dead, r.id)
}

// relayBehindNAT: a relayd that nobody can dial does not serve, and says why.
func (s *story) relayBehindNAT() {
	r := install(s.t, s.lab.NAT("natE", natlab.PortRestricted).Host("e"), filepath.Join(s.bin, "relayd"))
	s.mark = time.Now()
	r.start(append([]string{"--network", "lab", "--relay=auto", "--bootstrap", s.bootstrapAddr()}, s.relayFlags...)...)
	because := r.line(0, `^[0-9:.]+  not serving as a relay: (.*could not dial.*)`)
	s.done("relayd behind a NAT does not serve", "%s", because)
	if st := r.status().Relay; st.Serving || !strings.Contains(st.Because, "could not dial") {
		s.t.Errorf("its status is serving %t because %q, want a reason why not", st.Serving, st.Because)
	}
	if strings.Contains(r.Output(), "announced as a relay") {
		s.t.Error("it was announced")
	}
}

// stopRelay: a relay that is asked to stop tells those who depend on it, who
// move to others while what runs over it runs on. That ends only when they have,
// so that the relay stays for as long as it takes them.
func (s *story) stopRelay() {
	held := s.d.hold(s.c)
	i := slices.IndexFunc(s.relays, func(r *program) bool { return strings.HasSuffix(held.path, "via relay "+shortID(s.t, r.id)) })
	if i < 0 {
		s.t.Fatalf("d reaches c %s, which is none of our relays", held.path)
	}
	r := s.relays[i]
	mark, began := s.c.Mark(), time.Now()
	s.mark = began
	s.dead[r.id] = true
	if err := syscall.Kill(r.PID(), syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	moved := event(s.c, mark, "living relays only", func(e node.AddrsChanged) bool {
		return e.Circuits > 0 && !slices.Contains(relaysIn(e.Addrs), r.id)
	})
	select {
	case <-r.Done():
		s.t.Errorf("%s left while a stream ran over it:\n%s", r.machine.Name(), r.Output())
	default:
	}
	held.end()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	code, err := r.Wait(ctx)
	if err != nil || code != 0 {
		s.t.Errorf("%s: exit code %d, %v, want 0", r.machine.Name(), code, err)
	}
	stopped := time.Now()
	l := s.d.ping(s.c)
	s.done(r.machine.Name()+" SIGTERM", "exit code %d after %s; c: only living advertised %s; d there again %s after the end, %s",
		code, seconds(stopped.Sub(began)), seconds(moved.When().Sub(began)), seconds(time.Since(stopped)), l.Path)
}

// lookBack holds what was true all the time: from the first circuit address on
// there was always one, d had no direct path to c, and the verdicts that one
// server gave were confirmed by others.
func (s *story) lookBack() {
	for _, p := range s.peers() {
		had := false
		for _, e := range events[node.AddrsChanged](p, 0) {
			if had && e.Circuits == 0 {
				s.t.Errorf("%s: at %s: %s", p.machine.Name(), e.When().Format("15:04:05.000"), e)
			}
			had = had || e.Circuits > 0
		}
		if v := p.status().Reachability; v.Reachability != reachability.Private || v.Weak {
			s.t.Errorf("%s: the last verdict is %+v, want private by several servers", p.machine.Name(), v)
		}
	}
	for _, e := range events[node.PathChanged](s.d, 0) {
		if e.Peer.String() == s.c.id && e.To.Direct() {
			s.t.Errorf("d: %s", e)
		}
	}
}
