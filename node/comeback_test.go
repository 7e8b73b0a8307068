package node

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"

	"github.com/causeway-p2p/causeway/notice"
	"github.com/causeway-p2p/causeway/relay"
)

// TestComeback: a relay that drained, was restarted and is back within a minute
// is not taken for one that leaves, neither in between for one that stays.
func TestComeback(t *testing.T) {
	simulateAt(t, oneWay, func(t *testing.T, w *world) {
		a, c, r := w.between(0)
		box, key := w.boxes[r.ID()], r.cfg.Identity
		r.Drain(5 * time.Second)
		time.Sleep(5 * time.Second)
		if !c.farewells.from(r.ID()) {
			t.Fatal("C has not heard that the relay leaves")
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if !c.farewells.from(r.ID()) {
			t.Error("a relay that was stopped counts as one that stays")
		}
		again := w.on(box, Config{Identity: key, Server: true, Relay: relay.Auto, Relays: -1})
		await(t, again, "it to serve again", func(e RelayService) bool { return e.Serving })
		a.Host().Peerstore().AddAddrs(r.ID(), again.Host().Addrs(), time.Hour)
		if _, err := c.Host().Network().DialPeer(network.WithForceDirectDial(t.Context(), "test"), r.ID()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if c.farewells.from(r.ID()) {
			t.Error("a relay that is back counts as one that leaves")
		}
	})
}

// TestNoComeback: a relay that says it leaves and goes on to offer its service
// leaves; so does one that offers it again and again, as to be heard anew: that
// is not the way to have us dial.
func TestNoComeback(t *testing.T) {
	simulateAt(t, oneWay, func(t *testing.T, w *world) {
		r, a, c := w.behindOneRelay()
		c.Host().Peerstore().AddAddrs(a.ID(), a.Host().Addrs(), time.Hour)
		callEcho(t, c, a.ID(), 1000)
		lie := notice.Notice{Draining: &notice.Draining{Within: time.Second}}
		c.relayNotice(r.ID(), lie)
		time.Sleep(5 * time.Second)
		r.Host().SetStreamHandler("/test/more", func(s network.Stream) { s.Reset() }) // is pushed, with all the rest
		time.Sleep(5 * time.Second)
		if !c.farewells.from(r.ID()) {
			t.Error("a relay that said it leaves, and has not gone, counts as one that stays")
		}
		const hop protocol.ID = proto.ProtoIDv2Hop
		r.Host().RemoveStreamHandler(hop)
		time.Sleep(5 * time.Second)
		r.Host().SetStreamHandler(hop, func(s network.Stream) { s.Reset() })
		time.Sleep(5 * time.Second)
		if c.farewells.from(r.ID()) {
			t.Error("a relay that offers its service again counts as one that leaves")
		}
		c.relayNotice(r.ID(), lie)
		time.Sleep(5 * time.Second)
		if c.farewells.from(r.ID()) {
			t.Error("a relay is heard again within a minute")
		}
		time.Sleep(time.Minute)
		c.relayNotice(r.ID(), lie)
		time.Sleep(5 * time.Second)
		if !c.farewells.from(r.ID()) {
			t.Error("a relay is not heard again after a minute")
		}
	})
}
