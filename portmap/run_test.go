package portmap

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/causeway-p2p/causeway/internal/virtual"
)

// router is a gateway in virtual time.
type router struct {
	kind Method
	ip   netip.Addr

	mu       sync.Mutex // guards the fields below
	external netip.Addr
	shift    uint16 // what is added to external ports
	lifetime time.Duration
	silent   bool
	refuse   map[Port]error
	table    map[Port]netip.AddrPort
	adds     []time.Duration // since it was made
	made     time.Time
	tidied   []Port
}

func newRouter(kind Method, external string) *router {
	return &router{
		kind: kind, ip: netip.MustParseAddr("192.168.1.1"), external: netip.MustParseAddr(external),
		refuse: make(map[Port]error), table: make(map[Port]netip.AddrPort), made: time.Now(),
	}
}

func (g *router) method() Method   { return g.kind }
func (g *router) addr() netip.Addr { return g.ip }

func (g *router) tidy(_ context.Context, keep []Port) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tidied = keep
}

func (g *router) call(ctx context.Context) error {
	if g.silent {
		g.mu.Unlock()
		defer g.mu.Lock()
		select {
		case <-time.After(patience):
		case <-ctx.Done():
		}
		return errSilent
	}
	return nil
}

func (g *router) add(ctx context.Context, p Port, external uint16, lifetime time.Duration) (grant, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.call(ctx); err != nil {
		return grant{}, err
	}
	if err := g.refuse[p]; err != nil {
		return grant{}, err
	}
	g.adds = append(g.adds, time.Since(g.made))
	if _, renewed := g.table[p]; !renewed {
		external += g.shift
	}
	g.table[p] = netip.AddrPortFrom(g.external, external)
	if g.lifetime != 0 {
		lifetime = max(0, g.lifetime)
	}
	return grant{g.table[p], lifetime}, nil
}

func (g *router) remove(ctx context.Context, p Port, external uint16) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.call(ctx); err != nil {
		return err
	}
	if g.table[p].Port() != external {
		return errors.New("no such mapping")
	}
	delete(g.table, p)
	return nil
}

func (g *router) check(ctx context.Context, l *lease) (netip.Addr, bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.call(ctx); err != nil {
		return netip.Addr{}, false, err
	}
	_, known := g.table[l.Port]
	return g.external, !known, nil
}

// set changes a router while it is in use.
func (g *router) set(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

// asked is how often something was mapped or renewed.
func (g *router) asked() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.adds)
}

// has is how many mappings there are.
func (g *router) has() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.table)
}

// rig is a mapper in a network of such routers.
type rig struct {
	*Mapper
	t *testing.T

	mu       sync.Mutex // guards the fields below
	ports    []Port
	routers  []*router
	way      route
	noRoute  error
	told     [][]Mapping
	searches int
	stop     func()
}

var (
	quic = Port{UDP, 4001}
	tcp  = Port{TCP, 4001}
	home = route{gateway: netip.MustParseAddr("192.168.1.1"), local: netip.MustParsePrefix("192.168.1.10/24")}
)

func start(t *testing.T, cfg Config, routers ...*router) *rig {
	t.Helper()
	r := &rig{t: t, ports: []Port{tcp, quic, quic, {UDP, 0}, {"sctp", 1}}, routers: routers, way: home}
	cfg.Ports = func() []Port {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.ports
	}
	cfg.OnChange = func(list []Mapping) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.told = append(r.told, list)
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	m.route = func() (route, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.way, r.noRoute
	}
	m.find = func(context.Context, route) []gateway {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.searches++
		var list []gateway
		for _, g := range r.routers {
			g.mu.Lock()
			if !g.silent {
				list = append(list, g)
			}
			g.mu.Unlock()
		}
		return list
	}
	r.Mapper = m
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.stop)
	synctest.Wait()
	return r
}

// counts are how often somebody was told, and a gateway searched.
func (r *rig) counts() (told, searches int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.told), r.searches
}

// expect compares the status, and what was told last.
func (r *rig) expect(state State, text string, public ...string) {
	r.t.Helper()
	synctest.Wait()
	s := r.Status()
	if s.State != state || s.Text != text {
		r.t.Errorf("got %s %q, want %s %q", s.State, s.Text, state, text)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var last []string
	if len(r.told) > 0 {
		for _, m := range r.told[len(r.told)-1] {
			last = append(last, string(m.Protocol)+" "+m.External.String())
		}
	}
	if !slices.Equal(last, public) {
		r.t.Errorf("told %q, want %q", last, public)
	}
}

const mappedText = "the router 192.168.1.1 maps UDP 4001, TCP 4001 at 8.1.1.1 (PCP)"

func TestLifecycle(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		g := newRouter(PCP, "8.1.1.1")
		r := start(t, Config{}, g)
		r.expect(Mapped, mappedText, "udp 8.1.1.1:4001", "tcp 8.1.1.1:4001")
		if !slices.Equal(g.tidied, []Port{quic, tcp}) {
			t.Errorf("kept when tidying: %v", g.tidied)
		}
		// Renewed at half time, give or take a tenth, and nobody is told.
		time.Sleep(100 * time.Minute)
		synctest.Wait()
		if n := g.asked(); n != 4 || g.adds[2] < 54*time.Minute || g.adds[2] > 66*time.Minute {
			t.Errorf("asked at %v, want twice at 0 and about 1h", g.adds)
		}
		if n, _ := r.counts(); n != 1 {
			t.Errorf("told %d times, want once", n)
		}
		// A port goes, another comes.
		r.mu.Lock()
		r.ports = []Port{quic, {UDP, 4002}}
		r.mu.Unlock()
		r.Changed()
		r.expect(Mapped, "the router 192.168.1.1 maps UDP 4001, UDP 4002 at 8.1.1.1 (PCP)", "udp 8.1.1.1:4001", "udp 8.1.1.1:4002")
		g.set(func() {
			if _, there := g.table[tcp]; there || len(g.table) != 2 {
				t.Errorf("the router has %v", g.table)
			}
		})
		began := time.Now()
		r.stop()
		if len(g.table) != 0 || time.Since(began) != 0 {
			t.Errorf("after the end, and %v, the router has %v", time.Since(began), g.table)
		}
	})
}

// TestRestart: the router has forgotten everything, or has another address.
func TestRestart(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		g := newRouter(PCP, "8.1.1.1")
		g.shift = 7
		r := start(t, Config{}, g)
		r.expect(Mapped, "the router 192.168.1.1 maps UDP 4001 as 4008, TCP 4001 as 4008 at 8.1.1.1 (PCP)", "udp 8.1.1.1:4008", "tcp 8.1.1.1:4008")
		g.set(func() { clear(g.table); g.shift = 0 })
		time.Sleep(time.Minute)
		r.expect(Mapped, "the router 192.168.1.1 maps UDP 4001 as 4008, TCP 4001 as 4008 at 8.1.1.1 (PCP)", "udp 8.1.1.1:4008", "tcp 8.1.1.1:4008")
		if told, searches := r.counts(); g.has() != 2 || told != 1 || searches != 1 {
			t.Errorf("the router has %d mappings, told %d times, %d searches, want 2, 1 and 1", g.has(), told, searches)
		}
		g.set(func() { g.external = netip.MustParseAddr("8.2.2.2") })
		r.Changed()
		r.expect(Mapped, "the router 192.168.1.1 maps UDP 4001 as 4008, TCP 4001 as 4008 at 8.2.2.2 (PCP)", "udp 8.2.2.2:4008", "tcp 8.2.2.2:4008")
		// Forgotten, and it does not want to any more.
		g.set(func() { clear(g.table); g.refuse[quic], g.refuse[tcp] = pcpNoResources, pcpNoResources })
		r.Changed()
		r.expect(Refused, "the router 192.168.1.1 maps no port over PCP: UDP 4001: the gateway says that it lacks resources")
		g.set(func() { clear(g.refuse) })
		time.Sleep(searchAgain + searchAgain/5)
		r.expect(Mapped, strings.Replace(mappedText, "8.1.1.1", "8.2.2.2", 1), "udp 8.2.2.2:4001", "tcp 8.2.2.2:4001")
	})
}

// TestSilence: the router goes away, and comes back.
func TestSilence(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		g := newRouter(PCP, "8.1.1.1")
		r := start(t, Config{}, g)
		g.set(func() { g.silent = true })
		time.Sleep(time.Minute + patience)
		r.expect(Mapped, mappedText+"; it did not answer when last asked", "udp 8.1.1.1:4001", "tcp 8.1.1.1:4001")
		time.Sleep(checkAgain + patience)
		r.expect(NoGateway, "no router maps ports here: 192.168.1.1 answers neither PCP nor NAT-PMP, and nobody UPnP")
		_, before := r.counts()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if _, n := r.counts(); n-before < 45 || n-before > 65 {
			t.Errorf("%d searches in vain a day, want about one in half an hour", n-before)
		}
		g.set(func() { g.silent = false })
		r.Changed()
		r.expect(Mapped, mappedText, "udp 8.1.1.1:4001", "tcp 8.1.1.1:4001")

		// It is gone when we end: that takes no longer than it may.
		g.set(func() { g.silent = true })
		began := time.Now()
		r.stop()
		if took := time.Since(began); took > farewell {
			t.Errorf("the end took %v, want %v at most", took, farewell)
		}
	})
}

func TestRoaming(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		g := newRouter(UPnP, "8.1.1.1")
		r := start(t, Config{}, g)
		r.expect(Mapped, strings.Replace(mappedText, "PCP", "UPnP", 1), "udp 8.1.1.1:4001", "tcp 8.1.1.1:4001")
		for _, c := range []struct {
			name  string
			way   route
			err   error
			state State
			text  string
		}{
			{"offline", route{}, errNoRoute, Off, "ports are not mapped: there is no IPv4 route to the internet"},
			{"a server", route{local: netip.MustParsePrefix("8.3.3.3/24")}, nil, Off, "ports are not mapped: this machine has the public address 8.3.3.3 itself"},
		} {
			r.mu.Lock()
			r.way, r.noRoute = c.way, c.err
			r.mu.Unlock()
			r.Changed()
			r.expect(c.state, c.text)
		}
		other := newRouter(NATPMP, "8.4.4.4")
		r.mu.Lock()
		r.way, r.noRoute, r.routers = route{netip.MustParseAddr("10.0.0.1"), netip.MustParsePrefix("10.0.0.7/24")}, nil, []*router{other}
		r.mu.Unlock()
		r.Changed()
		r.expect(Mapped, "the router 192.168.1.1 maps UDP 4001, TCP 4001 at 8.4.4.4 (NAT-PMP)", "udp 8.4.4.4:4001", "tcp 8.4.4.4:4001")
		r.mu.Lock()
		r.ports = nil
		r.mu.Unlock()
		r.Changed()
		r.expect(Off, "ports are not mapped: nothing listens on an IPv4 address that a router could lead to")
		if n := other.has(); n > 0 {
			t.Errorf("%d mappings left behind", n)
		}
	})
}

// TestOddGateways grant what is of no use, or less than was asked for.
func TestOddGateways(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*router)
		state  State
		text   string
		public []string
	}{
		{
			"double NAT", func(g *router) { g.external = netip.MustParseAddr("100.64.1.10") }, DoubleNAT,
			"the router 192.168.1.1 maps UDP 4001, TCP 4001 at 100.64.1.10 (PCP), which is not an address of the internet: there is another NAT behind it", nil,
		},
		{
			"loopback", func(g *router) { g.external = netip.MustParseAddr("127.0.0.1") }, Refused,
			"the router 192.168.1.1 maps no port over PCP: UDP 4001: the gateway names 127.0.0.1:4001 as the external address", nil,
		},
		{
			"one port", func(g *router) { g.refuse[tcp] = pcpNotAuthorized }, Mapped,
			"the router 192.168.1.1 maps UDP 4001 at 8.1.1.1 (PCP); TCP 4001: the gateway does not allow it, or the port is another's",
			[]string{"udp 8.1.1.1:4001"},
		},
		{"for ever", func(g *router) { g.lifetime = -1 }, Mapped, mappedText, []string{"udp 8.1.1.1:4001", "tcp 8.1.1.1:4001"}},
		{"a second", func(g *router) { g.lifetime = time.Second }, Mapped, mappedText, []string{"udp 8.1.1.1:4001", "tcp 8.1.1.1:4001"}},
		{"a year", func(g *router) { g.lifetime = 365 * 24 * time.Hour }, Mapped, mappedText, []string{"udp 8.1.1.1:4001", "tcp 8.1.1.1:4001"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual.Test(t, func(t *testing.T) {
				g := newRouter(PCP, "8.1.1.1")
				c.change(g)
				r := start(t, Config{}, g)
				r.expect(c.state, c.text, c.public...)
				before := g.asked()
				time.Sleep(time.Hour + 10*time.Minute)
				synctest.Wait()
				most := map[string]int{"a second": 2 * 4200 / 4, "loopback": 2 * 20}[c.name]
				if n := g.asked() - before; n > max(most, 2) {
					t.Errorf("asked %d times in an hour", n)
				}
				if s := r.Status(); len(s.Mappings) > 0 && s.Mappings[0].Expires.IsZero() != (c.name == "for ever") {
					t.Errorf("expires %v", s.Mappings[0].Expires)
				}
			})
		})
	}
}

// TestSecondChoice: the preferred gateway maps nothing.
func TestSecondChoice(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		bad, good := newRouter(PCP, "8.1.1.1"), newRouter(UPnP, "8.1.1.1")
		bad.refuse[quic], bad.refuse[tcp] = pcpNotAuthorized, pcpNotAuthorized
		r := start(t, Config{}, bad, good)
		r.expect(Mapped, strings.Replace(mappedText, "PCP", "UPnP", 1), "udp 8.1.1.1:4001", "tcp 8.1.1.1:4001")
	})
}

// TestRenewalFails: what is held is held until it expires.
func TestRenewalFails(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		g := newRouter(PCP, "8.1.1.1")
		r := start(t, Config{Lease: 10 * time.Minute}, g)
		g.set(func() { g.refuse[quic] = pcpNoResources })
		time.Sleep(9*time.Minute + 50*time.Second)
		r.expect(Mapped, mappedText, "udp 8.1.1.1:4001", "tcp 8.1.1.1:4001")
		time.Sleep(time.Minute)
		r.expect(Mapped, "the router 192.168.1.1 maps TCP 4001 at 8.1.1.1 (PCP); UDP 4001: the gateway says that it lacks resources", "tcp 8.1.1.1:4001")
		g.set(func() { clear(g.refuse) })
		time.Sleep(refusedAgain)
		r.expect(Mapped, mappedText, "udp 8.1.1.1:4001", "tcp 8.1.1.1:4001")
	})
}

func TestConfig(t *testing.T) {
	ports := func() []Port { return nil }
	for _, c := range []struct {
		cfg   Config
		fault string
	}{
		{Config{Ports: ports}, ""},
		{Config{Ports: ports, Lease: 24 * time.Hour, CheckInterval: time.Second}, ""},
		{Config{}, "no ports"},
		{Config{Ports: ports, Lease: time.Second}, "lease of 1s"},
		{Config{Ports: ports, Lease: 25 * time.Hour, CheckInterval: -1}, "every -1ns"},
	} {
		_, err := New(c.cfg)
		if (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%+v: got %v, want %q", c.cfg, err, c.fault)
		}
	}
	if got, want := (Config{}).withDefaults(), (Config{Lease: 2 * time.Hour, CheckInterval: time.Minute}); !reflect.DeepEqual(got, want) {
		t.Errorf("defaults %+v, want %+v", got, want)
	}
}
