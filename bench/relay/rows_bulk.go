package main

import (
	"context"
	"fmt"

	"github.com/causeway-p2p/causeway/bench/child"
)

const (
	bulkWrite  = 64 << 10
	smallWrite = 1400 // what fits a packet, as media and VPNs send it
)

// bulkBounds are ours/stock in CPU per byte, at 16 circuits.
var bulkBounds = map[wire]*bound{
	overTLS:   ratioAtMost(0.35),
	overNoise: ratioAtMost(0.42),
	overQUIC:  ratioAtMost(0.50),
}

// bulkRow is row a: what a byte costs the relay when there are many.
func bulkRow(w wire, circuits int) *row {
	r := &row{id: fmt.Sprintf("a/%s/%d", w, circuits), sides: both}
	cpu := figure{name: "cpu", what: fmt.Sprintf("CPU s per GB, %s, %d circuits", w.title(), circuits), unit: secondsPerGB}
	if circuits == 16 {
		cpu.bound = bulkBounds[w]
	}
	r.figures = []figure{cpu, {name: "rate", what: "goodput", unit: megabytes}}
	r.open = openBulk(r.id, w, circuits, bulkWrite, 256<<20, 96<<20)
	return r
}

// smallRow is row b: the same in small writes.
func smallRow(w wire, b *bound) *row {
	const circuits = 16
	r := &row{id: "b/" + string(w), sides: both, figures: []figure{
		{name: "cpu", what: fmt.Sprintf("CPU s per GB, %s, %d circuits, 1400 B writes", w.title(), circuits), unit: secondsPerGB, bound: b},
		{name: "rate", what: "goodput", unit: megabytes},
	}}
	r.open = openBulk(r.id, w, circuits, smallWrite, 96<<20, 32<<20)
	return r
}

func (w wire) title() string {
	switch w {
	case overTLS:
		return "TCP+TLS"
	case overNoise:
		return "TCP+Noise"
	case overQUIC:
		return "QUIC"
	case overWS:
		return "WebSocket"
	}
	return string(w)
}

// bulkProbe sends over circuits between as many sources and destinations.
type bulkProbe struct {
	*rig
	circuits int
	args     bulkArgs
}

func openBulk(row string, w wire, circuits, write int, full, quick int64) func(context.Context, *bench, side) (probe, error) {
	return func(ctx context.Context, b *bench, s side) (probe, error) {
		g, err := b.startRig(ctx, row, s, roomy, w, circuits, circuits)
		if err != nil {
			return nil, err
		}
		p := &bulkProbe{rig: g, circuits: circuits, args: bulkArgs{Bytes: b.volume(full, quick), Write: write}}
		// Windows, buffers and pools grow at first.
		if _, _, err := p.send(ctx, 0, p.args.Bytes/8); err != nil {
			g.close()
			return nil, fmt.Errorf("warm up: %w", err)
		}
		return p, nil
	}
}

func (p *bulkProbe) round(ctx context.Context, n int) (values, error) {
	cpu, m, err := p.send(ctx, n, p.args.Bytes)
	if err != nil {
		return nil, err
	}
	return values{"cpu": cpu / (float64(m.Bytes) / 1e9), "rate": m.rate()}, nil
}

func (p *bulkProbe) send(ctx context.Context, round int, size int64) (cpu float64, m moved, err error) {
	if err := child.Tell(ctx, p.src, "open", openArgs{Dests: p.dests, Circuits: p.circuits}); err != nil {
		return 0, m, err
	}
	cpu, err = p.cpuOf(ctx, p.relay, round, func() (err error) {
		m, err = child.Ask[moved](ctx, p.src, "bulk", bulkArgs{Bytes: size, Write: p.args.Write})
		return err
	})
	return cpu, m, err
}
