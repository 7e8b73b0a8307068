// Package portmap asks the router in front of this machine to let the internet
// in: PCP (RFC 6887), NAT-PMP (RFC 6886) and UPnP IGD, whichever answers.
//
//	m, err := portmap.New(portmap.Config{
//		Ports:    func() []portmap.Port { return []portmap.Port{{Protocol: portmap.UDP, Number: 4001}} },
//		OnChange: func(mappings []portmap.Mapping) { … },
//	})
//	if err != nil { … }
//	err = m.Run(ctx)
//
// Run looks for gateways with all three at once, maps every port on one that
// answers, renews the leases at half their time, looks every minute whether
// the gateway still knows them, and removes them when ctx ends. A gateway that
// was restarted, or got another address, has everything mapped anew within
// that minute; after a change of the network, Changed makes it at once.
//
//	       no route,       nobody answers
//	 ┌── own address public ──┐   │
//	 ▼                        │   ▼
//	off ◀───────────────── searching ──▶ none, refused   (again after 1, 2, … 30 minutes)
//	                       ▲      │ a gateway maps
//	      two checks fail, │      ▼
//	    the route changed  └──── mapped, or behind another NAT
//
// What a gateway says is a claim. Whether the internet gets through is for
// others to find out, by dialling back (package reachability).
//
// Everything within the local network may claim to be a gateway. All that such
// a liar gets from us is some requests to itself: every read is bounded, every
// exchange has a deadline, and nothing that it says makes us connect to
// another host (see guard.go).
//
// What it does not do: IPv6, whose firewalls have PCP too but seldom offer it;
// listen to the announcements of restarted gateways.
package portmap

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/causeway-p2p/causeway/internal/logging"
)

var log = logging.For("portmap")

// Protocol is what is mapped.
type Protocol string

const (
	UDP Protocol = "udp"
	TCP Protocol = "tcp"
)

// Port is one of this machine that is to be reached from outside.
type Port struct {
	Protocol Protocol `json:"protocol"`
	Number   uint16   `json:"port"`
}

func (p Port) String() string {
	return fmt.Sprintf("%s %d", strings.ToUpper(string(p.Protocol)), p.Number)
}

// Method is how a gateway is talked to.
type Method string

const (
	PCP    Method = "PCP"
	NATPMP Method = "NAT-PMP"
	UPnP   Method = "UPnP"
)

// Mapping is a port that a gateway says it lets in.
type Mapping struct {
	Port
	// External is where, as the gateway says.
	External netip.AddrPort `json:"external"`
	Method   Method         `json:"method"`
	// Expires is when the gateway forgets it, unless it is renewed. Zero for
	// one that stays until it is removed: some gateways know no other.
	Expires time.Time `json:"expires,omitzero"`
}

// Public reports whether the external address belongs to the internet. If not,
// there is another NAT behind the gateway, and the mapping is of no use.
func (m Mapping) Public() bool { return isPublic(m.External.Addr()) }

// Config says what to map. Only Ports is required.
type Config struct {
	// Ports lists what is to be mapped now. It is called from Run, often, and
	// must not block. At most 16 are mapped.
	Ports func() []Port
	// OnChange is called with all mappings that are public, whenever those
	// have changed, from Run's goroutine. It must not block.
	OnChange func([]Mapping)
	// Secret, if any, makes a node that has crashed able to take its mappings
	// over when it is started again: PCP gateways want to see the nonce, which
	// is derived from it, and UPnP's are found by their name. If empty, old
	// mappings end with their lease.
	Secret []byte
	// Lease is how long the gateway is asked to keep a mapping that nobody
	// renews. If zero, 2 hours, as RFC 6886 section 3.3 recommends.
	Lease time.Duration
	// CheckInterval is how often a gateway is asked whether it still knows the
	// mappings. If zero, 1 minute.
	CheckInterval time.Duration
}

// minLease is the least that a lease may be: below, renewing would be all that
// happens. Gateways that grant less are taken to have granted this.
const minLease = 10 * time.Second

func (c Config) withDefaults() Config {
	if c.Lease == 0 {
		c.Lease = 2 * time.Hour
	}
	if c.CheckInterval == 0 {
		c.CheckInterval = time.Minute
	}
	return c
}

func (c Config) validate() error {
	var errs []error
	if c.Ports == nil {
		errs = append(errs, errors.New("no ports to map"))
	}
	if c.Lease < minLease || c.Lease > 24*time.Hour {
		errs = append(errs, fmt.Errorf("lease of %v: want %v to 24h", c.Lease, minLease))
	}
	if c.CheckInterval < 0 {
		errs = append(errs, fmt.Errorf("a check every %v: want 0 or more", c.CheckInterval))
	}
	return errors.Join(errs...)
}

// Mapper keeps ports mapped. Create it with New and start it with Run.
type Mapper struct {
	// static after New
	cfg     Config
	changed chan struct{}
	status  atomic.Pointer[Status]
	route   func() (route, error)
	find    func(context.Context, route) []gateway

	// owned by Run
	at       route   // where leases, if any, were made
	gateway  gateway // nil while there is none
	leases   map[Port]*lease
	missed   int // checks without an answer, in a row
	failures int // searches in vain, in a row
	told     []Mapping
}

// New validates the configuration. Nothing is sent before Run.
func New(cfg Config) (*Mapper, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("portmap: %w", err)
	}
	name := newNamer(cfg.Secret)
	m := &Mapper{
		cfg: cfg, changed: make(chan struct{}, 1), leases: make(map[Port]*lease),
		route: defaultRoute,
		find:  func(ctx context.Context, r route) []gateway { return findGateways(ctx, r, name) },
	}
	m.status.Store(&Status{State: Searching, Text: sentence(Status{State: Searching})})
	return m, nil
}

// Changed tells that the network has changed, or the ports: everything is
// looked at again at once. It never blocks.
func (m *Mapper) Changed() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// Status returns what is known now.
func (m *Mapper) Status() Status {
	s := *m.status.Load()
	s.Mappings = slices.Clone(s.Mappings)
	return s
}
