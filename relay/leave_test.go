package relay

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"

	"github.com/causeway-p2p/causeway/testnet"
)

func TestDrain(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := run(t, start(t, n.Host("relay")), Config{})
		r.verdict(true, "public")
		reserved, caller := r.peers(t, n, "")
		if err := r.dial(t, caller, reserved); err != nil {
			t.Fatal(err)
		}
		r.DrainFor(0, nil)
		r.DrainFor(0, nil)
		synctest.Wait()
		if s := r.Status(); !s.Serving || !s.Draining || s.Because != "draining: no new reservations" {
			t.Errorf("got %+v, want serving and draining", s)
		}
		// The reserved peer sees it in time to go elsewhere.
		time.Sleep(time.Second)
		if protos, err := reserved.Peerstore().SupportsProtocols(r.host.ID(), proto.ProtoIDv2Hop); err != nil || len(protos) > 0 {
			t.Errorf("a second later the peer believes that we speak %v, %v", protos, err)
		}
		for name, h := range map[string]host.Host{"a newcomer": start(t, n.Host("newcomer")), "a refresh": reserved} {
			if _, status := r.reserve(t, h); status == pbv2.Status_OK {
				t.Errorf("%s: got a reservation, want it refused", name)
			}
		}
		if err := r.dial(t, start(t, n.Host("second")), reserved); err == nil {
			t.Error("a new circuit while draining")
		}
		time.Sleep(30 * time.Minute)
		if err := echoes(t, caller, reserved, 100_000); err != nil {
			t.Errorf("the circuit that stood before: %v", err)
		}
		// Verdicts do not end it.
		r.verdict(false, "private")
		time.Sleep(10 * time.Minute)
		r.verdict(true, "public")
		if s := r.Status(); !s.Serving || s.Because != "draining: no new reservations" || s.Circuits != 1 || s.Reservations != 1 {
			t.Errorf("after verdicts while draining: got %+v, want it to drain with 1 circuit and 1 reservation", s)
		}
		if got := r.told(); len(got) != 2 {
			t.Errorf("told of %q, want serving and draining", got)
		}
	})
}

func TestDrainBeforeServing(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := run(t, start(t, n.Host("relay")), Config{})
		r.DrainFor(0, nil)
		r.want(t, "draining", false, "draining: no new reservations")
		r.verdict(true, "public")
		r.want(t, "public", false, "draining: no new reservations")
	})
}

// TestStopping: those who rely on a relay that stops lose no circuit that
// stands.
func TestStopping(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := run(t, start(t, n.Host("relay")), Config{Patience: time.Minute})
		r.verdict(true, "public")
		reserved, caller := r.peers(t, n, "")
		if err := r.dial(t, caller, reserved); err != nil {
			t.Fatal(err)
		}
		r.verdict(false, "private")
		if err := r.dial(t, start(t, n.Host("while in doubt")), reserved); err != nil {
			t.Errorf("in doubt: %v, want service as usual", err)
		}
		time.Sleep(time.Minute)
		r.want(t, "after patience", false, "private")
		if s := r.Status(); s.Reservations != 1 || s.Circuits != 2 {
			t.Errorf("got %d reservations and %d circuits, want 1 and 2: the doubt may be wrong", s.Reservations, s.Circuits)
		}
		if err := echoes(t, caller, reserved, 100_000); err != nil {
			t.Errorf("the circuit that stood before: %v", err)
		}
		r.verdict(true, "public")
		if _, status := r.reserve(t, reserved); status != pbv2.Status_OK || r.Status().Reservations != 1 {
			t.Errorf("serving again: got %v and %d reservations", status, r.Status().Reservations)
		}
	})
}

func TestCountersReturnToZero(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := run(t, start(t, n.Host("relay")), Config{Mode: On})
		const pairs = 5
		var all []host.Host
		for i := range pairs {
			reserved, caller := r.peers(t, n, strconv.Itoa(i))
			if err := r.dial(t, caller, reserved); err != nil {
				t.Fatal(err)
			}
			if err := echoes(t, caller, reserved, 1000); err != nil {
				t.Error(err)
			}
			all = append(all, reserved, caller)
		}
		if s := r.Status(); s.Reservations != pairs || s.Circuits != pairs {
			t.Errorf("got %d reservations and %d circuits, want %d each", s.Reservations, s.Circuits, pairs)
		}
		for i, h := range all {
			if i%2 == 0 { // some leave politely, some with their machine
				h.Close()
			} else {
				h.Network().ClosePeer(r.host.ID())
			}
		}
		time.Sleep(time.Minute)
		s := r.Status()
		if s.Reservations != 0 || s.Circuits != 0 || s.Bytes < pairs*2000 {
			t.Errorf("all gone: got %d reservations, %d circuits and %d bytes, want 0, 0 and at least %d", s.Reservations, s.Circuits, s.Bytes, pairs*2000)
		}

		// Nor is anything left when the relay goes first.
		reserved, caller := r.peers(t, n, "last")
		if err := r.dial(t, caller, reserved); err != nil {
			t.Fatal(err)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		r.host.Close()
		time.Sleep(time.Minute)
		if s := r.Status(); s.Reservations != 0 || s.Circuits != 0 || s.Serving {
			t.Errorf("relay closed: got %+v", s)
		}
	})
}

// TestKilledPeers: machines that vanish are noticed too.
func TestKilledPeers(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := run(t, start(t, n.Host("relay")), Config{Mode: On})
		m := n.Host("vanishes")
		if _, status := r.reserve(t, start(t, m)); status != pbv2.Status_OK {
			t.Fatal(status)
		}
		m.Kill()
		time.Sleep(2 * time.Minute)
		if got := r.Status().Reservations; got != 0 {
			t.Errorf("%d reservations, want 0", got)
		}
	})
}
