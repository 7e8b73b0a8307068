//go:build linux

package natlab_test

import (
	"path/filepath"
	"testing"

	"github.com/causeway-p2p/causeway/internal/natlab"
	"github.com/causeway-p2p/causeway/node"
)

// TestNeighbours: two peers behind one NAT without hairpin, cut off from
// everybody else, reach each other by their IDs.
//
//	(nobody)            public
//	   └──┬──┘
//	    natA            no hairpin
//	   a     b
func TestNeighbours(t *testing.T) {
	if testing.Short() {
		t.Skip("real programs")
	}
	lab := natlab.New(t)
	bin := filepath.Join(buildPrograms(t), "peer")
	c := newClock()
	defer func() { t.Logf("%s\n%s", t.Name(), c.table()) }()

	nat := lab.NAT("natA", natlab.PortRestricted)
	gone := install(t, lab.Public("gone"), bin) // never started
	bootstrap := "/ip4/" + gone.machine.IP().String() + "/udp/4001/quic-v1/p2p/" + gone.id
	a, b := install(t, nat.Host("a"), bin), install(t, nat.Host("b"), bin)
	c.done("lab and keys", "")
	for _, p := range []*program{a, b} {
		p.start("up", "--json", "--network", "lab", "--bootstrap", bootstrap)
	}
	for _, p := range []*program{a, b} {
		p.line(0, `"event":"addrs_changed"`) // it runs, or ping would start a node of its own, on another network
	}
	first, _ := a.pingUntil(b, "an answer from a neighbour", node.Path.Direct)
	c.done("a reaches b", "%s, %v", first.path, first.rtt)
	if !first.path.Direct() {
		t.Errorf("the path is %s, want a direct one from the start", first.path)
	}
	first, _ = b.pingUntil(a, "an answer from a neighbour", node.Path.Direct)
	c.done("b reaches a", "%s, %v", first.path, first.rtt)

	// The control: one that keeps quiet is not found.
	quiet := install(t, nat.Host("quiet"), bin)
	quiet.start("up", "--json", "--network", "lab", "--bootstrap", bootstrap, "--mdns=false")
	quiet.line(0, `"event":"addrs_changed"`)
	r, err := a.machine.Run(t.Context(), nil, bin, "ping", quiet.id, "-c", "1", "-t", "2s", "--data-dir", a.dir)
	if err != nil {
		t.Fatal(err)
	}
	c.done("a does not reach quiet", "%s", r.Stderr)
	if r.Code != 1 {
		t.Errorf("ping to one without mDNS: exit code %d, want 1; %s", r.Code, r.Stdout)
	}

	for _, p := range []*program{a, b} {
		if st := p.status(); st.RoutingTable > 1 {
			t.Errorf("%s has %d DHT peers, want the other at most: there is nobody else", p.machine.Name(), st.RoutingTable)
		}
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	}
}
