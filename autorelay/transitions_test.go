package autorelay

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
)

// path records the states that a relay goes through, from before do until ok,
// as they can be seen from outside when all that a moment brings has happened.
func (n *node) path(id peer.ID, limit time.Duration, do func(), ok func() bool) (states []State) {
	n.w.Helper()
	look := func() {
		synctest.Wait()
		if s := n.state(id).State; s != "" && (len(states) == 0 || s != states[len(states)-1]) {
			states = append(states, s)
		}
	}
	look()
	do()
	for begun := time.Now(); ; time.Sleep(max(time.Millisecond, limit/20000)) {
		look()
		if ok() {
			return states
		}
		if time.Since(begun) > limit {
			n.w.Fatalf("not within %v; states %v; events:%s", limit, states, n.story())
		}
	}
}

// TestTransitions walks along the arrows of the diagram in the package doc. A
// candidate that is wanted is asked in the same moment, so the state candidate
// shows only when nothing is missing.
func TestTransitions(t *testing.T) {
	type scene struct {
		*world
		n       *node
		r, held *stock // the relay that is watched, and one that we hold before
	}
	is := func(s State) func(c *scene) bool {
		return func(c *scene) bool { return c.n.state(c.r.ID()).State == s }
	}
	reserved := func(c *scene) {
		c.n.add(c.r)
		c.n.settled(c.r)
	}
	satisfied := func(c *scene) {
		c.away.Store(c.held.box.IP(), 150*time.Millisecond)
		c.n.add(c.held)
		c.n.within(3*time.Second, "another held", c.n.advertised)
	}
	full := relayv2.DefaultResources()
	full.MaxReservations = 0
	for _, c := range []struct {
		name    string
		opts    []relayv2.Option
		prepare func(*scene)
		do      func(*scene)
		until   func(*scene) bool
		limit   time.Duration
		want    []State
	}{
		{
			name: "found and given", do: func(c *scene) { c.n.add(c.r) }, until: is(Reserved), limit: time.Second,
			want: []State{Reserving, Reserved},
		},
		{
			name: "refused", opts: []relayv2.Option{relayv2.WithResources(full)}, do: func(c *scene) { c.n.add(c.r) }, until: is(BackingOff), limit: time.Second,
			want: []State{Reserving, BackingOff},
		},
		{
			name: "unreachable", do: func(c *scene) { c.r.box.Kill(); c.n.add(c.r) }, until: is(BackingOff), limit: reserveTimeout + time.Second,
			want: []State{Reserving, BackingOff},
		},
		{
			name: "pause over", do: func(c *scene) { c.r.deny.Store(true); c.n.add(c.r) }, until: func(c *scene) bool { return len(c.n.seen(Failed, "")) == 2 },
			limit: retryForbidden + time.Minute, want: []State{Reserving, BackingOff, Reserving, BackingOff},
		},
		{
			name: "not needed yet", prepare: satisfied, do: func(c *scene) { c.n.add(c.r) }, until: is(Known), limit: time.Second,
			want: []State{Known},
		},
		{
			name: "measured and better", prepare: satisfied, do: func(c *scene) { c.n.add(c.r) }, until: is(Reserved), limit: time.Minute,
			want: []State{Known, Probing, Reserving, Reserved},
		},
		{
			name: "measured and no better", prepare: func(c *scene) { satisfied(c); c.away.Store(c.r.box.IP(), 160*time.Millisecond) },
			do: func(c *scene) { c.n.add(c.r) }, until: func(c *scene) bool { return c.n.state(c.r.ID()).RTT > 0 }, limit: time.Minute,
			want: []State{Known, Probing, Known},
		},
		{
			name: "measured and dead", prepare: func(c *scene) { satisfied(c); c.r.box.Kill() }, do: func(c *scene) { c.n.add(c.r) }, until: is(BackingOff), limit: time.Minute,
			want: []State{Known, Probing, BackingOff},
		},
		{
			name: "ousted by a better one", prepare: func(c *scene) {
				c.away.Store(c.r.box.IP(), 150*time.Millisecond)
				c.n.add(c.r)
				c.n.within(3*time.Second, "held", c.n.advertised)
			},
			do: func(c *scene) { c.n.add(c.held) }, until: is(Known), limit: time.Minute,
			want: []State{Reserved, Known},
		},
		{
			name: "refreshed", prepare: reserved, do: func(*scene) {}, until: func(c *scene) bool { return c.r.asked.Load() == 2 }, limit: time.Hour,
			want: []State{Reserved},
		},
		{
			name: "lost: connection", prepare: reserved, do: func(c *scene) { c.r.Close() }, until: is(BackingOff), limit: time.Second,
			want: []State{Reserved, BackingOff},
		},
		{
			name: "lost: probes", prepare: reserved, do: func(c *scene) { c.r.box.Kill() }, until: is(BackingOff), limit: 3 * time.Second,
			want: []State{Reserved, BackingOff},
		},
		{
			name: "lost: hop withdrawn", prepare: reserved, do: func(c *scene) { c.r.service.Close() }, until: is(BackingOff), limit: time.Second,
			want: []State{Reserved, BackingOff},
		},
		{
			name: "drains and leaves", prepare: reserved, do: func(c *scene) {
				c.n.Draining(c.r.ID(), time.Minute, nil)
				time.Sleep(time.Millisecond)
				c.r.service.Close()
			},
			until: is(BackingOff), limit: time.Second, want: []State{Reserved, Draining, BackingOff},
		},
		{
			name: "drains and another takes over", prepare: reserved, do: func(c *scene) {
				c.n.Draining(c.r.ID(), 5*time.Second, nil)
				time.Sleep(time.Millisecond)
				c.n.add(c.held)
			},
			until: is(BackingOff), limit: 6 * time.Second, want: []State{Reserved, Draining, BackingOff},
		},
		{
			name: "drains and stays", prepare: reserved, do: func(c *scene) { c.n.Draining(c.r.ID(), 5*time.Second, nil); time.Sleep(time.Millisecond) },
			until: func(c *scene) bool { return c.r.asked.Load() == 2 }, limit: 6 * time.Second, want: []State{Reserved, Draining, Reserved},
		},
		{
			name: "not needed", prepare: reserved, do: func(c *scene) { c.n.Want(false) }, until: is(Known), limit: time.Second,
			want: []State{Reserved, Known},
		},
		{
			name: "banned", prepare: reserved, do: func(c *scene) { c.n.SetWish(c.r.ID(), Banned) }, until: is(Known), limit: time.Second,
			want: []State{Reserved, Known},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				s := &scene{world: w, n: w.node(only()), r: w.relay(c.opts...), held: w.relay()}
				if c.prepare != nil {
					c.prepare(s)
				}
				got := s.n.path(s.r.ID(), c.limit, func() { c.do(s) }, func() bool { return c.until(s) })
				if !slices.Equal(got, c.want) {
					t.Errorf("states: got %q, want %q; events:%s", got, c.want, s.n.story())
				}
			})
		})
	}
}
