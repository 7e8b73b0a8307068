//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/causeway-p2p/causeway/internal/natlab"
)

// wanted picks the cells and the verdicts that the flags ask for.
func (o options) wanted() (cells []*cell, judges []network, err error) {
	for _, p := range pairs() {
		list := p.transports
		if o.quick {
			list = p.quick
		}
		for _, t := range list {
			if o.rows.MatchString(p.id) && (len(o.transports) == 0 || slices.Contains(o.transports, t)) {
				cells = append(cells, newCell(p, t))
			}
		}
	}
	list := append([]network{public}, natted...)
	if o.quick {
		list = []network{public, addressRestricted, portRestricted, symmetric}
	}
	for _, n := range list {
		if o.rows.MatchString("verdict/" + id(n)) {
			judges = append(judges, n)
		}
	}
	if len(cells)+len(judges) == 0 {
		return nil, nil, fmt.Errorf("no pair and no verdict matches %q", o.rows)
	}
	return cells, judges, nil
}

// probe says early what a lab lacks.
func probe() error {
	return natlab.Use("", func(lab *natlab.Lab) error {
		lab.Delay(oneWay)
		return nil
	})
}

// runner runs trials, several at a time.
type runner struct {
	options
	progress io.Writer

	mu sync.Mutex // guards progress, and what trials are added to
}

// measure runs all trials, and returns the verdicts; the cells keep theirs.
// Stock and ours take turns, and who begins changes from round to round, so
// that a slow minute of the machine hits both.
func (r *runner) measure(ctx context.Context, cells []*cell, judges []network) []judged {
	var verdicts []judged
	var jobs []func()
	for n := 1; n <= r.trials; n++ {
		impls := slices.Clone(r.impls)
		if n%2 == 0 {
			slices.Reverse(impls)
		}
		for _, network := range judges {
			for _, i := range impls {
				if i.mixed() {
					continue // one node judges itself
				}
				jobs = append(jobs, func() {
					j := judge(ctx, network, i, n)
					r.note(ctx, fmt.Sprintf("%-36s      %-5s %d  %s", "verdict/"+id(network), i, n, j), func() {
						verdicts = append(verdicts, j)
					})
				})
			}
		}
		for _, c := range cells {
			jobs = append(jobs, r.round(ctx, c, impls, n)...)
		}
	}
	r.work(ctx, jobs)
	slices.SortStableFunc(verdicts, func(a, b judged) int { return a.N - b.N })
	return verdicts
}

// round is one trial of each impl.
func (r *runner) round(ctx context.Context, c *cell, impls []impl, n int) (jobs []func()) {
	for _, i := range impls {
		jobs = append(jobs, func() {
			t := try(ctx, c.pair, c.Transport, i, n)
			r.note(ctx, fmt.Sprintf("%-36s %-4s %-5s %d  %s (settled in %.1f s)", c.ID, c.Transport, i, n, t.outcome, t.Settle), func() {
				c.Trials = append(c.Trials, t)
			})
		})
	}
	return jobs
}

// again tries once more what has missed its bound or could not be measured, in
// case that was the machine, and returns the verdicts that count.
func (r *runner) again(ctx context.Context, cells []*cell, verdicts []judged) []judged {
	var retry []*cell
	for _, c := range cells {
		if why := append(c.missed(), c.broken()...); len(why) > 0 {
			fmt.Fprintf(r.progress, "once more, in case that was noise: %s\n", why[0])
			c.First, c.Trials = c.Trials, nil
			retry = append(retry, c)
		}
	}
	var judges []network
	var good []judged
	for n, list := range byNetwork(verdicts) {
		missed, broken := missedVerdicts(list)
		if why := append(missed, broken...); len(why) > 0 {
			fmt.Fprintf(r.progress, "once more, in case that was noise: %s\n", why[0])
			judges = append(judges, n)
		} else {
			good = append(good, list...)
		}
	}
	return append(good, r.measure(ctx, retry, judges)...)
}

func byNetwork(list []judged) map[network][]judged {
	m := make(map[network][]judged)
	for _, j := range list {
		m[j.Network] = append(m[j.Network], j)
	}
	return m
}

// work runs jobs in order, several at a time.
func (r *runner) work(ctx context.Context, jobs []func()) {
	queue := make(chan func())
	var workers sync.WaitGroup
	for range r.parallel {
		workers.Go(func() {
			for job := range queue {
				job()
			}
		})
	}
	for _, job := range jobs {
		if ctx.Err() != nil {
			break
		}
		queue <- job
	}
	close(queue)
	workers.Wait()
}

// note tells what a trial was and keeps it, unless it was interrupted.
func (r *runner) note(ctx context.Context, line string, keep func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() == nil {
		fmt.Fprintln(r.progress, line)
		keep()
	}
}
