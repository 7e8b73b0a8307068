//go:build linux

package natlab_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/causeway-p2p/causeway/internal/natlab"
	"github.com/causeway-p2p/causeway/node"
)

// againWithin bounds how long a peer that roamed may be out of reach. Without
// a word from the kernel it takes half a minute over QUIC and minutes over TCP.
const againWithin = 10 * time.Second

// TestRoaming: the address of a peer's interface is replaced by another, as when
// a laptop changes from one Wi-Fi to the next. It is reached again soon, also
// by those who talked to it before.
func TestRoaming(t *testing.T) {
	if testing.Short() {
		t.Skip("real programs take their time")
	}
	natlab.New(t) // skips before anything is built
	bin := buildPrograms(t)
	for _, c := range []struct{ name, relay, peer, bootstrap string }{
		{name: "quic", peer: "/ip4/0.0.0.0/udp/0/quic-v1", bootstrap: "/udp/4001/quic-v1"},
		{name: "tcp", relay: "/ip4/0.0.0.0/tcp/4001", peer: "/ip4/0.0.0.0/tcp/0", bootstrap: "/tcp/4001"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStory(t, bin, c.name)
			s.relayFlags, s.bootstrap = listenFlag(c.relay), c.bootstrap
			defer func() { t.Logf("%s\n%s", t.Name(), s.table()) }()
			s.startRelays()
			up := func(name string) *program {
				p := install(t, s.lab.NAT("nat-"+name, natlab.Symmetric).Host(name), filepath.Join(bin, "peer"))
				p.start(append([]string{"up", "--json", "--network", "lab", "--bootstrap", s.bootstrapAddr()}, listenFlag(c.peer)...)...)
				return p
			}
			roamer, friend := up("roamer"), up("friend")
			for _, p := range []*program{roamer, friend} {
				event(p, 0, "circuit addresses", func(e node.AddrsChanged) bool { return len(relaysIn(e.Addrs)) == 2 })
			}
			l := friend.ping(roamer)
			s.done("friend reaches roamer", "%s, %s", l.Path, l.RTT)

			mark := roamer.Mark()
			old := roamer.machine.IP().String()
			other := strings.TrimSuffix(old, ".10") + ".99"
			began := time.Now()
			s.mark = began
			r, err := roamer.machine.Run(t.Context(), strings.NewReader(
				"addr del "+old+"/24 dev eth0\naddr add "+other+"/24 dev eth0\nroute add default via "+strings.TrimSuffix(old, ".10")+".1\n"), "ip", "-batch", "-")
			if err != nil || r.Code != 0 {
				t.Fatalf("ip: %v, %+v", err, r)
			}
			e := event(roamer, mark, "the change to be noticed", func(e node.NetworkChanged) bool { return len(e.Change.Added) > 0 })
			s.done("noticed", "after %s: %s", seconds(e.When().Sub(began)), e)
			if c.name == "tcp" && e.Closed == 0 {
				t.Error("no connection was closed")
			}
			l = friend.ping(roamer)
			again := time.Since(began)
			s.done("friend reaches roamer again", "%s, %s", l.Path, l.RTT)
			if again > againWithin {
				t.Errorf("reached again after %s, want less than %s", again, againWithin)
			}
			l = roamer.ping(friend)
			s.done("roamer reaches friend", "%s, %s", l.Path, l.RTT)
		})
	}
}
