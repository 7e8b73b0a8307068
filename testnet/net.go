package testnet

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

const (
	// defaultLatency keeps round trips visible (20 ms, a good continental
	// path) without making real-time examples slow.
	defaultLatency = 10 * time.Millisecond
	// defaultBandwidth is a common home line, and enough not to matter in
	// tests that are not about bandwidth.
	defaultBandwidth = 100_000_000
)

// Config says what the simulated internet is like. The zero value is a lossless
// one with 10 ms between any two machines and 100 Mbit/s lines.
type Config struct {
	// Latency is the one-way delay between any two machines, also between two
	// on one LAN. If zero, 10 ms; if negative, none.
	Latency time.Duration

	// LatencyFunc, if not nil, replaces Latency. It is given the addresses a
	// packet has while it crosses the network: for machines behind a NAT box
	// the box's public address ([Host.PublicIP]); between two machines on one
	// LAN, their own. It may be called concurrently and must not block.
	LatencyFunc func(from, to netip.Addr) time.Duration

	// Loss is the probability, in [0,1), that a packet does not arrive.
	Loss float64

	// Bandwidth is what each machine's line carries in each direction, in bits
	// per second. If zero, 100 Mbit/s; if negative, no limit.
	Bandwidth int

	// Seed drives loss and port choice. With the same seed, and machines and
	// boxes added in the same order, the n-th packet of a machine meets the
	// same fate and the n-th mapping of a box gets the same port.
	Seed uint64
}

func (c Config) withDefaults() Config {
	switch {
	case c.Latency == 0:
		c.Latency = defaultLatency
	case c.Latency < 0:
		c.Latency = 0
	}
	if c.LatencyFunc == nil {
		latency := c.Latency
		c.LatencyFunc = func(netip.Addr, netip.Addr) time.Duration { return latency }
	}
	if c.Bandwidth == 0 {
		c.Bandwidth = defaultBandwidth
	}
	return c
}

func (c Config) validate() error {
	if !(c.Loss >= 0 && c.Loss < 1) {
		return fmt.Errorf("loss is %v, want a probability in [0,1)", c.Loss)
	}
	return nil
}

// Net is a simulated internet. Its methods and those of its machines may be
// called concurrently.
type Net struct {
	cfg      Config // static after construction
	internet *segment
	wake     chan struct{} // a packet became the next one due
	done     chan struct{} // closed by Close
	stopped  chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex // guards the fields below, and all state of hosts and boxes
	closed  bool
	transit transit
	nextWAN int // public addresses handed out
	nextCGN int // shared-space addresses handed out
	boxes   int
	cuts    map[[2]*Host]bool
	drops   [numDropReasons]uint64
	hosts   []*Host
}

// segment is one broadcast domain: the internet, or the LAN of a NAT box.
type segment struct {
	nodes   map[netip.Addr]node // of the internet: with the IPv6 addresses of all machines
	gateway *NAT                // nil on the internet
}

// node is what can own an address: a machine, or the outside of a NAT box.
type node interface {
	// arriveLocked takes a packet addressed to the node. Net.mu is held.
	arriveLocked(now time.Time, p packet)
}

// New starts a simulated internet. It panics if cfg is invalid.
func New(cfg Config) *Net {
	if err := cfg.validate(); err != nil {
		panic("testnet: " + err.Error())
	}
	n := &Net{
		cfg:      cfg.withDefaults(),
		internet: &segment{nodes: make(map[netip.Addr]node)},
		wake:     make(chan struct{}, 1),
		done:     make(chan struct{}),
		stopped:  make(chan struct{}),
		cuts:     make(map[[2]*Host]bool),
	}
	go n.run()
	return n
}

// Close stops the network, closes all its sockets and waits for its goroutine.
// It may be called more than once. libp2p hosts are better closed before, or
// they cannot tell each other.
func (n *Net) Close() {
	n.mu.Lock()
	var open []*socket
	if !n.closed {
		n.closed = true
		close(n.done)
		for _, h := range n.hosts {
			for _, s := range h.sockets {
				open = append(open, s)
			}
		}
	}
	n.mu.Unlock()
	for _, s := range open {
		s.Close()
	}
	<-n.stopped
}

// Host adds a machine with a public address of its own /16.
func (n *Net) Host(name string) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.addHostLocked(name, n.internet, n.publicAddrLocked())
}

// NAT adds a box with a public address of its own /16. Machines behind it are
// added with [NAT.Host].
func (n *Net) NAT(name string, cfg NATConfig) *NAT {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.addNATLocked(name, cfg, n.internet, n.publicAddrLocked())
}

// Cut makes all packets between a and b vanish, in both directions, however
// many boxes stand between them.
func (n *Net) Cut(a, b *Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cuts[[2]*Host{a, b}] = true
	n.cuts[[2]*Host{b, a}] = true
}

// Mend undoes Cut.
func (n *Net) Mend(a, b *Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.cuts, [2]*Host{a, b})
	delete(n.cuts, [2]*Host{b, a})
}

// random returns a source of its own for each machine and box, so that what one
// does leaves the choices of the others alone.
func (n *Net) random(purpose string, of netip.Addr) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(purpose))
	h.Write(of.AsSlice())
	return rand.New(rand.NewPCG(n.cfg.Seed, h.Sum64()))
}
