package reachability

import (
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// seenConn is a connection that somebody opened to us.
type seenConn struct {
	fakeConn
	stats network.ConnStats
	by    peer.ID
}

func (c seenConn) Stat() network.ConnStats { return c.stats }
func (c seenConn) RemotePeer() peer.ID     { return c.by }
func (c seenConn) ID() string              { return string(c.by) }

// BenchmarkCrowd is what one more identified peer costs a relay.
func BenchmarkCrowd(b *testing.B) {
	h, err := libp2p.New(libp2p.DisableMetrics(), libp2p.DisableRelay(), libp2p.ListenAddrStrings("/ip4/127.0.0.1/udp/0/quic-v1"))
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	tr, err := New(Config{Host: h})
	if err != nil {
		b.Fatal(err)
	}
	defer h.Network().StopNotify(tr.watch)
	local := h.Network().ListenAddresses()[0]
	i := 0
	for b.Loop() {
		i++
		now := time.Now()
		tr.handle(event.EvtPeerIdentificationCompleted{
			Peer: peer.ID(fmt.Sprint(i)), ObservedAddr: ma.StringCast("/ip4/11.0.0.1/udp/4001/quic-v1"),
			Conn: seenConn{
				fakeConn: fakeConn{local: local, remote: ma.StringCast(fmt.Sprintf("/ip4/22.%d.%d.%d/udp/4001/quic-v1", i>>16&255, i>>8&255, i&255))},
				stats:    network.ConnStats{Stats: network.Stats{Direction: network.DirInbound, Opened: now}}, by: peer.ID(fmt.Sprint(i)),
			},
		}, now)
		tr.publish(now)
	}
	if len(tr.sights) == 0 {
		b.Error("the peers' words did not count")
	}
}
