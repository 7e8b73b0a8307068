package relay

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"

	"github.com/causeway-p2p/causeway/testnet"
)

// replica forwards to the peers of another relay.
type replica struct {
	other host.Host
	asked []peer.ID
}

func (f *replica) Forward(ctx context.Context, _, dst peer.ID) (network.Stream, error) {
	f.asked = append(f.asked, dst)
	if f.other.Network().Connectedness(dst) != network.Connected {
		return nil, errors.New("not here either")
	}
	return f.other.NewStream(network.WithNoDial(ctx, "forward"), dst, proto.ProtoIDv2Stop)
}

// TestForwarder: a destination that holds its reservation elsewhere is reached
// through the Forwarder, and only such a one.
func TestForwarder(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		second := run(t, start(t, n.Host("second")), Config{Mode: On})
		f := &replica{other: second.host}
		first := run(t, start(t, n.Host("first")), Config{Mode: On, Forwarder: f})
		away, caller := second.peers(t, n, "away")
		here, other := first.peers(t, n, "here")
		if err := first.dial(t, caller, away); err != nil {
			t.Fatal(err)
		}
		if err := echoes(t, caller, away, 100_000); err != nil {
			t.Error(err)
		}
		if s := first.Status(); s.Circuits != 1 || second.Status().Circuits != 0 {
			t.Errorf("%d circuits at the first and %d at the second, want 1 and 0", s.Circuits, second.Status().Circuits)
		}
		if err := first.dial(t, other, here); err != nil {
			t.Error(err)
		}
		if len(f.asked) != 1 || f.asked[0] != away.ID() {
			t.Errorf("asked for %v, want once for %s", f.asked, away.ID())
		}
		if err := first.dial(t, caller, start(t, n.Host("nowhere"))); err == nil {
			t.Error("a circuit to nobody")
		}
	})
}

// TestCloseWithMutePeers: hop streams that never say anything do not hold up
// the end.
func TestCloseWithMutePeers(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := run(t, start(t, n.Host("relay")), Config{Mode: On})
		for i := range 10 {
			h := start(t, n.Host(fmt.Sprint("mute", i)))
			connect(t, h, r.host)
			s, err := h.NewStream(timeout(t), r.host.ID(), proto.ProtoIDv2Hop)
			if err != nil {
				t.Fatal(err)
			}
			s.Write([]byte{200}) // the first byte of a length
		}
		time.Sleep(time.Second)
		began := time.Now()
		if err := r.stop(); err != nil || time.Since(began) > time.Second {
			t.Errorf("stopped after %v: %v", time.Since(began), err)
		}
	})
}
