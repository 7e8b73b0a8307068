package portmap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	// maxPorts bounds what is mapped: a host listens on one or two per
	// transport.
	maxPorts = 16
	// roundTime bounds one look at everything; what a slow gateway did not get
	// to do is done in the next.
	roundTime = 30 * time.Second
	// farewell bounds the removal of mappings at the end.
	farewell = 2 * time.Second
	// checkAgain is when a gateway that did not answer is asked again, and
	// maxMissed how often it may not.
	checkAgain = 5 * time.Second
	maxMissed  = 2
	// renewAgain is when a lease that could not be renewed is tried again,
	// refusedAgain one that was refused.
	renewAgain   = 30 * time.Second
	refusedAgain = 10 * time.Minute
	// searchAgain and searchSeldom bound the pause between searches in vain:
	// most networks without a gateway will never have one.
	searchAgain, searchSeldom = time.Minute, 30 * time.Minute
)

// Run keeps the ports mapped until ctx ends, and then removes the mappings,
// which takes 2 seconds at most if the gateway has gone.
func (m *Mapper) Run(ctx context.Context) error {
	defer m.withdraw()
	for {
		timer := time.NewTimer(m.round(ctx))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-m.changed:
			m.failures = 0
		case <-timer.C:
		}
		timer.Stop()
	}
}

// round looks at everything once, and says when to look again.
func (m *Mapper) round(ctx context.Context) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, roundTime)
	defer cancel()
	r, err := m.route()
	if err != nil {
		return m.off(err.Error())
	}
	if isPublic(r.local.Addr()) {
		return m.off(fmt.Sprintf("this machine has the public address %s itself", r.local.Addr()))
	}
	ports := m.ports()
	if len(ports) == 0 {
		return m.off("nothing listens on an IPv4 address that a router could lead to")
	}
	if r != m.at {
		m.forget() // what another network has mapped is out of reach
		m.at = r
	}
	if m.gateway != nil {
		m.check(ctx)
		m.keep(ctx, ports)
		if m.missed == 0 && !m.holds() {
			m.forget()
		}
	}
	if m.gateway != nil {
		m.publish(m.describe())
		return m.wait()
	}
	m.publish(Status{State: Searching})
	if s, ok := m.search(ctx, r, ports); !ok {
		m.publish(s)
		pause := min(searchAgain<<min(m.failures, 10), searchSeldom)
		m.failures++
		return jitter(pause)
	}
	m.failures = 0
	m.publish(m.describe())
	return m.wait()
}

// ports are those to be mapped, in a stable order.
func (m *Mapper) ports() []Port {
	list := slices.DeleteFunc(slices.Clone(m.cfg.Ports()), func(p Port) bool {
		return p.Number == 0 || p.Protocol != UDP && p.Protocol != TCP
	})
	slices.SortFunc(list, comparePorts)
	list = slices.Compact(list)
	return list[:min(len(list), maxPorts)]
}

func comparePorts(a, b Port) int {
	return cmp.Or(cmp.Compare(a.Number, b.Number), -cmp.Compare(a.Protocol, b.Protocol))
}

// search looks for gateways, and settles with the first that maps a port. If
// there is none, the status says why.
func (m *Mapper) search(ctx context.Context, r route, ports []Port) (Status, bool) {
	none := Status{State: NoGateway, Because: fmt.Sprintf("%s answers neither PCP nor NAT-PMP, and nobody UPnP", r.gateway)}
	if !r.gateway.IsValid() {
		none.Because = "nobody answers UPnP"
	}
	for _, g := range m.find(ctx, r) {
		m.gateway = g
		g.tidy(ctx, ports)
		m.keep(ctx, ports)
		if m.holds() {
			log.Info("ports mapped", "gateway", g.addr(), "method", g.method(), "mappings", len(m.held()))
			return Status{}, true
		}
		s := m.describe()
		m.forget()
		if none.State == NoGateway {
			none = s // the one that was preferred
		}
	}
	return none, false
}

// check asks whether the gateway still knows us. A gateway that has forgotten,
// or has another address, is asked for everything anew; one that is silent
// twice is given up.
func (m *Mapper) check(ctx context.Context) {
	held := m.held()
	if len(held) == 0 {
		return
	}
	external, lost, err := m.gateway.check(ctx, held[0])
	switch {
	case err != nil && ctx.Err() != nil:
	case err != nil:
		m.missed++
		log.Debug("gateway not checked", "gateway", m.gateway.addr(), "missed", m.missed, "err", err)
		if m.missed >= maxMissed {
			log.Info("port mappings lost", "gateway", m.gateway.addr(), "err", err)
			m.forget()
		}
	default:
		m.missed = 0
		if lost || external != held[0].External.Addr() {
			log.Info("gateway was restarted, or has another address", "gateway", m.gateway.addr(), "addr", external)
			for _, l := range m.leases {
				*l = lease{Mapping: Mapping{Port: l.Port}, wish: l.wish, refused: errForgotten}
			}
		}
	}
}

// keep brings the leases in line with the ports, and renews those that are due.
func (m *Mapper) keep(ctx context.Context, ports []Port) {
	if m.gateway == nil || m.missed > 0 {
		return
	}
	for p, l := range m.leases {
		if slices.Contains(ports, p) {
			continue
		}
		delete(m.leases, p)
		if l.held() {
			if err := m.gateway.remove(ctx, p, l.External.Port()); err != nil {
				log.Debug("mapping not removed", "port", p, "err", err)
			}
		}
	}
	for _, p := range ports {
		l := m.leases[p]
		if l == nil {
			l = &lease{Mapping: Mapping{Port: p}, wish: p.Number, refused: errNotAsked}
			m.leases[p] = l
		}
		if now := time.Now(); !l.renew.After(now) && ctx.Err() == nil {
			m.renew(ctx, l)
		}
	}
}

var (
	errNotAsked  = errors.New("not asked yet")
	errForgotten = errors.New("the gateway has forgotten it")
)

// renew asks for a mapping, or for it to go on.
func (m *Mapper) renew(ctx context.Context, l *lease) {
	g, err := m.gateway.add(ctx, l.Port, l.wish, m.cfg.Lease)
	now := time.Now()
	if err == nil && (g.external.Port() == 0 || !g.external.Addr().Is4() || g.external.Addr().IsLoopback() || g.external.Addr().IsMulticast()) {
		err = fmt.Errorf("the gateway names %s as the external address", g.external)
	}
	switch {
	case err == nil:
		*l = lease{Mapping: Mapping{Port: l.Port, External: g.external, Method: m.gateway.method()}, wish: g.external.Port()}
		l.lifetime = m.cfg.Lease
		if g.lifetime > 0 {
			l.lifetime = min(max(g.lifetime, minLease), m.cfg.Lease)
			l.Expires = now.Add(l.lifetime)
		}
		l.renew = now.Add(jitter(l.lifetime / 2))
	case l.held() && (l.Expires.IsZero() || now.Before(l.Expires)):
		log.Debug("mapping not renewed", "port", l.Port, "err", err)
		l.renew = now.Add(renewAgain)
	default:
		*l = lease{Mapping: Mapping{Port: l.Port}, wish: l.wish, refused: err, renew: now.Add(refusedAgain)}
	}
}

// held are the leases that we have, in a stable order.
func (m *Mapper) held() []*lease {
	var list []*lease
	for _, l := range m.leases {
		if l.held() {
			list = append(list, l)
		}
	}
	slices.SortFunc(list, func(a, b *lease) int { return comparePorts(a.Port, b.Port) })
	return list
}

func (m *Mapper) holds() bool { return len(m.held()) > 0 }

// forget lets go of the gateway without a word to it.
func (m *Mapper) forget() {
	m.gateway, m.missed = nil, 0
	clear(m.leases)
}

// off ends the use of mappings for the time being.
func (m *Mapper) off(because string) time.Duration {
	m.withdraw()
	m.publish(Status{State: Off, Because: because})
	return m.cfg.CheckInterval
}

// withdraw removes all mappings, as far as the gateway answers.
func (m *Mapper) withdraw() {
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	var removals sync.WaitGroup
	for _, l := range m.held() {
		g, p, external := m.gateway, l.Port, l.External.Port()
		removals.Go(func() {
			if err := g.remove(ctx, p, external); err != nil {
				log.Debug("mapping not removed", "port", p, "gateway", g.addr(), "err", err)
			}
		})
	}
	removals.Wait()
	m.forget()
}

// wait is the time until something is due.
func (m *Mapper) wait() time.Duration {
	wait := m.cfg.CheckInterval
	if m.missed > 0 {
		return min(wait, checkAgain)
	}
	for _, l := range m.leases {
		wait = min(wait, max(time.Until(l.renew), time.Second))
	}
	return wait
}

// jitter spreads what many would do at once by a tenth.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + time.Duration(rand.Int64N(int64(d/5)+1))
}

// describe is the status while a gateway is used.
func (m *Mapper) describe() Status {
	s := Status{State: Refused, Gateway: m.gateway.addr().String(), Method: m.gateway.method()}
	for _, l := range m.held() {
		s.Mappings = append(s.Mappings, l.Mapping)
		s.External = l.External.Addr()
		if l.Public() {
			s.State = Mapped
		} else if s.State != Mapped {
			s.State = DoubleNAT
		}
	}
	var refused []Port
	for p, l := range m.leases {
		if !l.held() {
			refused = append(refused, p)
		}
	}
	slices.SortFunc(refused, comparePorts)
	if len(refused) > 0 {
		s.Because = fmt.Sprintf("%s: %v", refused[0], m.leases[refused[0]].refused)
	}
	if m.missed > 0 {
		s.Because = "it did not answer when last asked"
	}
	return s
}

// publish shows the status, and tells of the public mappings if they changed.
func (m *Mapper) publish(s Status) {
	s.Text = sentence(s)
	m.status.Store(&s)
	var public []Mapping
	for _, x := range s.Mappings {
		if x.Public() {
			public = append(public, x)
		}
	}
	same := slices.EqualFunc(public, m.told, func(a, b Mapping) bool {
		return a.Port == b.Port && a.External == b.External && a.Method == b.Method
	})
	m.told = public
	if !same && m.cfg.OnChange != nil {
		m.cfg.OnChange(slices.Clone(public))
	}
}
