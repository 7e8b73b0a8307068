package cli

import (
	"strings"
	"testing"

	"github.com/causeway-p2p/causeway/autorelay"
	"github.com/causeway-p2p/causeway/direct"
	"github.com/causeway-p2p/causeway/node"
)

// TestTeller: what goes as it should is no news, and neither is what was said.
func TestTeller(t *testing.T) {
	var out strings.Builder
	teller := NewTeller(&out)
	for _, c := range []struct {
		e    node.Event
		want string // what is printed has it; empty if nothing is
	}{
		{node.RelayFound{Relay: "r", Source: "dht"}, "found (dht)"},
		{node.RelayFound{Relay: "r", Source: "connected"}, ""},
		{node.RelayFound{Relay: "s", Source: "connected"}, "found (connected)"},
		{node.CircuitEnded{Relay: "r", Peer: "p", Reason: "peer-gone", Upgraded: true}, ""},
		{node.CircuitEnded{Relay: "r", Peer: "p", Reason: "peer-gone"}, "one end has gone"},
		{node.RelayLost{Relay: "r", Reason: autorelay.NotNeeded}, ""},
		{node.RelayLost{Relay: "r", Reason: autorelay.ProbesMissed}, "no answer to probes"},
		{node.DirectAttempt{Peer: "p", Outcome: direct.Punched}, ""},
		{node.DirectAttempt{Peer: "p", Outcome: direct.TimedOut, Why: "nothing came back"}, "nothing came back"},
		{node.RelayFailed{Relay: "r", Reason: autorelay.Unreachable}, "cannot be reached"},
		{node.RelayFailed{Relay: "r", Reason: autorelay.Unreachable}, ""},
		{node.RelayFailed{Relay: "s", Reason: autorelay.Unreachable}, "cannot be reached"},
		{node.RelayReserved{Relay: "r"}, "reserved"},
		{node.RelayFailed{Relay: "r", Reason: autorelay.Unreachable}, "cannot be reached"},
		{node.Announced{Namespace: "x"}, "announced"},
		{node.Announced{Namespace: "x"}, ""},
	} {
		out.Reset()
		rec, err := node.Record(c.e)
		if err != nil {
			t.Fatal(err)
		}
		teller.Tell(rec)
		if got := out.String(); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%T: printed %q, want %q in it", c.e, got, c.want)
		}
	}
}
