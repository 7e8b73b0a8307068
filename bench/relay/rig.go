package main

import (
	"context"
	"errors"

	"github.com/causeway-p2p/causeway/bench/child"
)

// rig is a relay with clients around it: the processes of one side of a row.
type rig struct {
	family
	side       side
	row        string
	bench      *bench
	wire       wire
	relay      *child.Process
	src, dst   *child.Process
	info       relayInfo
	dests      []string // who can be reached through the relay
	negotiated joined
}

// roomy is what relays are given unless a row asks for less.
var roomy = relaySpec{Reservations: 1000, Circuits: 1 << 20}

// startRelay starts the relay of one side.
func (b *bench) startRelay(ctx context.Context, row string, s side, spec relaySpec) (g *rig, err error) {
	g = &rig{side: s, row: row, bench: b}
	r := relayStock
	if s == ours {
		r = relayOurs
	}
	if g.relay, err = g.start(ctx, r); err == nil {
		g.info, err = child.Ask[relayInfo](ctx, g.relay, "start", spec)
	}
	if err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

// startRig starts a relay, sources and destinations, each host with a
// connection of its own.
func (b *bench) startRig(ctx context.Context, row string, s side, spec relaySpec, w wire, sources, dests int) (*rig, error) {
	g, err := b.startRelay(ctx, row, s, spec)
	if err != nil {
		return nil, err
	}
	g.wire = w
	if g.dst, g.negotiated, err = g.clients(ctx, dests, true); err == nil {
		g.dests = g.negotiated.IDs
		g.src, _, err = g.clients(ctx, sources, false)
	}
	if err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

// clients starts one more process of them.
func (g *rig) clients(ctx context.Context, hosts int, reserve bool) (*child.Process, joined, error) {
	c, err := g.start(ctx, clientRole)
	if err != nil {
		return nil, joined{}, err
	}
	j, err := child.Ask[joined](ctx, c, "join", joinArgs{Relay: g.info, Wire: g.wire, Hosts: hosts, Reserve: reserve})
	return c, j, err
}

// cpuOf is the CPU time that a process uses while f runs. The round's profile
// is that of the same time.
func (g *rig) cpuOf(ctx context.Context, c *child.Process, round int, f func() error) (float64, error) {
	path := g.bench.profile(g.row, g.side, round)
	if round > 0 && path != "" {
		if err := child.Tell(ctx, c, "profile", path); err != nil {
			return 0, err
		}
	}
	before, err := child.Ask[usage](ctx, c, "usage", false)
	if err != nil {
		return 0, err
	}
	err = f()
	after, uerr := child.Ask[usage](ctx, c, "usage", false)
	if round > 0 && path != "" {
		err = errors.Join(err, child.Tell(ctx, c, "unprofile", child.None{}))
	}
	return after.CPU - before.CPU, errors.Join(err, uerr)
}
