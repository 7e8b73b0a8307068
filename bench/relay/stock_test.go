package main

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
)

// stockState is what go-libp2p's relay knows of its reservations.
type stockState struct {
	rsvp       map[peer.ID]bool
	total, ips int
	order      []peer.ID
}

func stateOf(r *relayv2.Relay) (s stockState) {
	v := reflect.ValueOf(r).Elem()
	s.rsvp = make(map[peer.ID]bool)
	for p := range reachable(v.FieldByName("rsvp")).Interface().(map[peer.ID]time.Time) {
		s.rsvp[p] = true
	}
	c := v.FieldByName("constraints").Elem()
	total := reachable(c.FieldByName("total"))
	for i := range total.Len() {
		s.order = append(s.order, peer.ID(total.Index(i).FieldByName("Peer").String()))
	}
	s.total, s.ips = total.Len(), c.FieldByName("ips").Len()
	return s
}

// TestStockFill: what is written into go-libp2p's relay is what its own handler
// leaves there.
func TestStockFill(t *testing.T) {
	const n = 50
	start := func() (*relayv2.Relay, func(int) error) {
		h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.DisableMetrics())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.Close() })
		r, err := relayv2.New(h)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		ask := holdByAsking(h)
		return r, func(n int) error { return ask(context.Background(), n) }
	}
	asked, ask := start()
	if err := ask(n); err != nil {
		t.Fatal(err)
	}
	filled, _ := start()
	stockFill(filled, n/2, time.Now().Add(time.Hour))
	if fresh := stockFill(filled, n, time.Now().Add(time.Hour)); len(fresh) != n-n/2 {
		t.Errorf("second fill: got %d new reservations, want %d", len(fresh), n-n/2)
	}
	got, want := stateOf(filled), stateOf(asked)
	if !reflect.DeepEqual(got, want) || want.total != n || want.ips != n {
		t.Errorf("filled: got %+v, want %+v, as asked for, with %d of each", got, want, n)
	}
}
