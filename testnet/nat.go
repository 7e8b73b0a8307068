package testnet

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

// Behavior says what a NAT box distinguishes by, in the words of RFC 4787: in
// Mapping, which packets from one internal address and port get the same
// external port; in Filtering, who may send to that port.
type Behavior int

const (
	EndpointIndependent     Behavior = iota // all destinations, anyone
	AddressDependent                        // per destination address
	AddressAndPortDependent                 // per destination address and port
)

func (b Behavior) String() string {
	switch b {
	case EndpointIndependent:
		return "endpoint-independent"
	case AddressDependent:
		return "address-dependent"
	case AddressAndPortDependent:
		return "address-and-port-dependent"
	}
	return "unknown"
}

// defaultMappingTimeout: RFC 4787 section 4.3, REQ-5, forbids less than two
// minutes and recommends five or more. Real boxes often allow less.
const defaultMappingTimeout = 5 * time.Minute

// NATConfig says how a box translates. The zero value is a full cone.
type NATConfig struct {
	// Mapping says which destinations share an external port (RFC 4787
	// section 4.1).
	Mapping Behavior

	// Filtering says from whom a mapped port takes packets (RFC 4787
	// section 5): anyone, addresses it has sent to, or addresses and ports it
	// has sent to.
	Filtering Behavior

	// Hairpin lets machines behind the box reach each other through its
	// external address (RFC 4787 section 6). The sender then appears under its
	// external address, and filtering applies.
	Hairpin bool

	// PreservePort makes a mapping ask for the port the machine sends from,
	// and take a random one if it is taken. Otherwise all are random.
	PreservePort bool

	// Sequential makes the box hand out external ports one after another, as
	// many symmetric ones do, so that the next can be predicted. PreservePort
	// goes first.
	Sequential bool

	// MappingTimeout is how long a mapping, and leave to send to it, lasts
	// after the last packet out; packets in do not refresh it (RFC 4787 REQ-6
	// asks only for the former). If zero, 5 minutes.
	MappingTimeout time.Duration
}

func (c NATConfig) withDefaults() NATConfig {
	if c.MappingTimeout == 0 {
		c.MappingTimeout = defaultMappingTimeout
	}
	return c
}

// FullCone is the kindest box: one port per socket, open to all.
func FullCone() NATConfig {
	return NATConfig{Mapping: EndpointIndependent, Filtering: EndpointIndependent}
}

// AddressRestricted lets in whoever has an address that was sent to.
func AddressRestricted() NATConfig {
	c := FullCone()
	c.Filtering = AddressDependent
	return c
}

// PortRestricted is what most homes have: one port per socket, open only to
// the addresses and ports that were sent to. Hole punching needs the peer's
// box to map endpoint-independently too.
func PortRestricted() NATConfig {
	c := FullCone()
	c.Filtering = AddressAndPortDependent
	return c
}

// Symmetric maps each destination to another port, so that nobody can learn
// from a third party where to send.
func Symmetric() NATConfig {
	c := PortRestricted()
	c.Mapping = AddressAndPortDependent
	return c
}

// NAT is a box that translates between its LAN and an outer segment: the
// internet, or the LAN of a carrier's box.
type NAT struct {
	net     *Net
	name    string
	cfg     NATConfig
	index   int // of the box in the Net
	outside *segment
	lan     *segment

	// guarded by Net.mu
	wan      netip.Addr
	nextLAN  int
	lastPort uint16 // of Sequential
	dice     *rand.Rand
	table    mappings
}

func (n *Net) addNATLocked(name string, cfg NATConfig, outside *segment, wan netip.Addr) *NAT {
	b := &NAT{
		net:     n,
		name:    name,
		cfg:     cfg.withDefaults(),
		index:   n.boxes,
		outside: outside,
		wan:     wan,
		dice:    n.random("nat", wan),
		table:   newMappings(),
	}
	n.boxes++
	b.lan = &segment{nodes: make(map[netip.Addr]node), gateway: b}
	outside.nodes[wan] = b
	return b
}

// Host adds a machine behind the box.
func (b *NAT) Host(name string) *Host {
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	return b.net.addHostLocked(name, b.lan, b.lanAddrLocked())
}

// NAT adds a box behind the box, which thereby becomes a carrier-grade one
// (CGNAT): the inner box has its outside in 100.64.0.0/10.
func (b *NAT) NAT(name string, cfg NATConfig) *NAT {
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	return b.net.addNATLocked(name, cfg, b.lan, b.net.sharedAddrLocked())
}

// Name returns the name the box was added with.
func (b *NAT) Name() string { return b.name }

// WAN returns the box's outside address: a public one, or one of 100.64.0.0/10
// if the box is behind another.
func (b *NAT) WAN() netip.Addr {
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	return b.wan
}

// Rebind forgets all mappings, as a router does when it restarts: packets to
// them are dropped, and the next packet out of each socket gets a new one.
func (b *NAT) Rebind() {
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	b.table = newMappings()
}

// Renumber gives the box a new outside address and forgets all mappings, as
// many providers do every night. It returns the new address.
func (b *NAT) Renumber() netip.Addr {
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	delete(b.outside.nodes, b.wan)
	if b.outside == b.net.internet {
		b.wan = b.net.publicAddrLocked()
	} else {
		b.wan = b.net.sharedAddrLocked()
	}
	b.outside.nodes[b.wan] = b
	b.table = newMappings()
	return b.wan
}

// outboundLocked translates the source of a packet that leaves the LAN; false
// if the box dropped it.
func (b *NAT) outboundLocked(now time.Time, p packet) (packet, bool) {
	if p.dst.Addr() == b.wan && !b.cfg.Hairpin {
		b.net.drops[DropNoHairpin]++
		return p, false
	}
	m := b.mappingLocked(now, p.src, p.dst)
	if m == nil {
		b.net.drops[DropNoPort]++
		return p, false
	}
	m.sentTo(now, p.dst, b.cfg)
	p.src = netip.AddrPortFrom(b.wan, m.port)
	return p, true
}

// arriveLocked translates the destination of a packet that came to the outside
// address, and hands it on if the filter lets it.
func (b *NAT) arriveLocked(now time.Time, p packet) {
	m := b.table.byPort[p.dst.Port()]
	switch {
	case m == nil || m.expired(now, b.cfg):
		b.net.drops[DropNoMapping]++
	case !m.admits(now, p.src, b.cfg):
		b.net.drops[DropFiltered]++
	default:
		p.dst = m.internal
		b.net.arriveLocked(now, b.lan, p)
	}
}
