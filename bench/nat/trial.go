//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/bench/child"
	"github.com/causeway-p2p/causeway/internal/natlab"
	"github.com/causeway-p2p/causeway/node"
)

const (
	// pairServers is how many public machines there are beside a pair: one to
	// relay, all to observe.
	pairServers = 3
	// judgeServers is how many there are beside a node that judges itself, which
	// is told of the first known: stock believes an address that four have seen.
	// The others are strangers to it: it never dials them.
	judgeServers, known = 7, 4
)

// trial is one try of one pair, and what came of it.
type trial struct {
	Pair      string `json:"pair"`
	Transport string `json:"transport"`
	Impl      impl   `json:"impl"`
	N         int    `json:"trial"`
	outcome
	// Settle is how long the nodes took until they were ready to call.
	Settle float64 `json:"settle_s"`
	// Packets is how many packets the two nodes sent from the call to its
	// outcome, over all their connections.
	Packets int `json:"packets"`
	// Attempts is what nodes of ours say of their attempts.
	Attempts []string `json:"attempts,omitempty"`
	// Broken tells that nothing was measured, and Err why.
	Broken bool `json:"broken,omitempty"`
}

// world is a lab with its processes.
type world struct {
	lab      *natlab.Lab
	children []*child.Process
	servers  []peer.AddrInfo
}

// inWorld makes a fresh internet with its servers, and hands it to f. Nothing
// is left of it when it returns: no process, no mapping.
func inWorld(ctx context.Context, i impl, transport string, servers int, f func(context.Context, *world) error) error {
	return natlab.Use("", func(lab *natlab.Lab) error {
		lab.Delay(oneWay)
		w := &world{lab: lab}
		defer w.close()
		for n := range servers {
			c, err := w.start(ctx, lab.Public(fmt.Sprint("server", n)), serverRole)
			if err != nil {
				return err
			}
			info, err := child.Ask[peer.AddrInfo](ctx, c, "start", nodeSpec{Impl: i, Transport: transport, Servers: w.servers})
			if err != nil {
				return err
			}
			w.servers = append(w.servers, info)
		}
		return f(ctx, w)
	})
}

func (w *world) start(ctx context.Context, m *natlab.Machine, role string) (*child.Process, error) {
	c, err := startChild(ctx, m, role)
	if err == nil {
		w.children = append(w.children, c)
	}
	return c, err
}

// close kills: a node that ends in order takes longer, and is of no use.
func (w *world) close() {
	for _, c := range w.children {
		c.Kill()
	}
	for _, c := range w.children {
		c.Close()
	}
}

// trialPatience bounds a trial, with all that is before and after.
const trialPatience = 2 * time.Minute

// try runs one trial. What goes wrong before the call is in the result, too.
func try(ctx context.Context, p pair, transport string, i impl, n int) trial {
	t := trial{Pair: p.id, Transport: transport, Impl: i, N: n}
	ctx, cancel := context.WithTimeout(ctx, trialPatience)
	defer cancel()
	to, from := i.sides()
	err := inWorld(ctx, i.servers(), transport, pairServers, func(ctx context.Context, w *world) error {
		a, b := p.build(w.lab)
		keys, ids, err := identities(2)
		if err != nil {
			return err
		}
		spec := nodeSpec{Transport: transport, Servers: w.servers}
		toSpec, fromSpec := spec, spec
		toSpec.Impl, fromSpec.Impl = to, from
		toSpec.Key, toSpec.Other, toSpec.Relayed = keys[0], ids[1], true
		fromSpec.Key, fromSpec.Other = keys[1], ids[0]
		relayed, err := w.start(ctx, a, peerRole)
		if err != nil {
			return err
		}
		caller, err := w.start(ctx, b, peerRole)
		if err != nil {
			return err
		}
		begun := time.Now()
		var circuits []ma.Multiaddr
		var errTo, errFrom error
		var both sync.WaitGroup
		both.Go(func() { circuits, errTo = prepare(ctx, relayed, toSpec) })
		both.Go(func() { _, errFrom = prepare(ctx, caller, fromSpec) })
		both.Wait()
		if err := errors.Join(errTo, errFrom); err != nil {
			return err
		}
		t.Settle = time.Since(begun).Seconds()
		for _, c := range []*child.Process{relayed, caller} {
			if err := child.Tell(ctx, c, "meet", child.None{}); err != nil {
				return err
			}
		}
		before := sent(a) + sent(b)
		if t.outcome, err = child.Ask[outcome](ctx, caller, "call", circuits); err != nil {
			return err
		}
		t.Packets = sent(a) + sent(b) - before
		for _, c := range []*child.Process{relayed, caller} {
			list, err := child.Ask[[]string](ctx, c, "attempts", child.None{})
			if err != nil {
				return err
			}
			t.Attempts = append(t.Attempts, list...)
		}
		return nil
	})
	if err != nil {
		t.outcome, t.Broken = outcome{Err: err.Error()}, true
	}
	return t
}

// sent is how many packets a machine has sent; 0 if the kernel does not say.
func sent(m *natlab.Machine) (packets int) {
	_ = m.Do(func() error {
		table, err := os.ReadFile("/proc/thread-self/net/dev")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(table)) {
			// Two header lines, and 16 numbers for each interface: the tenth is
			// packets sent.
			name, figures, ok := strings.Cut(line, ":")
			if list := strings.Fields(figures); ok && strings.TrimSpace(name) == "eth0" && len(list) == 16 {
				packets, err = strconv.Atoi(list[9])
			}
		}
		return err
	})
	return packets
}

// prepare starts a node, waits until it has settled, and returns its circuit
// addresses.
func prepare(ctx context.Context, c *child.Process, spec nodeSpec) ([]ma.Multiaddr, error) {
	if err := child.Tell(ctx, c, "start", spec); err != nil {
		return nil, err
	}
	return child.Ask[[]ma.Multiaddr](ctx, c, "settle", child.None{})
}

// identities makes private keys, and the IDs that belong to them.
func identities(n int) (keys [][]byte, ids []peer.ID, err error) {
	for range n {
		key, err := node.NewIdentity()
		if err != nil {
			return nil, nil, err
		}
		raw, err := crypto.MarshalPrivateKey(key)
		if err != nil {
			return nil, nil, err
		}
		id, err := peer.IDFromPrivateKey(key)
		if err != nil {
			return nil, nil, err
		}
		keys, ids = append(keys, raw), append(ids, id)
	}
	return keys, ids, nil
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
	err := inWorld(ctx, i, both, judgeServers, func(ctx context.Context, w *world) error {
		for _, c := range w.children {
			if _, err := child.Ask[float64](ctx, c, "settle", child.None{}); err != nil {
				return err
			}
		}
		m, _ := home(w.lab, n, "node")
		c, err := w.start(ctx, m, peerRole)
		if err != nil {
			return err
		}
		keys, _, err := identities(1)
		if err != nil {
			return err
		}
		spec := nodeSpec{Impl: i, Transport: both, Servers: w.servers[:known], Judge: true, Key: keys[0]}
		for _, s := range w.servers[known:] {
			spec.Strangers = append(spec.Strangers, s.ID)
		}
		if err := child.Tell(ctx, c, "start", spec); err != nil {
			return err
		}
		j.Verdicts, err = child.Ask[[]verdict](ctx, c, "verdict", child.None{})
		return err
	})
	if err != nil {
		j.Err = err.Error()
	}
	return j
}
