//go:build linux

package natlab_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/causeway-p2p/causeway/internal/natlab"
	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/reachability"
)

// TestRestricted: networks that let out no UDP, and only TCP to port 443. A
// relay is reached there all the same, and others through it; and the peer says
// why a path is not direct.
//
//	relay1    relay2     public, on 443 as well
//	   └────────┘
//	 natA     natB       natA lets only TCP 443 out
//	   a        b
func TestRestricted(t *testing.T) {
	if testing.Short() {
		t.Skip("real programs")
	}
	lab := natlab.New(t)
	bin := buildPrograms(t)
	c := newClock()
	defer func() { t.Logf("%s\n%s", t.Name(), c.table()) }()

	var relays []*program
	for _, name := range []string{"relay1", "relay2"} {
		relays = append(relays, install(t, lab.Public(name), filepath.Join(bin, "relayd")))
	}
	at := func(r *program, addr string) string { return "/ip4/" + r.machine.IP().String() + addr + "/p2p/" + r.id }
	for i, r := range relays {
		flags := []string{"--network", "lab", "--relay", "on", "--listen", "/ip4/0.0.0.0/udp/4001/quic-v1,/ip4/0.0.0.0/tcp/4001,/ip4/0.0.0.0/tcp/443"}
		if i > 0 {
			flags = append(flags, "--bootstrap", at(relays[0], "/tcp/443"))
		}
		r.start(flags...)
		r.line(0, `serving as a relay`)
	}
	c.done("two relays serve", "")

	office := lab.NAT("natA", natlab.PortRestricted)
	office.Restrict(natlab.TCP443Only)
	a := install(t, office.Host("a"), filepath.Join(bin, "peer"))
	b := install(t, lab.NAT("natB", natlab.PortRestricted).Host("b"), filepath.Join(bin, "peer"))
	for _, p := range []*program{a, b} {
		p.start("up", "--json", "--network", "lab", "--bootstrap", at(relays[0], "/tcp/443"), "--bootstrap", at(relays[1], "/tcp/443"))
	}
	for _, p := range []*program{a, b} {
		event(p, 0, "a circuit address", func(e node.AddrsChanged) bool { return e.Circuits > 0 })
		c.done(p.machine.Name()+" is reachable through a relay", "")
	}
	for _, pair := range [][2]*program{{b, a}, {a, b}} {
		first, _ := pair[0].pingUntil(pair[1], "an answer over a relay", node.Path.Relayed)
		c.done(pair[0].machine.Name()+" reaches "+pair[1].machine.Name(), "%s, %v", first.path, first.rtt)
	}

	e := event(a, 0, "an attempt at a direct path to end", func(e node.DirectAttempt) bool { return !e.Outcome.Direct() })
	c.done("why there is no direct path", "%s", e.Why)
	if !strings.Contains(e.Why, "UDP is blocked here") {
		t.Errorf("why a has no direct path: got %q, want that UDP is blocked here", e.Why)
	}
	st := a.status()
	if len(st.Paths) == 0 || st.Paths[0].Why == "" {
		t.Errorf("paths of a: got %+v, want why the one to b is not direct", st.Paths)
	}
	var n node.Netcheck
	if err := json.Unmarshal([]byte(a.run(nil, "netcheck", "--json", "--portal-url", "none")), &n); err != nil {
		t.Fatal(err)
	}
	c.done("netcheck", "%s", n.Headline)
	if n.Only443 != reachability.Yes || n.UDP != reachability.No {
		t.Errorf("netcheck of a: only 443 %q, UDP %q; want yes and no; %s", n.Only443, n.UDP, n.Headline)
	}
}
