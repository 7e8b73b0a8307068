package autorelay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"
)

// Config is what AutoRelay needs. Only Host is required.
type Config struct {
	Host host.Host
	// Relays is how many relays are advertised. If zero, 2: one may die
	// without anybody noticing.
	Relays int
	// Standby is how many more are held without being advertised. If zero, 1;
	// if negative, none.
	Standby int
	// ProbeInterval is the pause between two liveness probes of a relay. If
	// zero, 1 s: a vanished relay is then noticed within 3 s. A probe is one
	// libp2p ping of 32 bytes each way, about 230 bytes on the wire with QUIC
	// (TestProbeCost), so the default costs some 830 kB an hour and relay.
	ProbeInterval time.Duration
	// IdleProbeInterval takes its place for a relay over which no circuit
	// runs, for devices that live on batteries: at 30 s it costs 54 kB an hour
	// and relay, twice what QUIC's keep-alives cost anyway, and a vanished
	// relay is noticed within 32 s. If zero, ProbeInterval.
	IdleProbeInterval time.Duration
	// History remembers how reliable relays were. If nil, nothing does.
	History *History
	// Registerer receives the metrics. If nil, there are none.
	Registerer prometheus.Registerer
	// PrivateNetwork tells that the node is not on the public network, so
	// that relays on private addresses may be tried, and private addresses
	// that a relay vouches for in its reservation may be advertised.
	PrivateNetwork bool
	// AllowPrivate also advertises private addresses that no relay vouched for.
	AllowPrivate bool
	// BeforeReserve, if not nil, is called each time before a relay is asked
	// for a reservation or a refresh, once it is connected and identified, to
	// tell it what it should know by then. It may be called for several relays
	// at once, and block until its context ends, which leaves the relay half
	// of its time.
	BeforeReserve func(ctx context.Context, relay peer.ID)
	// OnNeed is told whether more relays should be looked for.
	OnNeed func(bool)
	// OnAddrs receives the circuit addresses to advertise, at every change.
	OnAddrs func([]ma.Multiaddr)
	// OnEvent receives every transition. These three callbacks come from one
	// goroutine and must not block.
	OnEvent func(Event)
}

func (c Config) withDefaults() Config {
	if c.Relays == 0 {
		c.Relays = 2
	}
	if c.Standby == 0 {
		c.Standby = 1
	}
	c.Standby = max(c.Standby, 0)
	if c.ProbeInterval == 0 {
		c.ProbeInterval = time.Second
	}
	if c.OnNeed == nil {
		c.OnNeed = func(bool) {}
	}
	if c.OnAddrs == nil {
		c.OnAddrs = func([]ma.Multiaddr) {}
	}
	if c.OnEvent == nil {
		c.OnEvent = func(Event) {}
	}
	return c
}

func (c Config) validate() error {
	var errs []error
	if c.Host == nil {
		errs = append(errs, errors.New("autorelay: Host is missing"))
	}
	if c.Relays < 0 {
		errs = append(errs, fmt.Errorf("autorelay: Relays is %d, want 0 or more", c.Relays))
	}
	if c.ProbeInterval < 0 {
		errs = append(errs, fmt.Errorf("autorelay: ProbeInterval is %v, want 0 or more", c.ProbeInterval))
	}
	if c.IdleProbeInterval < 0 {
		errs = append(errs, fmt.Errorf("autorelay: IdleProbeInterval is %v, want 0 or more", c.IdleProbeInterval))
	}
	return errors.Join(errs...)
}
