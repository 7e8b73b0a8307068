package main

import (
	"context"
	"fmt"

	"github.com/causeway-p2p/causeway/bench/child"
)

// connectRow is row d's first half: circuits set up and let go again.
func connectRow(inFlight int) *row {
	r := &row{id: fmt.Sprintf("d/connect/%d", inFlight), sides: both, figures: []figure{
		{name: "rate", what: fmt.Sprintf("circuits set up, %d in flight", inFlight), unit: perSecond},
		{name: "cpu", what: "  the relay's CPU for one", unit: micros},
	}}
	r.open = func(ctx context.Context, b *bench, s side) (probe, error) {
		g, err := b.startRig(ctx, r.id, s, roomy, overTLS, 4, 4)
		if err != nil {
			return nil, err
		}
		return &connectProbe{rig: g, args: connectsArgs{Dests: g.dests, InFlight: inFlight, Seconds: b.seconds(2, 1)}}, nil
	}
	return r
}

type connectProbe struct {
	*rig
	args connectsArgs
}

func (p *connectProbe) round(ctx context.Context, n int) (values, error) {
	var r connectsResult
	cpu, err := p.cpuOf(ctx, p.relay, n, func() (err error) {
		r, err = child.Ask[connectsResult](ctx, p.src, "connects", p.args)
		return err
	})
	if err != nil {
		return nil, err
	}
	return values{"rate": float64(r.Count) / r.Seconds, "cpu": cpu * 1e6 / float64(r.Count)}, nil
}

// reserveRow is row d's second half: RESERVEs, refreshes of what is held,
// through the relay's handler inside its own process. step is the bound of
// what that does to the reservations, as the CPU profile tells.
func reserveRow(name string, held int, step *bound) *row {
	r := &row{id: "d/reserve/" + name, sides: both, figures: []figure{
		{name: "cpu", what: fmt.Sprintf("RESERVE at %d held, voucher included, CPU", held), unit: micros},
		{name: "step", what: "  of that the change of state", unit: micros, bound: step},
		{name: "rate", what: "  that is, on one core", unit: perSecond},
	}}
	r.open = func(ctx context.Context, b *bench, s side) (probe, error) {
		g, err := b.startRelay(ctx, r.id, s, relaySpec{Reservations: 2 * held, Circuits: 16, Ghosts: true})
		if err != nil {
			return nil, err
		}
		if err := child.Tell(ctx, g.relay, "hold", held); err != nil {
			g.close()
			return nil, err
		}
		return &reserveProbe{rig: g, args: reserveArgs{Held: held, Seconds: 1, Samples: b.volume(250, 80)}}, nil
	}
	return r
}

type reserveProbe struct {
	*rig
	args reserveArgs
}

func (p *reserveProbe) round(ctx context.Context, n int) (values, error) {
	args := p.args
	args.Profile = p.bench.profile(p.row, p.side, n)
	r, err := child.Ask[reserveResult](ctx, p.relay, "reserve", args)
	if err != nil {
		return nil, err
	}
	return values{"cpu": r.CPU, "step": r.Step, "rate": 1e6 / r.CPU}, nil
}
