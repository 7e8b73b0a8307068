package node

import (
	"context"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/auth"
	"github.com/causeway-p2p/causeway/autorelay"
	"github.com/causeway-p2p/causeway/internal/virtual"
	"github.com/causeway-p2p/causeway/netwatch"
	"github.com/causeway-p2p/causeway/reachability"
)

const (
	idA = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
	idB = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
)

func decode(t *testing.T, s string) peer.ID {
	t.Helper()
	id, err := peer.Decode(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestEventsInWords(t *testing.T) {
	a, b := decode(t, idA), decode(t, idB)
	at := At{time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)}
	relayed := Path{Relay: b, Transport: "quic"}
	for _, c := range []struct {
		event      Event
		name, text string
	}{
		{Joined{at, a}, "joined", "joined the network through 12D3…x6nXTN"},
		{JoinFailed{at, "no answer in time", 1500 * time.Millisecond}, "join_failed", "no bootstrap peer can be reached (no answer in time), trying again in 1.5s"},
		{
			ReachabilityChanged{at, reachability.Unknown, reachability.Verdict{Reachability: reachability.Private, Because: "of x", Weak: true}},
			"reachability_changed", "reachability private: of x (one server's word so far)",
		},
		{
			NetworkChanged{at, netwatch.Change{Route: true}, 0}, "network_changed", "network changed: default route changed",
		},
		{
			NetworkChanged{at, netwatch.Change{Removed: []netip.Addr{netip.MustParseAddr("10.0.0.7")}}, 3},
			"network_changed", "network changed: 10.0.0.7 is gone; 3 dead connections closed",
		},
		{PortsMapped{at, nil, "because of x"}, "ports_mapped", "because of x"},
		{RelayFound{at, a, "dht"}, "relay_found", "relay 12D3…x6nXTN found (dht)"},
		{RelayReserved{at, a, "dht", 120 * time.Millisecond}, "relay_reserved", "reserved on relay 12D3…x6nXTN in 120 ms"},
		{RelayFailed{at, a, autorelay.Full, "128 of 128"}, "relay_failed", "relay 12D3…x6nXTN gave no reservation: relay is full (128 of 128)"},
		{TokenTaken{at, a, auth.Grant{Class: "member"}}, "token_taken", "relay 12D3…x6nXTN took the token: class member"},
		{TokenRefused{At: at, Relay: a, Reason: auth.Expired}, "token_refused", "relay 12D3…x6nXTN did not take the token: the token has expired, by the relay's clock"},
		{TokenRefused{At: at, Relay: a, Detail: "of x"}, "token_refused", "relay 12D3…x6nXTN did not take the token: of x"},
		{RelayLost{at, a, autorelay.ProbesMissed}, "relay_lost", "relay 12D3…x6nXTN lost: no answer to probes"},
		{RelayReplaced{at, a, b, autorelay.Expired, 80 * time.Millisecond}, "relay_replaced", "relay " + ShortID(b) + " took over from " + ShortID(a) + " after 80 ms"},
		{AddrsChanged{at, []string{"x", "y"}, 1}, "addrs_changed", "advertising 2 addresses, 1 through a relay"},
		{AddrsChanged{at, []string{"x"}, 0}, "addrs_changed", "advertising 1 address, none through a relay"},
		{PathChanged{at, a, relayed, Path{Transport: "tcp"}, time.Second}, "path_changed", "path to 12D3…x6nXTN upgraded to direct tcp after 1000 ms"},
		{PathChanged{at, a, relayed, Path{}, 0}, "path_changed", "path to 12D3…x6nXTN lost (was via relay " + ShortID(b) + ")"},
		{PathChanged{at, a, Path{}, relayed, 0}, "path_changed", "path to 12D3…x6nXTN is via relay " + ShortID(b)},
		{RelayService{at, true, "of x"}, "relay_service", "serving as a relay: of x"},
		{RelayService{at, false, "of x"}, "relay_service", "not serving as a relay: of x"},
		{Announced{at, "/x"}, "announced", "announced as a relay at /x"},
	} {
		if got := EventName(c.event); got != c.name {
			t.Errorf("EventName(%T): got %q, want %q", c.event, got, c.name)
		}
		if got := c.event.String(); got != c.text {
			t.Errorf("%T: got %q, want %q", c.event, got, c.text)
		}
		r, err := Record(c.event)
		if err != nil || r.Event != c.name || r.Text != c.text || !r.Time.Equal(at.Time) {
			t.Errorf("Record(%T): got %+v, %v", c.event, r, err)
		}
		var data map[string]any
		if err := json.Unmarshal(r.Data, &data); err != nil || data["time"] == nil {
			t.Errorf("Record(%T): got data %s (%v), want an object with a time", c.event, r.Data, err)
		}
	}
}

func TestBroadcasterSlowReader(t *testing.T) {
	b := newBroadcaster()
	slow := b.subscribe(t.Context(), false)
	fast := b.subscribe(t.Context(), false)
	const count = 10 * (eventQueue + eventHistory)
	for range count {
		b.emit(Announced{At: now()}) // never blocks
		<-fast
	}
	b.close()
	got := 0
	for range slow {
		got++
	}
	if got == 0 || got == count || got > cap(slow) {
		t.Errorf("events that a slow reader got: %d of %d, want some, at most %d", got, count, cap(slow))
	}
	if _, ok := <-fast; ok {
		t.Error("the channel of a fast reader is open after close")
	}
}

func TestBroadcasterHistory(t *testing.T) {
	b := newBroadcaster()
	for i := range eventHistory + 44 {
		b.emit(Announced{At: At{time.Unix(int64(i), 0)}})
	}
	late, past := b.subscribe(t.Context(), false), b.subscribe(t.Context(), true)
	b.emit(Announced{At: At{time.Unix(999, 0)}})
	b.close()
	b.emit(Announced{}) // into the void
	if e := <-late; e.When().Unix() != 999 {
		t.Errorf("first event of a late reader: got %v, want the one after it came", e.When())
	}
	first, n := int64(-1), 0
	for e := range past {
		if first < 0 {
			first = e.When().Unix()
		}
		n++
	}
	if first != 44 || n != eventHistory+1 {
		t.Errorf("history: got %d events from number %d on, want %d from 44 on", n, first, eventHistory+1)
	}
	var after int
	for range b.subscribe(t.Context(), true) {
		after++
	}
	if after != eventHistory {
		t.Errorf("history after close: got %d events, want %d and the end", after, eventHistory)
	}
}

func TestBroadcasterContext(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		b := newBroadcaster()
		ctx, cancel := context.WithCancel(t.Context())
		ch := b.subscribe(ctx, false)
		cancel()
		if _, ok := <-ch; ok {
			t.Error("the channel is open after its context ended")
		}
		synctest.Wait()
		if len(b.readers) != 0 {
			t.Errorf("readers after the context ended: got %d, want none", len(b.readers))
		}
		b.emit(Announced{})
		b.close()
		b.close()
	})
}

// conn is a connection with an address and nothing else.
type conn struct {
	network.Conn
	addr ma.Multiaddr
}

func (c conn) RemoteMultiaddr() ma.Multiaddr { return c.addr }

func TestPathOf(t *testing.T) {
	b := decode(t, idB)
	for _, c := range []struct {
		addr, transport, text string
		relay                 peer.ID
	}{
		{"/ip4/11.0.0.1/udp/1/quic-v1", "quic", "direct quic", ""},
		{"/ip4/11.0.0.1/tcp/1", "tcp", "direct tcp", ""},
		{"/ip4/11.0.0.1/tcp/1/ws", "ws", "direct ws", ""},
		{"/dns4/x.example/tcp/443/tls/ws", "wss", "direct wss", ""},
		{"/ip4/11.0.0.1/tcp/443/tls/sni/x.example/ws", "wss", "direct wss", ""},
		{"/ip4/11.0.0.1/tcp/443/wss", "wss", "direct wss", ""},
		{"/ip4/11.0.0.1/tcp/443/tls/sni/x.example/ws/p2p/" + idB + "/p2p-circuit", "wss", "via relay " + ShortID(b), b},
		{"/ip4/11.0.0.1/udp/1/quic-v1/webtransport", "webtransport", "direct webtransport", ""},
		{"/ip4/11.0.0.1/udp/1/webrtc-direct", "webrtc", "direct webrtc", ""},
		{"/ip4/11.0.0.1/udp/1/quic-v1/p2p/" + idB + "/p2p-circuit", "quic", "via relay " + ShortID(b), b},
		{"/ip4/11.0.0.1/tcp/1/p2p/" + idB + "/p2p-circuit/p2p/" + idA, "tcp", "via relay " + ShortID(b), b},
	} {
		got := PathOf(conn{addr: ma.StringCast(c.addr)})
		if got.Transport != c.transport || got.Relay != c.relay || got.Addr != c.addr || got.String() != c.text ||
			got.Relayed() != (c.relay != "") || got.Direct() == got.Relayed() {
			t.Errorf("PathOf(%s): got %+v (%s), want %s", c.addr, got, got, c.text)
		}
	}
	if p := (Path{}); p.Direct() || p.Relayed() || p.String() != "no path" {
		t.Errorf("zero path: got %s", p)
	}
}

func TestShortID(t *testing.T) {
	a, b := decode(t, idA), decode(t, idB)
	if got := ShortID(a); got != "12D3…x6nXTN" {
		t.Errorf("ShortID(%s): got %q", a, got)
	}
	if ShortID(a) == ShortID(b) {
		t.Errorf("ShortID: got %q for both %s and %s", ShortID(a), a, b)
	}
	if got := ShortID("abc"); strings.Contains(got, "…") {
		t.Errorf("ShortID of a short ID: got %q", got)
	}
}
