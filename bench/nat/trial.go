//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/internal/natlab"
)

// servers is how many public machines there are: one to relay, three to
// observe and to dial back.
const servers = 3

// trial is one try of one pair, and what came of it.
type trial struct {
	Pair      string `json:"pair"`
	Transport string `json:"transport"`
	Impl      impl   `json:"impl"`
	N         int    `json:"trial"`
	outcome
	// Settle is how long the nodes took until they were ready to call.
	Settle float64 `json:"settle_s"`
	// Broken tells that nothing was measured, and Err why.
	Broken bool `json:"broken,omitempty"`
}

// world is a lab with its processes.
type world struct {
	lab      *natlab.Lab
	children []*child
	servers  []peer.AddrInfo
}

// inWorld makes a fresh internet with its servers, and hands it to f. Nothing
// is left of it when it returns: no process, no mapping.
func inWorld(ctx context.Context, i impl, transport string, f func(context.Context, *world) error) error {
	return natlab.Use("", func(lab *natlab.Lab) error {
		lab.Delay(oneWay)
		w := &world{lab: lab}
		defer w.close()
		for n := range servers {
			c, err := w.start(ctx, lab.Public(fmt.Sprint("server", n)), serverRole)
			if err != nil {
				return err
			}
			info, err := ask[peer.AddrInfo](ctx, c, "start", nodeSpec{Impl: i, Transport: transport, Servers: w.servers})
			if err != nil {
				return err
			}
			w.servers = append(w.servers, info)
		}
		return f(ctx, w)
	})
}

func (w *world) start(ctx context.Context, m *natlab.Machine, r role) (*child, error) {
	c, err := startChild(ctx, m, r)
	if err == nil {
		w.children = append(w.children, c)
	}
	return c, err
}

// close kills: a node that ends in order takes longer, and is of no use.
func (w *world) close() {
	for _, c := range w.children {
		c.kill()
	}
	for _, c := range w.children {
		c.close()
	}
}

// trialPatience bounds a trial, with all that is before and after.
const trialPatience = 2 * time.Minute

// try runs one trial. What goes wrong before the call is in the result, too.
func try(ctx context.Context, p pair, transport string, i impl, n int) trial {
	t := trial{Pair: p.id, Transport: transport, Impl: i, N: n}
	ctx, cancel := context.WithTimeout(ctx, trialPatience)
	defer cancel()
	err := inWorld(ctx, i, transport, func(ctx context.Context, w *world) error {
		a, b := p.build(w.lab)
		relayed, err := w.start(ctx, a, peerRole)
		if err != nil {
			return err
		}
		caller, err := w.start(ctx, b, peerRole)
		if err != nil {
			return err
		}
		begun := time.Now()
		var to callee
		ready := make(chan error, 2)
		go func() {
			var err error
			to, err = prepare(ctx, relayed, nodeSpec{Impl: i, Transport: transport, Servers: w.servers, Relayed: true})
			ready <- err
		}()
		go func() {
			_, err := prepare(ctx, caller, nodeSpec{Impl: i, Transport: transport, Servers: w.servers})
			ready <- err
		}()
		for range 2 {
			if fault := <-ready; fault != nil {
				err = fault
			}
		}
		if err != nil {
			return err
		}
		t.Settle = time.Since(begun).Seconds()
		t.outcome, err = ask[outcome](ctx, caller, "call", to)
		return err
	})
	if err != nil {
		t.outcome, t.Broken = outcome{Err: err.Error()}, true
	}
	return t
}

// prepare starts a node and waits until it has settled.
func prepare(ctx context.Context, c *child, spec nodeSpec) (callee, error) {
	id, err := ask[peer.ID](ctx, c, "start", spec)
	if err != nil {
		return callee{}, err
	}
	circuits, err := ask[[]ma.Multiaddr](ctx, c, "settle", none{})
	return callee{ID: id, Circuits: circuits}, err
}

// judged is what the judges of one node said.
type judged struct {
	Network  network   `json:"network"`
	Impl     impl      `json:"impl"`
	N        int       `json:"trial"`
	Verdicts []verdict `json:"verdicts"`
	Err      string    `json:"err,omitempty"`
}

// judge lets one node find out what it is behind.
func judge(ctx context.Context, n network, i impl, round int) judged {
	j := judged{Network: n, Impl: i, N: round}
	ctx, cancel := context.WithTimeout(ctx, trialPatience)
	defer cancel()
	err := inWorld(ctx, i, both, func(ctx context.Context, w *world) error {
		m, _ := home(w.lab, n, "node")
		c, err := w.start(ctx, m, peerRole)
		if err != nil {
			return err
		}
		if _, err := ask[peer.ID](ctx, c, "start", nodeSpec{Impl: i, Transport: both, Servers: w.servers, Judge: true}); err != nil {
			return err
		}
		j.Verdicts, err = ask[[]verdict](ctx, c, "verdict", none{})
		return err
	})
	if err != nil {
		j.Err = err.Error()
	}
	return j
}
