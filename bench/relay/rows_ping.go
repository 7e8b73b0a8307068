package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/causeway-p2p/causeway/bench/child"
)

// bulkPing is the round trip, in µs, of an interactive circuit beside a bulk one
// to the same destination, that go-libp2p's relay showed when that bulk kept the
// connection full, at half of our throughput. Which of the two is quicker in one
// run depends on whether its bulk happens to leave gaps, so that the ratio says
// little.
const bulkPing = 1200

// pingRow is row c: how long a keystroke waits behind somebody's download.
func pingRow(w wire, b *bound) *row {
	r := &row{id: "c/" + string(w), sides: both, figures: []figure{
		{name: "idle p50", what: "ping-pong, " + w.title() + ", idle relay, p50", unit: micros},
		{name: "idle p99", what: "  p99", unit: micros},
		{name: "idle mean", what: "  mean", unit: micros},
		{name: "same p50", what: "beside bulk to the same destination, p50", unit: micros, bound: b},
		{name: "same p99", what: "  p99", unit: micros},
		{name: "same mean", what: "  mean", unit: micros},
		{name: "same rate", what: "  the bulk's rate", unit: megabytes},
		{name: "other p50", what: "beside bulk to another destination, p50", unit: micros},
		{name: "other p99", what: "  p99", unit: micros},
		{name: "other mean", what: "  mean", unit: micros},
		{name: "other rate", what: "  the bulk's rate", unit: megabytes},
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
		return &pingProbe{rig: g, greedy: greedy, phases: int(b.volume(10, 6)), seconds: b.seconds(0.2, 0.12)}, nil
	}
	return r
}

// pingProbe pings the first destination.
type pingProbe struct {
	*rig
	greedy *child.Process
	// phases is how often a round starts the bulk afresh: how a bulk circuit
	// and its neighbour fall into step is luck, and stays for as long as both
	// run.
	phases  int
	seconds float64 // of one phase
}

func (p *pingProbe) round(ctx context.Context, _ int) (values, error) {
	got := make(samples)
	ping := func(name string) error {
		l, err := child.Ask[latency](ctx, p.src, "ping", pingArgs{Dests: p.dests[:1], Circuits: 1, Seconds: p.seconds})
		got.add(name+" p50", l.P50)
		got.add(name+" p99", l.P99)
		got.add(name+" mean", l.Mean)
		return err
	}
	for range p.phases {
		if err := ping("idle"); err != nil {
			return nil, err
		}
		for name, dest := range map[string]string{"same": p.dests[0], "other": p.dests[1]} {
			m, err := beside(ctx, p.greedy, dest, func() error { return ping(name) })
			if err != nil {
				return nil, err
			}
			got.add(name+" rate", m.rate())
		}
	}
	return got.medians(), nil
}

// samples are what the phases of a round measured, by figure.
type samples map[string][]float64

func (s samples) add(name string, v float64) { s[name] = append(s[name], v) }

func (s samples) medians() values {
	v := make(values)
	for name, list := range s {
		v[name] = spreadOf(list).Median
	}
	return v
}

// beside runs f while one circuit to dest is flooded, and tells how fast that
// was.
func beside(ctx context.Context, greedy *child.Process, dest string, f func() error) (moved, error) {
	if err := child.Tell(ctx, greedy, "flood", openArgs{Dests: []string{dest}}); err != nil {
		return moved{}, err
	}
	if err := f(); err != nil {
		return moved{}, err
	}
	return child.Ask[moved](ctx, greedy, "calm", child.None{})
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
		{name: "beside", what: "  beside a greedy one, p99", unit: millis},
		{name: "ratio", what: "  how many times the unloaded", unit: times, bound: atMost(2)},
		{name: "greedy", what: "  the greedy one's rate", unit: megabytes},
	}}
	r.open = func(ctx context.Context, b *bench, s side) (probe, error) {
		spec := roomy
		spec.BytesPerSecond = fairCap
		g, err := b.startRig(ctx, r.id, s, spec, overTLS, fairCircuits, fairCircuits+1)
		if err != nil {
			return nil, err
		}
		if s == ours && !g.info.Capped {
			fmt.Fprintf(b.progress, "%-14s ours is measured without a cap: it has none\n", r.id)
		}
		greedy, _, err := g.clients(ctx, 1, false)
		if err != nil {
			g.close()
			return nil, err
		}
		return &fairProbe{rig: g, greedy: greedy, phases: int(b.volume(5, 3)), seconds: b.seconds(0.6, 0.3)}, nil
	}
	return r
}

type fairProbe struct {
	*rig
	greedy *child.Process
	// phases alternate between unloaded and loaded, and the quietest of each
	// counts: a few milliseconds that the machine was elsewhere decide about a
	// 99th percentile, and can only make it longer.
	phases  int
	seconds float64 // of one phase
}

func (p *fairProbe) round(ctx context.Context, _ int) (values, error) {
	got := make(samples)
	ping := func(name string) error {
		l, err := child.Ask[latency](ctx, p.src, "ping", pingArgs{
			Dests: p.dests[:fairCircuits], Circuits: fairCircuits, Seconds: p.seconds, Gap: fairGap,
		})
		got.add(name, l.P99/1e3)
		return err
	}
	for range p.phases {
		if err := ping("unloaded"); err != nil {
			return nil, err
		}
		m, err := beside(ctx, p.greedy, p.dests[fairCircuits], func() error { return ping("beside") })
		if err != nil {
			return nil, err
		}
		got.add("greedy", m.rate())
	}
	v := values{
		"unloaded": slices.Min(got["unloaded"]), "beside": slices.Min(got["beside"]), "greedy": spreadOf(got["greedy"]).Median,
	}
	v["ratio"] = v["beside"] / v["unloaded"]
	return v, nil
}
