package node

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/testnet"
)

// TestDialPastRelayThatJustDied: nobody has noticed yet, so that the DHT still
// gives out the address through the dead relay, besides the one that works.
func TestDialPastRelayThatJustDied(t *testing.T) {
	for _, victim := range []string{"first", "second"} {
		t.Run(victim, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				w.bootstrap()
				relays := w.relays(2)
				a := w.behind("A", testnet.PortRestricted(), Config{})
				c := w.behind("C", testnet.Symmetric(), Config{})
				w.echo(a)
				for _, n := range []*Node{a, c} {
					await(t, n, "two circuit addresses", func(e AddrsChanged) bool { return e.Circuits == 2 })
				}
				time.Sleep(20 * time.Second) // identify push has told everybody
				dead := relays[0]
				if victim == "second" {
					dead = relays[1]
				}
				w.boxes[dead.ID()].Kill()
				begun := time.Now()
				path := callEcho(t, c, a.ID(), 100)
				if took := time.Since(begun); took > 1500*time.Millisecond {
					t.Errorf("C reached A %v after %s died, want at most 1.5 s", took, ShortID(dead.ID()))
				}
				if path.Relay == dead.ID() || path.Relay == peer.ID("") {
					t.Errorf("C reached A %s, want the living relay", path)
				}
			})
		})
	}
}
