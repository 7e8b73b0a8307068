package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// A side is a column: whose relay is measured.
type side string

const (
	stock side = "stock"
	ours  side = "ours"
	alone side = "alone" // an upper bound, beside nobody
)

var both = []side{stock, ours}

// A row is one measurement. It yields one or more figures.
type row struct {
	id      string
	sides   []side
	figures []figure
	// fresh starts every process anew for each round, for what grows.
	fresh bool
	// open starts what one side needs.
	open func(context.Context, *bench, side) (probe, error)
}

// A figure is one line of the table.
type figure struct {
	name  string
	what  string
	unit  unit
	bound *bound
}

// A probe is one side of one row, ready to be measured again and again.
type probe interface {
	round(ctx context.Context, n int) (values, error)
	close()
}

// values are what a round measured, by the name of the figure.
type values map[string]float64

func (r *row) bounded() bool {
	return slices.ContainsFunc(r.figures, func(f figure) bool { return f.bound != nil })
}

// bench is what all rows need.
type bench struct {
	quick    bool
	slack    float64 // by which bounds are multiplied; 0 is 1
	pprof    string
	progress io.Writer
}

// volume is how much is sent: quick runs are content with less.
func (b *bench) volume(full, quick int64) int64 {
	if b.quick {
		return quick
	}
	return full
}

func (b *bench) seconds(full, quick float64) float64 {
	if b.quick {
		return quick
	}
	return full
}

// profile is where the CPU profile of one round goes; empty if none is wanted.
func (b *bench) profile(row string, s side, round int) string {
	if b.pprof == "" {
		return ""
	}
	return filepath.Join(b.pprof, fmt.Sprintf("%s-%s-%d.pprof", strings.ReplaceAll(row, "/", "-"), s, round))
}

// patience is how long one round, or the preparation of one side, may take.
const patience = 3 * time.Minute

// measure runs a row: the sides take turns, and who begins changes from round
// to round, so that a slow minute of the machine hits both.
func (b *bench) measure(ctx context.Context, r *row, rounds int) []*line {
	got := make(map[side]map[string][]float64)
	faults := make(map[side]error)
	probes := make(map[side]probe)
	for _, s := range r.sides {
		got[s] = make(map[string][]float64)
	}
	defer func() {
		for _, p := range probes {
			p.close()
		}
	}()
	for n := 1; n <= rounds; n++ {
		order := slices.Clone(r.sides)
		if n%2 == 0 {
			slices.Reverse(order)
		}
		for _, s := range order {
			if faults[s] != nil || ctx.Err() != nil {
				continue
			}
			begun := time.Now()
			v, err := b.round(ctx, r, s, n, probes)
			if err != nil {
				faults[s] = err
				fmt.Fprintf(b.progress, "%-14s %d/%d %-5s %v\n", r.id, n, rounds, s, err)
				continue
			}
			var text []string
			for _, f := range r.figures {
				got[s][f.name] = append(got[s][f.name], v[f.name])
				text = append(text, quantity(v[f.name], f.unit))
			}
			fmt.Fprintf(b.progress, "%-14s %d/%d %-5s %s (%.1f s)\n", r.id, n, rounds, s, strings.Join(text, ", "), time.Since(begun).Seconds())
		}
	}
	var lines []*line
	for _, f := range r.figures {
		l := newLine(r.id, f)
		if l.Bound != nil && b.slack > 1 {
			loose := *l.Bound * b.slack
			l.Bound = &loose
		}
		for _, s := range r.sides {
			l.set(s, spreadOf(got[s][f.name]))
			if faults[s] != nil {
				l.Errors = append(l.Errors, fmt.Sprintf("%s: %v", s, faults[s]))
			}
		}
		l.judge()
		lines = append(lines, l)
	}
	return lines
}

// round takes one sample of one side, and opens the side before if need be.
func (b *bench) round(parent context.Context, r *row, s side, n int, probes map[side]probe) (values, error) {
	// A process lives as long as the context it was started under, so the
	// limit for opening must not be a timeout of that context.
	p := probes[s]
	if p == nil {
		ctx, cancel := context.WithCancelCause(parent)
		limit := time.AfterFunc(patience, func() { cancel(errTooSlow) })
		var err error
		p, err = r.open(ctx, b, s)
		limit.Stop()
		if err != nil {
			err = slow(ctx, err)
			cancel(nil)
			return nil, fmt.Errorf("prepare: %w", err)
		}
		p = &owned{p, cancel}
	}
	if r.fresh {
		defer p.close()
	} else {
		probes[s] = p
	}
	ctx, cancel := context.WithTimeoutCause(parent, patience, errTooSlow)
	defer cancel()
	v, err := p.round(ctx, n)
	return v, slow(ctx, err)
}

var errTooSlow = fmt.Errorf("took longer than %v", patience)

// slow names the limit that ended something, if one did.
func slow(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, errTooSlow) {
		return cause
	}
	return err
}

// owned is a probe with the context that its processes live under.
type owned struct {
	probe
	cancel context.CancelCauseFunc
}

func (o *owned) close() {
	o.probe.close()
	o.cancel(nil)
}

func libp2pVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == "github.com/libp2p/go-libp2p" {
				return d.Version
			}
		}
	}
	return "of unknown version"
}
