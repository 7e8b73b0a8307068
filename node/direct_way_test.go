package node

import (
	"testing"
	"time"

	"github.com/causeway-p2p/causeway/direct"
	"github.com/causeway-p2p/causeway/testnet"
)

// TestWay: the event says how the direct path was got, at the side that began. A
// dial that did not wait for the agreed moment is no hole punch, although it got
// through a moment later.
func TestWay(t *testing.T) {
	for _, c := range []struct {
		name   string
		caller testnet.NATConfig
		home   bool // both behind the caller's NAT
		want   direct.Outcome
	}{
		{"full cone", testnet.FullCone(), false, direct.Dialled},
		{"port-restricted", testnet.PortRestricted(), false, direct.Punched},
		{"symmetric", testnet.Symmetric(), false, direct.Guessed},
		{"same home", testnet.PortRestricted(), true, direct.LAN},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				w.bootstrap()
				w.relays(1)
				home := w.net.NAT("nat a", c.caller)
				a := home.Host("a")
				if !c.home {
					home = w.net.NAT("nat b", testnet.PortRestricted())
				}
				caller, called := w.withSockets(a), w.withSockets(home.Host("b"))
				await(t, called, "a circuit address", func(e AddrsChanged) bool { return e.Circuits > 0 })
				knowsCircuit(t, w.first, called.ID())
				time.Sleep(10 * time.Second) // until all is known of the NATs
				w.connectRelayed(caller, called.ID())
				e := await(t, called, "the attempt to end", func(e DirectAttempt) bool { return e.Peer == caller.ID() })
				if e.Outcome != c.want {
					t.Errorf("%s: got %s, want %s", e, e.Outcome, c.want)
				}
			})
		})
	}
}
