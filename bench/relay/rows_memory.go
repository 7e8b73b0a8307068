package main

import (
	"context"
	"fmt"

	"github.com/causeway-p2p/causeway/bench/child"
)

// reservationMemoryRow is row e's first half: what a reservation holds, beside
// the connection that it belongs to.
func reservationMemoryRow(n int) *row {
	r := memoryRow("e/reservation", fmt.Sprintf("memory for one of %d reservations", n))
	r.open = func(ctx context.Context, b *bench, s side) (probe, error) {
		g, err := b.startRelay(ctx, r.id, s, relaySpec{Reservations: 2 * n, Circuits: 16, Ghosts: true})
		if err != nil {
			return nil, err
		}
		// What the first few need once is not what each of them needs.
		if err := child.Tell(ctx, g.relay, "hold", warmReservations); err != nil {
			g.close()
			return nil, err
		}
		return &memoryProbe{g, n - warmReservations, func(ctx context.Context) error {
			return child.Tell(ctx, g.relay, "hold", n)
		}}, nil
	}
	return r
}

const (
	warmReservations = 100
	// warmCircuits make pools, stacks and windows grow on every connection.
	warmCircuits = 200
	// idleConns carry the idle circuits, on each side of the relay.
	idleConns = 8
)

// circuitMemoryRow is row e's second half: what a circuit holds on which
// nothing happens.
func circuitMemoryRow(n int) *row {
	r := memoryRow("e/circuit", fmt.Sprintf("memory for one of %d idle circuits", n))
	r.open = func(ctx context.Context, b *bench, s side) (probe, error) {
		g, err := b.startRig(ctx, r.id, s, roomy, overTLS, idleConns, idleConns)
		if err != nil {
			return nil, err
		}
		open := func(ctx context.Context, n int) error {
			return child.Tell(ctx, g.src, "open", openArgs{Dests: g.dests, Circuits: n})
		}
		if err := open(ctx, warmCircuits); err != nil {
			g.close()
			return nil, err
		}
		return &memoryProbe{g, n, func(ctx context.Context) error { return open(ctx, n) }}, nil
	}
	return r
}

func memoryRow(id, what string) *row {
	return &row{id: id, sides: both, fresh: true, figures: []figure{
		{name: "heap", what: what + ", heap", unit: bytesEach},
		{name: "rss", what: "  resident", unit: bytesEach},
	}}
}

// memoryProbe divides by n what grow adds to the relay's memory. It can do so
// once.
type memoryProbe struct {
	*rig
	n    int
	grow func(context.Context) error
}

func (p *memoryProbe) round(ctx context.Context, _ int) (values, error) {
	before, err := child.Ask[usage](ctx, p.relay, "usage", true)
	if err != nil {
		return nil, err
	}
	if err := p.grow(ctx); err != nil {
		return nil, err
	}
	after, err := child.Ask[usage](ctx, p.relay, "usage", true)
	if err != nil {
		return nil, err
	}
	each := func(a, b int64) float64 { return float64(a-b) / float64(p.n) }
	return values{"heap": each(after.Heap, before.Heap), "rss": each(after.RSS, before.RSS)}, nil
}
