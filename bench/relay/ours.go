package main

import (
	"context"
	"errors"
	"time"

	"github.com/libp2p/go-libp2p"

	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/relay"
)

// This file is the only one that knows what our relay looks like.

// oursStep is where our relay changes its reservations.
var oursStep = stockStep

// startOurs is a node as an operator would run it, with the same limits lifted
// as stock's.
func startOurs(ctx context.Context, spec relaySpec) (*served, error) {
	resources, err := unlimitedResources()
	if err != nil {
		return nil, err
	}
	n, err := node.New(node.Config{
		Network:      "bench",
		Server:       true,
		Relay:        relay.On,
		Relays:       -1,
		AllowPrivate: true,
		Listen:       listenAddrs(),
		RelayLimits: relay.Limits{
			Reservations:       spec.Reservations,
			ReservationsPerIP:  spec.Reservations,
			ReservationsPerASN: spec.Reservations,
			CircuitsPerPeer:    spec.Circuits,
			CircuitTime:        relay.Unlimited,
			CircuitBytes:       relay.Unlimited,
		},
		Libp2p: []libp2p.Option{libp2p.ResourceManager(resources)},
	})
	if err != nil {
		return nil, err
	}
	if err := n.Start(ctx); err != nil {
		return nil, err
	}
	// It serves from a goroutine of its own a moment after Start.
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, err := hopHandler(n.Host()); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(errors.New("the relay does not serve"), n.Close())
		}
		time.Sleep(5 * time.Millisecond)
	}
	return &served{
		host:   n.Host(),
		hold:   holdByAsking(n.Host()),
		step:   oursStep,
		capped: false, // relay.Limits has no bandwidth yet: spec.BytesPerSecond
		close:  n.Close,
	}, nil
}
