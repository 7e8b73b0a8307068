package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/causeway-p2p/causeway/autorelay"
	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/relay"
)

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

// TestWriteStatusOverloaded: a relay that serves and refuses new work says why.
func TestWriteStatusOverloaded(t *testing.T) {
	for overloaded, want := range map[string]string{
		"":                         "relay         serving: switched on\nin use        0 reservations",
		"memory: 10.79 MiB in use": "relay         serving: switched on\noverloaded    new work is refused: memory: 10.79 MiB in use\nin use ",
	} {
		var b strings.Builder
		s := node.Status{Relay: &relay.Status{Serving: true, Because: "switched on", Overloaded: overloaded}}
		if err := writeStatus(&b, s, time.Time{}); err != nil || !strings.Contains(b.String(), want) {
			t.Errorf("overloaded by %q: got %v,\n%s\nwant %q in it", overloaded, err, b.String(), want)
		}
	}
}
