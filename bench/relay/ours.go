package main

import (
	"context"
	"errors"
	"regexp"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/relay"
)

// This file is the only one that knows what our relay looks like.

// oursStep is where our relay decides on a reservation and writes it down.
var oursStep = regexp.MustCompile(`causeway/relay\.\(\*(Relay\)\.admit|table\)\.reserve)$`)

// startOurs is a node as an operator would run it, with the same limits lifted
// as stock's.
func startOurs(ctx context.Context, spec relaySpec) (*served, error) {
	resources, err := unlimitedResources()
	if err != nil {
		return nil, err
	}
	limits := relay.Limits{
		Reservations:          spec.Reservations,
		ReservationsPerIP:     spec.Reservations,
		ReservationsPerSubnet: spec.Reservations,
		ReservationsPerASN:    spec.Reservations,
		RequestsPerPeer:       relay.Unlimited,
		RequestsPerIP:         relay.Unlimited,
		Circuits:              spec.Circuits,
		CircuitsPerIP:         spec.Circuits,
		CircuitsPerPeer:       spec.Circuits,
		CircuitTime:           relay.Unlimited,
		CircuitBytes:          relay.Unlimited,
		Bandwidth:             spec.BytesPerSecond,
	}
	cfg := node.Config{
		Network:      "bench",
		Server:       true,
		Relay:        relay.On,
		RelayLimits:  limits,
		Relays:       -1,
		AllowPrivate: true,
		Listen:       listenAddrs(),
		Libp2p:       []libp2p.Option{libp2p.ResourceManager(resources)},
	}
	if spec.Ghosts {
		cfg.Relay = relay.Off // startHaunted brings its own
	}
	n, err := node.New(cfg)
	if err != nil {
		return nil, err
	}
	if err := n.Start(ctx); err != nil {
		return nil, err
	}
	stop := n.Close
	if spec.Ghosts {
		quit, err := startHaunted(ctx, relay.Config{Host: n.Host(), Mode: relay.On, Limits: limits, AllowPrivate: true})
		if err != nil {
			return nil, errors.Join(err, n.Close())
		}
		stop = func() error { return errors.Join(quit(), n.Close()) }
	}
	// It serves from a goroutine of its own a moment later.
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, err := hopHandler(n.Host()); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(errors.New("the relay does not serve"), stop())
		}
		time.Sleep(5 * time.Millisecond)
	}
	return &served{host: n.Host(), hold: holdByAsking(n.Host()), step: oursStep, capped: true, close: stop}, nil
}

// startHaunted runs a relay on a host that takes everybody for connected. Ours
// looks, and takes back the reservation of who is not.
func startHaunted(ctx context.Context, cfg relay.Config) (stop func() error, err error) {
	cfg.Host = hauntedHost{cfg.Host}
	r, err := relay.New(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	var fault error // of Run, once it has ended
	running.Go(func() { fault = r.Run(ctx) })
	return func() error {
		cancel()
		running.Wait()
		return fault
	}, nil
}

type hauntedHost struct{ host.Host }

func (h hauntedHost) Network() network.Network { return hauntedNetwork{h.Host.Network()} }

type hauntedNetwork struct{ network.Network }

func (hauntedNetwork) Connectedness(peer.ID) network.Connectedness { return network.Connected }
