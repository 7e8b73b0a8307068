package portmap

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	natpmp "github.com/jackpal/go-nat-pmp"
)

// natPMP is a gateway that speaks NAT-PMP. The client sees to it that answers
// come from the gateway, and bounds them to 16 bytes.
type natPMP struct {
	at     netip.Addr
	client *natpmp.Client
	epoch  epoch
}

// searchPatience bounds the search for one: two tries, at 0 and 250 ms. The
// client cannot be interrupted, and a node that is closed waits for it.
const searchPatience = 750 * time.Millisecond

func findNATPMP(ctx context.Context, r route, found chan<- gateway) {
	if ctx.Err() != nil {
		return
	}
	g := &natPMP{at: r.gateway, client: natpmp.NewClientWithTimeout(r.gateway.AsSlice(), searchPatience)}
	if _, err := g.external(); err != nil {
		log.Debug("no answer", "method", NATPMP, "gateway", r.gateway, "err", err)
		return
	}
	g.client = natpmp.NewClientWithTimeout(r.gateway.AsSlice(), patience)
	offer(ctx, found, g)
}

func (g *natPMP) method() Method               { return NATPMP }
func (g *natPMP) addr() netip.Addr             { return g.at }
func (g *natPMP) tidy(context.Context, []Port) {}

func (g *natPMP) external() (netip.Addr, error) {
	r, err := g.client.GetExternalAddress()
	if err != nil {
		return netip.Addr{}, err
	}
	g.epoch.heard(r.SecondsSinceStartOfEpoc, time.Now())
	return netip.AddrFrom4(r.ExternalIPAddress), nil
}

func (g *natPMP) add(_ context.Context, p Port, external uint16, lifetime time.Duration) (grant, error) {
	r, err := g.client.AddPortMapping(string(p.Protocol), int(p.Number), int(external), int(lifetime/time.Second))
	if err != nil {
		return grant{}, err
	}
	if r.InternalPort != p.Number || r.MappedExternalPort == 0 || r.PortMappingLifetimeInSeconds == 0 {
		return grant{}, fmt.Errorf("mapped port %d to %d for %d s, when asked for port %d",
			r.MappedExternalPort, r.InternalPort, r.PortMappingLifetimeInSeconds, p.Number)
	}
	a, err := g.external()
	if err != nil {
		return grant{}, fmt.Errorf("external address: %w", err)
	}
	return grant{netip.AddrPortFrom(a, r.MappedExternalPort), time.Duration(r.PortMappingLifetimeInSeconds) * time.Second}, nil
}

// remove: RFC 6886 section 3.4, external port and lifetime 0.
func (g *natPMP) remove(_ context.Context, p Port, _ uint16) error {
	_, err := g.client.AddPortMapping(string(p.Protocol), int(p.Number), 0, 0)
	return err
}

func (g *natPMP) check(context.Context, *lease) (netip.Addr, bool, error) {
	a, err := g.external()
	return a, g.epoch.lost(), err
}
