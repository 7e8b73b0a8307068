package main

import (
	"context"

	"github.com/causeway-p2p/causeway/bench/child"
)

// proxiedRow is row g: the same volume through a proxy without libp2p.
func proxiedRow(name, what string, spec proxySpec) *row {
	r := &row{id: "g/" + name, sides: []side{alone}, figures: []figure{
		{name: "cpu", what: "CPU s per GB, " + what + ", 16 connections", unit: secondsPerGB},
		{name: "rate", what: "goodput", unit: megabytes},
	}}
	r.open = func(ctx context.Context, b *bench, s side) (probe, error) {
		p := &proxyProbe{rig: &rig{row: r.id, side: s, bench: b}, args: sendArgs{
			bulkArgs: bulkArgs{Bytes: b.volume(512<<20, 128<<20), Write: bulkWrite}, TLS: spec.TLS, Conns: 16,
		}}
		if err := p.begin(ctx, spec); err != nil {
			p.close()
			return nil, err
		}
		return p, nil
	}
	return r
}

type proxyProbe struct {
	*rig
	args sendArgs
}

func (p *proxyProbe) begin(ctx context.Context, spec proxySpec) (err error) {
	if p.dst, err = p.start(ctx, clientRole); err != nil {
		return err
	}
	if spec.Target, err = child.Ask[string](ctx, p.dst, "listen", listenArgs{TLS: spec.TLS}); err != nil {
		return err
	}
	if p.relay, err = p.start(ctx, proxyRole); err != nil {
		return err
	}
	if p.args.To, err = child.Ask[string](ctx, p.relay, "start", spec); err != nil {
		return err
	}
	if p.src, err = p.start(ctx, clientRole); err != nil {
		return err
	}
	warm := p.args
	warm.Bytes /= 8
	_, err = child.Ask[moved](ctx, p.src, "send", warm)
	return err
}

func (p *proxyProbe) round(ctx context.Context, n int) (values, error) {
	var m moved
	cpu, err := p.cpuOf(ctx, p.relay, n, func() (err error) {
		m, err = child.Ask[moved](ctx, p.src, "send", p.args)
		return err
	})
	if err != nil {
		return nil, err
	}
	return values{"cpu": cpu / (float64(m.Bytes) / 1e9), "rate": m.rate()}, nil
}
