package main

import (
	"context"
	"time"
)

// pingRow is row c: how long a keystroke waits behind somebody's download.
func pingRow(w wire, b *bound) *row {
	r := &row{id: "c/" + string(w), sides: both, figures: []figure{
		{name: "idle p50", what: "ping-pong, " + w.title() + ", idle relay, p50", unit: micros},
		{name: "idle p99", what: "  p99", unit: micros},
		{name: "same p50", what: "beside bulk to the same destination, p50", unit: micros, bound: b},
		{name: "same p99", what: "  p99", unit: micros},
		{name: "other p50", what: "beside bulk to another destination, p50", unit: micros},
		{name: "other p99", what: "  p99", unit: micros},
	}}
	r.open = func(ctx context.Context, b *bench, s side) (probe, error) {
		g, err := b.startRig(ctx, r.id, s, roomy, w, 1, 2)
		if err != nil {
			return nil, err
		}
		greedy, _, err := g.clients(ctx, 1, false)
		if err != nil {
			g.close()
			return nil, err
		}
		return &pingProbe{rig: g, greedy: greedy, seconds: b.seconds(2, 0.6)}, nil
	}
	return r
}

// pingProbe pings the first destination.
type pingProbe struct {
	*rig
	greedy  *child
	seconds float64
}

func (p *pingProbe) round(ctx context.Context, _ int) (values, error) {
	v := make(values)
	ping := func(name string) error {
		l, err := ask[latency](ctx, p.src, "ping", pingArgs{Dests: p.dests[:1], Circuits: 1, Seconds: p.seconds})
		v[name+" p50"], v[name+" p99"] = l.P50, l.P99
		return err
	}
	if err := ping("idle"); err != nil {
		return nil, err
	}
	for name, dest := range map[string]string{"same": p.dests[0], "other": p.dests[1]} {
		if err := beside(ctx, p.greedy, dest, func() error { return ping(name) }); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// beside runs f while one circuit to dest is flooded.
func beside(ctx context.Context, greedy *child, dest string, f func() error) error {
	if err := tell(ctx, greedy, "flood", openArgs{Dests: []string{dest}}); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	return tell(ctx, greedy, "calm", none{})
}

const (
	// fairCap is well below what either relay can do on one core, so that
	// those who wait do so for the cap's division and not for a processor.
	fairCap = 20 << 20
	// fairCircuits write a ping every fairGap: 50 people who type.
	fairCircuits = 50
	fairGap      = 20 * time.Millisecond
)

// fairnessRow is row f: what one greedy circuit does to many small ones, with
// the relay's bandwidth capped where it can be.
func fairnessRow() *row {
	r := &row{id: "f/fairness", sides: both, figures: []figure{
		{name: "unloaded", what: "50 interactive circuits, p99", unit: millis},
		{name: "beside", what: "  beside a greedy one (ours: capped at 20 MiB/s), p99", unit: millis},
		{name: "ratio", what: "  how many times the unloaded", unit: times, bound: atMost(2)},
	}}
	r.open = func(ctx context.Context, b *bench, s side) (probe, error) {
		spec := roomy
		spec.BytesPerSecond = fairCap
		g, err := b.startRig(ctx, r.id, s, spec, overTLS, fairCircuits, fairCircuits+1)
		if err != nil {
			return nil, err
		}
		greedy, _, err := g.clients(ctx, 1, false)
		if err != nil {
			g.close()
			return nil, err
		}
		return &fairProbe{rig: g, greedy: greedy, seconds: b.seconds(3, 1.2)}, nil
	}
	return r
}

type fairProbe struct {
	*rig
	greedy  *child
	seconds float64
}

func (p *fairProbe) round(ctx context.Context, _ int) (values, error) {
	ping := func() (latency, error) {
		return ask[latency](ctx, p.src, "ping", pingArgs{
			Dests: p.dests[:fairCircuits], Circuits: fairCircuits, Seconds: p.seconds, Gap: fairGap,
		})
	}
	unloaded, err := ping()
	if err != nil {
		return nil, err
	}
	var loaded latency
	if err := beside(ctx, p.greedy, p.dests[fairCircuits], func() (err error) {
		loaded, err = ping()
		return err
	}); err != nil {
		return nil, err
	}
	return values{"unloaded": unloaded.P99 / 1e3, "beside": loaded.P99 / 1e3, "ratio": loaded.P99 / unloaded.P99}, nil
}
