package admin

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/internal/virtual"
	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/service"
)

// brokenStream is one that has broken, on a connection.
type brokenStream struct {
	network.Stream
	over connOver
}

func (s brokenStream) Conn() network.Conn { return s.over }

type connOver struct {
	network.Conn
	addr   ma.Multiaddr
	closed bool
}

func (c connOver) RemoteMultiaddr() ma.Multiaddr { return c.addr }
func (c connOver) RemotePeer() peer.ID           { return "peer" }
func (c connOver) IsClosed() bool                { return c.closed }

// TestExplain: the relay's word is waited for if the circuit has ended, and not if
// it was the peer that ended the stream.
func TestExplain(t *testing.T) {
	relayed := "/ip4/11.0.0.1/tcp/4001/p2p/" + someRelay(t).String() + "/p2p-circuit"
	for _, c := range []struct {
		name, addr string
		closed     bool
		want       time.Duration
	}{
		{"the circuit has ended", relayed, true, endedWait},
		{"the circuit is there", relayed, false, 0},
		{"a direct connection", "/ip4/11.0.0.2/tcp/4001", true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual.Test(t, func(t *testing.T) {
				n, err := node.New(node.Config{Network: "admin-test"})
				if err != nil {
					t.Fatal(err)
				}
				defer n.Close()
				ours, theirs := net.Pipe()
				st := newStream(ours)
				defer theirs.Close()
				defer st.Close()
				broken := errors.New("it broke")
				conn := &service.Conn{Stream: brokenStream{over: connOver{addr: ma.StringCast(c.addr), closed: c.closed}}}
				begun := time.Now()
				got := (&Server{node: n, ctx: t.Context()}).explain(st, conn, broken)
				if took := time.Since(begun); took != c.want || got != broken {
					t.Errorf("got %v after %v, want what it broke with after %v", got, took, c.want)
				}
			})
		})
	}
}
