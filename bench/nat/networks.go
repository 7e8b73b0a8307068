//go:build linux

package main

import (
	"fmt"
	"time"

	"github.com/causeway-p2p/causeway/internal/natlab"
)

// oneWay is how long a packet takes between two networks: a round trip is
// 40 ms, as between two cities of a continent.
const oneWay = 20 * time.Millisecond

// A network is what a node is behind.
type network string

const (
	public            network = "public"
	fullCone          network = "full cone"
	addressRestricted network = "address-restricted"
	portRestricted    network = "port-restricted"
	cgnat             network = "CGNAT"
	symmetric         network = "symmetric"
)

// natted are the networks in which somebody may need a relay.
var natted = []network{fullCone, addressRestricted, portRestricted, cgnat, symmetric}

var kinds = map[network]natlab.Kind{
	fullCone:          natlab.FullCone,
	addressRestricted: natlab.AddressRestricted,
	portRestricted:    natlab.PortRestricted,
	symmetric:         natlab.Symmetric,
}

// home makes a network and one machine in it, and returns the NAT box that is
// nearest to the machine; nil on the open internet.
func home(lab *natlab.Lab, n network, name string) (*natlab.Machine, *natlab.Box) {
	switch n {
	case public:
		return lab.Public(name), nil
	case cgnat:
		box := lab.NAT("cgn-"+name, natlab.PortRestricted).NAT("nat-"+name, natlab.PortRestricted)
		return box.Host(name), box
	}
	box := lab.NAT("nat-"+name, kinds[n])
	return box.Host(name), box
}

// A pair is where the two nodes are: the relayed one, which holds a
// reservation, and the caller.
type pair struct {
	id    string
	what  string // for the special ones, a line for the table
	build func(*natlab.Lab) (relayed, caller *natlab.Machine)
	// relayed and caller are empty for the special ones.
	relayed, caller network
	transports      []string
	// mustAll: ours has to manage every trial, whatever stock does.
	mustAll bool
	// mustSome: ours has to manage at least one over UDP, in all trials.
	mustSome bool
	// guess: one side's ports cannot be known, and the other lets in only known
	// ones.
	guess bool
	// within bounds ours' median; 0 is no bound.
	within time.Duration
	quick  []string // transports in the quick form
}

const (
	quic = "quic"
	tcp  = "tcp"
	both = "both" // the nodes have QUIC and TCP
)

var transports = []string{quic, tcp, both}

// pairs is the matrix, and what does not fit into it.
func pairs() []pair {
	quick := map[[2]network][]string{
		{fullCone, public}:                  {quic},
		{addressRestricted, fullCone}:       {tcp},
		{portRestricted, portRestricted}:    {quic, tcp},
		{cgnat, cgnat}:                      {quic},
		{symmetric, fullCone}:               {quic, tcp},
		{symmetric, addressRestricted}:      {both},
		{symmetric, portRestricted}:         {quic},
		{portRestricted, symmetric}:         {quic},
		{addressRestricted, symmetric}:      {quic},
		{portRestricted, addressRestricted}: {both},
	}
	var all []pair
	for _, r := range natted {
		for _, c := range append([]network{public}, natted...) {
			p := pair{
				id: id(r) + "/" + id(c), relayed: r, caller: c, transports: transports, quick: quick[[2]network{r, c}],
				build: func(lab *natlab.Lab) (*natlab.Machine, *natlab.Machine) {
					a, _ := home(lab, r, "relayed")
					b, _ := home(lab, c, "caller")
					return a, b
				},
			}
			switch {
			case r == symmetric && (c == fullCone || c == addressRestricted):
				p.within = time.Second // stock 10.6 to 20.7
			case r == symmetric && c == portRestricted, r == portRestricted && c == symmetric:
				p.mustSome = true // the birthday attempt
			}
			p.guess = r == symmetric && strict(c) || c == symmetric && strict(r)
			all = append(all, p)
		}
	}
	return append(all, specials()...)
}

func specials() []pair {
	sameLAN := func(options ...natlab.Option) func(*natlab.Lab) (*natlab.Machine, *natlab.Machine) {
		return func(lab *natlab.Lab) (*natlab.Machine, *natlab.Machine) {
			box := lab.NAT("nat", natlab.PortRestricted, options...)
			return box.Host("relayed"), box.Host("caller")
		}
	}
	// restricted: two home routers, behind one of which not everything passes.
	restricted := func(r natlab.Restriction, side string) func(*natlab.Lab) (*natlab.Machine, *natlab.Machine) {
		return func(lab *natlab.Lab) (*natlab.Machine, *natlab.Machine) {
			a, boxA := home(lab, portRestricted, "relayed")
			b, boxB := home(lab, portRestricted, "caller")
			map[string]*natlab.Box{"relayed": boxA, "caller": boxB}[side].Restrict(r)
			return a, b
		}
	}
	list := []pair{
		{id: "same-lan", what: "same LAN, no hairpin", build: sameLAN(), transports: transports, mustAll: true, quick: []string{both}},
		{id: "same-lan-hairpin", what: "same LAN, hairpin", build: sameLAN(natlab.Hairpin), transports: transports, mustAll: true, quick: []string{both}},
		{
			id: "same-cgn", what: "same CGN, no hairpin", transports: transports,
			build: func(lab *natlab.Lab) (*natlab.Machine, *natlab.Machine) {
				carrier := lab.NAT("cgn", natlab.PortRestricted)
				return carrier.NAT("natA", natlab.PortRestricted).Host("relayed"), carrier.NAT("natB", natlab.PortRestricted).Host("caller")
			},
		},
	}
	for _, side := range []string{"relayed", "caller"} {
		list = append(list,
			pair{
				id: "udp-blocked/" + side, what: fmt.Sprintf("UDP blocked at the %s, both port-restricted", side), mustAll: true,
				build: restricted(natlab.UDPBlocked, side), transports: []string{both}, quick: []string{both},
			},
			pair{
				id: "443-only/" + side, what: fmt.Sprintf("only TCP 443 at the %s, both port-restricted", side),
				build: restricted(natlab.TCP443Only, side), transports: []string{both},
			})
	}
	return list
}

// strict NATs let in only who was sent something from that very port.
func strict(n network) bool { return n == portRestricted || n == cgnat || n == symmetric }

// id is a network's name without spaces, for --rows.
func id(n network) string {
	if n == fullCone {
		return "full-cone"
	}
	return string(n)
}
