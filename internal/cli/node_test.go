package cli

import (
	"strings"
	"testing"
	"time"

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
		teller.Tell(c.e)
		if got := out.String(); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%T: printed %q, want %q in it", c.e, got, c.want)
		}
	}
}

// TestStatusOfRelays: times are never nothing, and a pause has one.
func TestStatusOfRelays(t *testing.T) {
	now := time.Now()
	s := node.Status{AutoRelay: &autorelay.Status{Wanted: true, Relays: []autorelay.RelayStatus{
		{ID: "soon", State: autorelay.BackingOff, Reason: autorelay.Unreachable, Retry: now.Add(200 * time.Millisecond)},
		{ID: "due", State: autorelay.BackingOff, Reason: autorelay.Unreachable, Retry: now.Add(-time.Minute)},
		{ID: "held", State: autorelay.Reserved, Expires: now.Add(90 * time.Second), RTT: 40 * time.Millisecond, Sources: []string{"dht", "connected"}},
	}}}
	var b strings.Builder
	if err := writeStatus(&b, s, now); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"soon backing off (found: ): cannot be reached, again in 1s\n", "due backing off (found: ): cannot be reached, again when its turn comes\n",
		"held reserved as standby (found: dht, connected), 40 ms away, for 1m30s more\n", "connected to nobody",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("got\n%s\nwant %q in it", b.String(), want)
		}
	}
}
