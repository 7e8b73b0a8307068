package autorelay

import (
	"context"
	"errors"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"

	"github.com/causeway-p2p/causeway/internal/echo"
)

// probed is the outcome of one liveness probe.
type probed struct {
	rtt     time.Duration
	err     error
	visited bool // measure had to connect
}

// probing is the goroutine that probes one relay.
type probing struct {
	stop context.CancelFunc
	kick chan struct{} // probe now
}

const (
	// probeTimeout is how long a probe may take on a path whose round trip
	// time is not known to be longer. With the default interval, two missed
	// probes and a new reservation fit into 3 s; so does one retransmission
	// by the transport into each probe.
	probeTimeout = 800 * time.Millisecond
	// maxMissed probes in a row mean that the relay is gone. One may be lost.
	maxMissed = 2
)

// startProbe keeps probing r until its reservation ends.
func (a *AutoRelay) startProbe(r *relay) {
	ctx, cancel := context.WithCancel(context.Background())
	pr := &probing{stop: cancel, kick: make(chan struct{}, 1)}
	r.probe = pr
	p := prober{host: a.cfg.Host, relay: r.id}
	a.work.Go(func() {
		defer cancel()
		defer p.close()
		timeout := probeTimeout
		for {
			out := p.probe(ctx, timeout)
			if out.err == nil {
				timeout = max(probeTimeout, 4*out.rtt)
			}
			select {
			case a.reports <- report{relay: p.relay, probe: &out}:
			case <-ctx.Done():
				return
			}
			if out.err != nil {
				continue // the second chance comes at once
			}
			select {
			case <-time.After(a.probePause(p.relay)):
			case <-pr.kick:
			case <-ctx.Done():
				return
			}
		}
	})
}

// probePause is the time until the next probe: short while others reach us
// through the relay, and otherwise as the user wants it.
func (a *AutoRelay) probePause(id peer.ID) time.Duration {
	if a.cfg.IdleProbeInterval <= a.cfg.ProbeInterval {
		return a.cfg.ProbeInterval
	}
	for _, c := range a.cfg.Host.Network().ConnsToPeer(id) {
		if inUse(c) {
			return a.cfg.ProbeInterval
		}
	}
	return a.cfg.IdleProbeInterval
}

// probeAll has every relay probed now: our own network changed.
func (a *AutoRelay) probeAll() {
	for _, r := range a.relays {
		if r.probe != nil {
			select {
			case r.probe.kick <- struct{}{}:
			default:
			}
		}
	}
}

func (a *AutoRelay) handleProbe(r *relay, p probed, now time.Time) {
	if !r.holds() {
		return
	}
	if p.err == nil {
		if r.missed > 0 {
			r.missed = 0
			a.trim(now)
			a.fillShown(now)
		}
		r.smooth(p.rtt)
		return
	}
	if a.cfg.Host.Network().Connectedness(r.id) != network.Connected {
		a.lose(r, ConnectionLost, "", now) // faster than the event that says so
		return
	}
	r.missed++
	log.Debug("probe missed", "relay", r.id, "missed", r.missed, "err", p.err)
	if r.missed >= maxMissed {
		a.lose(r, ProbesMissed, "", now)
	}
}

// smooth takes in a round trip time as RFC 6298, section 2, does.
func (r *relay) smooth(rtt time.Duration) {
	if r.rtt == 0 {
		r.rtt = rtt
	}
	r.rtt += (rtt - r.rtt) / 8
}

// measureTimeout bounds connecting to a relay and one probe of it, when there
// is no hurry.
const measureTimeout = 10 * time.Second

// measure finds the round trip time to a relay that we may want.
func (a *AutoRelay) measure(ctx context.Context, r *relay, now time.Time) {
	r.busy = true
	r.state, r.since = Probing, now
	info := peer.AddrInfo{ID: r.id, Addrs: r.addrs}
	a.work.Go(func() {
		mctx, cancel := context.WithTimeout(ctx, measureTimeout)
		defer cancel()
		a.clearDialBackoff(info.ID)
		visited := a.cfg.Host.Network().Connectedness(info.ID) != network.Connected
		var out probed
		out.err = a.cfg.Host.Connect(network.WithForceDirectDial(mctx, "autorelay"), info)
		p := prober{host: a.cfg.Host, relay: info.ID}
		defer p.close()
		if out.err == nil {
			out = p.probe(mctx, measureTimeout)
		}
		out.visited = visited
		select {
		case a.reports <- report{relay: info.ID, measure: &out}:
		case <-ctx.Done():
		}
	})
}

func (a *AutoRelay) handleMeasured(ctx context.Context, r *relay, p probed, now time.Time) {
	if r.state != Probing {
		return
	}
	if p.err != nil {
		a.fail(r, Unreachable, sentence(p.err), now)
		return
	}
	r.smooth(p.rtt)
	r.measured = now
	a.challenge(ctx, r, p.visited, now)
}

// prober keeps one ping stream to a relay open between probes.
type prober struct {
	host   host.Host
	relay  peer.ID
	stream network.Stream
	begun  bool // there was a stream before
}

// probe makes one round trip, and at first a second one, because only that
// tells how far away the relay is. A stream that breaks tells nothing about the
// relay: go-libp2p's ends after 30 s (v0.51, p2p/protocol/ping/ping.go).
func (p *prober) probe(ctx context.Context, timeout time.Duration) (out probed) {
	if p.stream != nil {
		out = p.ask(ctx, timeout)
		if out.err == nil || errors.Is(out.err, context.DeadlineExceeded) {
			return out
		}
	}
	if out = p.ask(ctx, timeout); out.err != nil || p.begun {
		return out
	}
	p.begun = true
	return p.ask(ctx, timeout)
}

func (p *prober) ask(ctx context.Context, timeout time.Duration) (out probed) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if p.stream == nil {
		s, err := p.host.NewStream(network.WithNoDial(ctx, "probe"), p.relay, ping.ID)
		if err != nil {
			return probed{err: err}
		}
		p.stream = s
	}
	if out.rtt, out.err = echo.Ask(ctx, p.stream); out.err != nil {
		p.close()
	}
	return out
}

func (p *prober) close() {
	if p.stream != nil {
		p.stream.Reset()
		p.stream = nil
	}
}
