//go:build linux

package natlab_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/causeway-p2p/causeway/internal/natlab"
	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/reachability"
)

// TestMappedPeer: behind a router that maps ports, a peer is a public one. Two
// relays verify it, and somebody who was never heard of dials it directly, over
// TCP and QUIC.
//
//	relay1   relay2   stranger        public
//	   └───────┼─────────┘
//	          box                     port-restricted, with miniupnpd
//	         mapped
func TestMappedPeer(t *testing.T) {
	if testing.Short() {
		t.Skip("real programs take their time")
	}
	lab := natlab.New(t)
	needMiniupnpd(t)
	s := newStory(t, buildPrograms(t), "quic")
	s.lab, s.bootstrap = lab, "/udp/4001/quic-v1"
	defer func() { t.Logf("\n%s", s.table()) }()
	for _, name := range []string{"relay1", "relay2"} {
		r := install(t, lab.Public(name), filepath.Join(s.bin, "relayd"))
		s.relays = append(s.relays, r)
		args := []string{"--network", "lab"}
		if name != "relay1" {
			args = append(args, "--bootstrap", s.bootstrapAddr())
		}
		r.start(args...)
	}
	for _, r := range s.relays {
		r.line(0, `^[0-9:.]+  serving as a relay: (.*)`)
	}
	s.done("relays serve", "")

	box := newMapping(t, lab.NAT("box", natlab.PortRestricted), "enable_natpmp=yes")
	p := install(t, box.Host("mapped"), filepath.Join(s.bin, "peer"))
	began := time.Now()
	p.start("up", "--json", "--network", "lab", "--bootstrap", s.bootstrapAddr())
	mapped := event(p, 0, "mapped ports", func(e node.PortsMapped) bool { return len(e.Addrs) > 0 })
	s.done("ports mapped", "%s after the start", seconds(mapped.When().Sub(began)))
	public := event(p, 0, "a public verdict", func(e node.ReachabilityChanged) bool { return e.Verdict.Reachability == reachability.Public })
	s.done("public", "%s after the start: %s", seconds(public.When().Sub(began)), public.Verdict.Because)
	event(p, 0, "both addresses to be told", func(e node.AddrsChanged) bool {
		return !slices.ContainsFunc(mapped.Addrs, func(a string) bool { return !slices.Contains(e.Addrs, a) })
	})
	s.done("mapped addresses advertised", "%s", strings.Join(mapped.Addrs, " "))
	if n := len(box.mapped()); n != 2 || len(mapped.Addrs) != 2 {
		t.Errorf("%d rules and %q, want 2 and 2", n, mapped.Addrs)
	}

	// Strangers on machines that the mapped peer has never sent anything to,
	// one of them without UDP.
	for _, transport := range []string{"quic", "tcp"} {
		stranger := install(t, lab.Public("stranger-"+transport), filepath.Join(s.bin, "peer"))
		entry := s.bootstrapAddr()
		if transport == "tcp" {
			stranger.machine.NFT(`table ip noudp {
				chain output {
					type filter hook output priority 0; policy accept;
					meta l4proto udp drop
				}
			}`)
			entry = strings.Replace(entry, s.bootstrap, "/tcp/4001", 1)
		}
		stranger.start("up", "--json", "--network", "lab", "--bootstrap", entry)
		event(stranger, 0, "to join", func(node.Joined) bool { return true })
		s.mark = time.Now()
		l := stranger.ping(p)
		s.done("a stranger gets through over "+transport, "%s, %s", l.Path, l.RTT)
		if !l.Path.Direct() || l.Path.Transport != transport {
			t.Errorf("the path is %s, want a direct one over %s", l.Path, transport)
		}
	}

	s.mark = time.Now()
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	if rules := box.mapped(); len(rules) > 0 {
		t.Errorf("left behind: %q", rules)
	}
	s.done("stopped, and the mappings removed", "")

	// Killed, it cannot clean up; started again with its key, it takes the
	// mappings of the ports that it has again over, and the others end with
	// their lease.
	fixed := []string{"/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/udp/4001/quic-v1"}
	p.start("up", "--json", "--network", "lab", "--bootstrap", s.bootstrapAddr(), "--listen", fixed[0], "--listen", fixed[1])
	first := event(p, 0, "mapped ports", func(e node.PortsMapped) bool { return len(e.Addrs) == 2 })
	p.Kill()
	p.restart()
	again := event(p, 0, "mapped ports", func(e node.PortsMapped) bool { return len(e.Addrs) == 2 })
	if !slices.Equal(first.Addrs, again.Addrs) || len(box.mapped()) != 2 {
		t.Errorf("after a crash: %q and %d rules, want %q and 2", again.Addrs, len(box.mapped()), first.Addrs)
	}
	s.done("mapped again after a crash", "%s", strings.Join(again.Addrs, " "))
}
