package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"sync"
	"time"
	"unsafe"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// startStock is go-libp2p's relay in go-libp2p's host with everything at its
// default, except for what would refuse or end what is measured.
func startStock(_ context.Context, spec relaySpec) (*served, error) {
	resources, err := unlimitedResources()
	if err != nil {
		return nil, err
	}
	// The default would close connections above 192. These are ours.
	cm, err := connmgr.NewConnManager(4096, 6144)
	if err != nil {
		return nil, err
	}
	h, err := libp2p.New(
		libp2p.ListenAddrs(listenAddrs()...),
		libp2p.ResourceManager(resources),
		libp2p.ConnectionManager(cm),
		libp2p.DisableMetrics(), // as ours without a Registerer
	)
	if err != nil {
		return nil, err
	}
	rc := relayv2.DefaultResources()
	rc.MaxReservations = spec.Reservations
	rc.MaxReservationsPerIP = spec.Reservations
	rc.MaxReservationsPerASN = spec.Reservations
	rc.MaxCircuits = spec.Circuits
	rc.Limit = nil
	r, err := relayv2.New(h, relayv2.WithResources(rc),
		// The default names public addresses only, and this is loopback.
		relayv2.WithReservationAddressFilter(func(ma.Multiaddr) bool { return true }))
	if err != nil {
		h.Close()
		return nil, err
	}
	return &served{
		host: h,
		hold: func(_ context.Context, n int) error {
			for _, p := range stockFill(r, n, time.Now().Add(rc.ReservationTTL)) {
				h.ConnManager().TagPeer(p, "relay-reservation", relayv2.ReservationTagWeight)
			}
			return nil
		},
		step:  stockStep,
		close: func() error { return errors.Join(r.Close(), h.Close()) },
	}, nil
}

// stockStep is where go-libp2p's relay looks through its reservations.
var stockStep = regexp.MustCompile(`circuitv2/relay\.\(\*constraints\)\.Reserve$`)

// stockFill makes a relay hold n reservations, as if peers 0 to n-1 had asked,
// and returns those that are new. Through its handler 100,000 would take an hour, because
// each looks through all before it. What is written here is what handleReserve
// writes (go-libp2p v0.51.0, p2p/protocol/circuitv2/relay/relay.go and
// constraints.go); a test compares the two.
func stockFill(r *relayv2.Relay, n int, expire time.Time) []peer.ID {
	relay := reflect.ValueOf(r).Elem()
	mx := (*sync.Mutex)(unsafe.Pointer(relay.FieldByName("mx").UnsafeAddr()))
	mx.Lock()
	defer mx.Unlock()
	rsvp := reachable(relay.FieldByName("rsvp")).Interface().(map[peer.ID]time.Time)
	constraints := relay.FieldByName("constraints").Elem()
	total, ips := reachable(constraints.FieldByName("total")), reachable(constraints.FieldByName("ips"))
	var peers []peer.ID
	for i := range n {
		g := newGhost(i)
		if _, held := rsvp[g.id]; held {
			continue
		}
		ip, err := manet.ToIP(g.addr)
		if err != nil {
			panic(fmt.Sprintf("ghost at %s: %v", g.addr, err))
		}
		entry := reflect.New(total.Type().Elem()).Elem()
		entry.FieldByName("Expiry").Set(reflect.ValueOf(expire))
		entry.FieldByName("Peer").Set(reflect.ValueOf(g.id))
		total.Set(reflect.Append(total, entry))
		key := reflect.ValueOf(ip.String())
		list := ips.MapIndex(key)
		if !list.IsValid() {
			list = reflect.Zero(ips.Type().Elem())
		}
		ips.SetMapIndex(key, reflect.Append(list, entry))
		rsvp[g.id] = expire
		peers = append(peers, g.id)
	}
	return peers
}

// reachable makes an unexported field one that can be read and set.
func reachable(v reflect.Value) reflect.Value {
	return reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem()
}
