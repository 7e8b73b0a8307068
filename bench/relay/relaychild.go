package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"runtime/pprof"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/bench/child"
)

// relaySpec is what both relays are given alike.
type relaySpec struct {
	// Reservations is how many it may hold, and Circuits how many one peer may
	// have open.
	Reservations int `json:"reservations"`
	Circuits     int `json:"circuits"`
	// BytesPerSecond caps what is relayed altogether, where a relay can do
	// that. If zero, nothing is capped.
	BytesPerSecond int64 `json:"bytes_per_second"`
	// Ghosts tells that those who reserve are not there (ghost.go).
	Ghosts bool `json:"ghosts"`
}

// served is a relay that serves.
type served struct {
	host host.Host
	// hold makes it hold n reservations, of peers 0 to n-1, without them.
	hold func(ctx context.Context, n int) error
	// step matches the functions that change the reservations, without the
	// voucher, the messages and the stream.
	step *regexp.Regexp
	// capped tells that BytesPerSecond is kept.
	capped bool
	close  func() error
}

// relayInfo is what clients need to know.
type relayInfo struct {
	ID     string   `json:"id"`
	Addrs  []string `json:"addrs"`
	Capped bool     `json:"capped"`
}

// relayChild is a relay in a process of its own.
type relayChild struct {
	profiler
	start func(context.Context, relaySpec) (*served, error)
	relay *served
}

func newRelayChild(start func(context.Context, relaySpec) (*served, error)) *relayChild {
	return &relayChild{start: start}
}

func (c *relayChild) actions() child.Actions {
	return child.Actions{
		"start":     child.Action(c.serve),
		"usage":     child.Action(measureUsage),
		"profile":   child.Action(c.begin),
		"unprofile": child.Action(c.end),
		"hold":      child.Action(c.hold),
		"reserve":   child.Action(c.reserve),
	}
}

func (c *relayChild) serve(ctx context.Context, spec relaySpec) (relayInfo, error) {
	r, err := c.start(ctx, spec)
	if err != nil {
		return relayInfo{}, err
	}
	c.relay = r
	info := relayInfo{ID: r.host.ID().String(), Capped: r.capped}
	for _, a := range r.host.Network().ListenAddresses() {
		info.Addrs = append(info.Addrs, a.String())
	}
	return info, nil
}

// listenAddrs are what both relays listen on, at ports of the kernel's choice.
func listenAddrs() []ma.Multiaddr {
	return []ma.Multiaddr{
		ma.StringCast("/ip4/127.0.0.1/tcp/0"),
		ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1"),
		ma.StringCast("/ip4/127.0.0.1/tcp/0/ws"),
	}
}

// unlimitedResources counts everything and refuses nothing: the default limits
// are made for strangers from many addresses.
func unlimitedResources() (network.ResourceManager, error) {
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(rcmgr.InfiniteLimits))
}

// holdPatience is how long a relay may take to fill up: a reservation that
// costs 50 µs is 5 s for 100,000 of them, and one that looks through all the
// others would be at it for hours.
const holdPatience = time.Minute

func (c *relayChild) hold(ctx context.Context, n int) (child.None, error) {
	ctx, cancel := context.WithTimeout(ctx, holdPatience)
	defer cancel()
	err := c.relay.hold(ctx, n)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%d reservations take more than %v", n, holdPatience)
	}
	return child.None{}, err
}

// reserveArgs ask for RESERVEs while Held reservations are held.
type reserveArgs struct {
	Held int `json:"held"`
	// Seconds are measured at a time, as often as it takes to have so many
	// samples.
	Seconds float64 `json:"seconds"`
	Samples int64   `json:"samples"`
	Profile string  `json:"profile"` // of the last time; empty if none is wanted
}

// reserveResult tells what one RESERVE cost.
type reserveResult struct {
	Count int     `json:"count"`
	CPU   float64 `json:"cpu_us"`  // of the process, for one
	Step  float64 `json:"step_us"` // of that, for the change of state
}

// reserve refreshes reservations that are held, one after the other, through
// the relay's own handler.
func (c *relayChild) reserve(ctx context.Context, a reserveArgs) (reserveResult, error) {
	var r reserveResult
	hop, err := hopHandler(c.relay.host)
	if err != nil {
		return r, err
	}
	// A few thousand peers in turn, so that the caches are as cold as they are
	// in life.
	peers := make([]*ghost, min(a.Held, 4096))
	for i := range peers {
		peers[i] = newGhost(i * (a.Held / len(peers)))
	}
	runtime.GC()
	var cpu float64
	var step, samples int64
	for range maxSlices {
		used, profile, err := c.slice(ctx, a.Seconds, func() error {
			defer func() { r.Count++ }()
			return peers[r.Count%len(peers)].reserve(ctx, hop)
		})
		if err != nil {
			return r, err
		}
		cpu += used
		matching, all, err := samplesOf(profile, c.relay.step)
		if err != nil {
			return r, fmt.Errorf("profile: %w", err)
		}
		step, samples = step+matching, samples+all
		if a.Profile != "" {
			if err := os.WriteFile(a.Profile, profile, 0o644); err != nil {
				return r, err
			}
		}
		if samples >= a.Samples {
			break
		}
	}
	if samples < a.Samples {
		return r, fmt.Errorf("%d samples in %d profiles of %v s, want %d", samples, maxSlices, a.Seconds, a.Samples)
	}
	r.CPU = cpu * 1e6 / float64(r.Count)
	if samples > 0 {
		r.Step = r.CPU * float64(step) / float64(samples)
	}
	return r, nil
}

// maxSlices bounds how long is waited for the samples. The kernel owes 100 for
// each second of CPU, and a busy virtual machine gives a few.
const maxSlices = 12

// slice calls f for so many seconds, and returns the CPU that took and its
// profile.
func (c *relayChild) slice(ctx context.Context, seconds float64, f func() error) (cpu float64, zipped []byte, err error) {
	var profile bytes.Buffer
	if err := pprof.StartCPUProfile(&profile); err != nil {
		return 0, nil, err
	}
	before, err := cpuSeconds()
	for end := time.Now().Add(time.Duration(seconds * float64(time.Second))); err == nil; {
		if err = f(); time.Now().After(end) {
			break
		}
	}
	after, uerr := cpuSeconds()
	pprof.StopCPUProfile()
	return after - before, profile.Bytes(), errors.Join(err, uerr, ctx.Err())
}

// holdByAsking makes a relay hold n reservations through its own handler.
func holdByAsking(h host.Host) func(context.Context, int) error {
	return func(ctx context.Context, n int) error {
		hop, err := hopHandler(h)
		if err != nil {
			return err
		}
		for i := range n {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := newGhost(i).reserve(ctx, hop); err != nil {
				return fmt.Errorf("reservation %d: %w", i, err)
			}
		}
		return nil
	}
}
