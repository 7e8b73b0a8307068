package relay_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"

	"github.com/causeway-p2p/causeway/relay"
)

// A relay that is about to stop must not look like one that serves: those who
// hold a reservation would go on advertising it.
func TestDrainWithdrawsHop(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	server, peerHost := newHost(t), newHost(t)
	r, err := relay.New(relay.Config{Host: server, Mode: relay.On, AllowPrivate: true})
	if err != nil {
		t.Fatal(err)
	}
	run, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- r.Run(run) }()
	defer func() {
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	}()

	sub, err := peerHost.EventBus().Subscribe(new(event.EvtPeerProtocolsUpdated))
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	info := peer.AddrInfo{ID: server.ID(), Addrs: server.Addrs()}
	if err := peerHost.Connect(ctx, info); err != nil {
		t.Fatal(err)
	}
	for _, err := client.Reserve(ctx, peerHost, info); err != nil; _, err = client.Reserve(ctx, peerHost, info) {
		if ctx.Err() != nil {
			t.Fatalf("no reservation before draining: %v", err)
		}
	}
	r.DrainFor(0, nil)
	for {
		select {
		case ev := <-sub.Out():
			if slices.Contains(ev.(event.EvtPeerProtocolsUpdated).Removed, proto.ProtoIDv2Hop) {
				if _, err := client.Reserve(ctx, peerHost, info); err == nil {
					t.Error("a draining relay gave a reservation")
				}
				return
			}
		case <-ctx.Done():
			t.Fatal("the peer was not told that the relay stops serving")
		}
	}
}

func newHost(t *testing.T) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/udp/0/quic-v1"), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}
