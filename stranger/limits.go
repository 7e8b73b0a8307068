package stranger

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/internal/oneshot"
)

// Limits bound what others may have us do. Rates are what somebody gets at
// once, and again in each minute from then on.
type Limits struct {
	// PerAsker is how many strangers the hosts at one IP address (of IPv6, in
	// one /64) are found. If zero, 6: three tries for the address of either
	// transport.
	PerAsker int
	// PerServer is how many dials one server may ask for, on behalf of all who
	// ask it. If zero, 12.
	PerServer int
	// PerTarget is how many dials go into one network, a /24 or of IPv6 a /48.
	// If zero, 6.
	PerTarget int
	// Total is how many requests are served, of either kind. If zero, 30.
	Total int
	// Concurrent is how many are under way at a time, of either kind. Half of
	// that is for one address. If zero, 4.
	Concurrent int
}

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		field *int
		value int
	}{{&l.PerAsker, 6}, {&l.PerServer, 12}, {&l.PerTarget, 6}, {&l.Total, 30}, {&l.Concurrent, 4}} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	return l
}

func (l Limits) validate() error {
	var errs []error
	for name, n := range map[string]int{
		"per asker": l.PerAsker, "per server": l.PerServer, "per target": l.PerTarget,
		"total": l.Total, "concurrent": l.Concurrent,
	} {
		if n < 0 {
			errs = append(errs, fmt.Errorf("limit %s is %d, want more than 0", name, n))
		}
	}
	return errors.Join(errs...)
}

// maxRemembered bounds the addresses, and the networks, whose rates are kept.
const maxRemembered = 4096

// gate lets requests of one kind in.
type gate struct {
	perAsker, perTarget, total *oneshot.Allowance
	most                       int

	mu      sync.Mutex // guards the fields below
	inside  int
	perHost map[netip.Prefix]int // no zeros
}

func newGate(perAsker, perTarget, total, concurrent int) *gate {
	perMinute := func(n, keys int) *oneshot.Allowance {
		return oneshot.NewAllowance(n, time.Minute/time.Duration(n), keys)
	}
	return &gate{
		perAsker: perMinute(perAsker, maxRemembered), perTarget: perMinute(perTarget, maxRemembered),
		total: perMinute(total, 1), most: concurrent, perHost: make(map[netip.Prefix]int),
	}
}

// enter admits a request or says why not. It is the asker's addresses that
// count, since peer IDs cost nothing.
func (g *gate) enter(asker, target netip.Addr, now time.Time) (leave func(), err error) {
	from := household(asker)
	leave, ok := g.take(from)
	if !ok {
		return nil, refuse(Busy)
	}
	// An allowance is by peer, which is a string as good as these.
	if !g.perAsker.Take(peer.ID(from.String()), now) ||
		!g.perTarget.Take(peer.ID(around(target).String()), now) ||
		!g.total.Take("", now) {
		leave()
		return nil, refuse(TooMany)
	}
	return leave, nil
}

// take takes a place; half of them, so that who pays slowly does not keep
// everybody else out.
func (g *gate) take(from netip.Prefix) (leave func(), ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside >= g.most || g.perHost[from] >= (g.most+1)/2 {
		return nil, false
	}
	g.inside++
	g.perHost[from]++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.inside--
		if g.perHost[from]--; g.perHost[from] == 0 {
			delete(g.perHost, from)
		}
	}, true
}

// household are the addresses that one customer of an operator has at least.
func household(ip netip.Addr) netip.Prefix {
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	p, _ := ip.Prefix(bits) // cannot fail
	return p
}
