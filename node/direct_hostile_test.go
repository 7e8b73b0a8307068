package node

import (
	"io"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-msgio/pbio"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-p2p/causeway/direct"
	"github.com/causeway-p2p/causeway/direct/pb"
	"github.com/causeway-p2p/causeway/internal/maddr"
	"github.com/causeway-p2p/causeway/reachability"
	"github.com/causeway-p2p/causeway/testnet"
)

// bystander is a machine that has nothing to do with anybody, and counts what
// it is sent.
type bystander struct {
	*testnet.Host
	packets, bytes atomic.Int64
}

func (w *world) bystander(name string) *bystander {
	b := &bystander{Host: w.net.Host(name)}
	for _, port := range []int{4001, 4002} {
		b.count(w, port)
	}
	return b
}

func (b *bystander) count(w *world, port int) {
	w.Helper()
	c, err := b.ListenPacket(port)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 2000)
		for {
			n, _, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			b.packets.Add(1)
			b.bytes.Add(int64(n + 28)) // IP and UDP headers
		}
	}()
}

// TestAmplification: a stranger that names somebody else's address makes us
// send no more than what is written down in docs/protocols/dcutr.md, however
// often it asks.
func TestAmplification(t *testing.T) {
	for _, test := range []struct {
		name     string
		causeway *pb.HolePunch_Causeway
		// most is what one minute may cost the bystander, in bytes.
		most int64
	}{
		{"dials", nil, 250_000},
		{"guesses", &pb.HolePunch_Causeway{
			Mapping: pb.HolePunch_ADDRESS_AND_PORT_DEPENDENT.Enum(), Guesses: proto.Uint32(1024),
		}, 450_000},
	} {
		t.Run(test.name, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				w.bootstrap()
				relay := w.relays(1)[0]
				victim := w.withSockets(w.net.NAT("nat victim", testnet.PortRestricted()).Host("victim"))
				await(t, victim, "a verdict", func(e ReachabilityChanged) bool { return e.Verdict.Reachability == reachability.Private })
				evil := w.plainHost(w.net.NAT("nat evil", testnet.PortRestricted()).Host("evil"), relay)
				target := w.bystander("bystander")
				missed := w.net.Drops()[testnet.DropNoSocket]

				victim.Host().Peerstore().AddAddrs(evil.ID(), []ma.Multiaddr{circuitThrough(relay, evil.ID())}, time.Hour)
				w.connectRelayed(victim, evil.ID())
				paid := 0
				begun := time.Now()
				for time.Since(begun) < time.Minute {
					n, _ := punchAt(t, evil, victim.ID(), target.IP(), test.causeway)
					paid += n
					time.Sleep(100 * time.Millisecond)
				}
				time.Sleep(10 * time.Second)
				// Guesses mostly go to ports where nobody listens.
				guesses := int64(w.net.Drops()[testnet.DropNoSocket] - missed)
				packets, size := target.packets.Load()+guesses, target.bytes.Load()+60*guesses
				t.Logf("a stranger paid %d bytes in a minute, and a bystander got %d packets, %d of them guesses, %d bytes in all (times %.1f)",
					paid, packets, guesses, size, float64(size)/float64(paid))
				if size > test.most {
					t.Errorf("a bystander got %d bytes in a minute, want at most %d", size, test.most)
				}
				if size == 0 || (test.causeway != nil) != (guesses > 0) {
					t.Errorf("%d bytes, %d guesses: the stranger was not heard", size, guesses)
				}
			})
		})
	}
}

// punchAt has the conversation of a hole punch, with somebody else's address,
// and returns how many bytes that was.
func punchAt(t *testing.T, from host.Host, to peer.ID, ip netip.Addr, extra *pb.HolePunch_Causeway) (paid int, ok bool) {
	t.Helper()
	m := &pb.HolePunch{Type: pb.HolePunch_CONNECT.Enum(), Causeway: extra}
	for _, a := range []string{"/udp/4001/quic-v1", "/udp/4002/quic-v1"} {
		m.ObsAddrs = append(m.ObsAddrs, ma.StringCast("/ip4/"+ip.String()+a).Bytes())
	}
	sync := &pb.HolePunch{Type: pb.HolePunch_SYNC.Enum(), Causeway: extra}
	_, err := converse(t, from, to, m, sync)
	return proto.Size(m) + proto.Size(sync), err == nil
}

// converse is the side that begins a hole punch, and returns what the other
// says of itself.
func converse(t *testing.T, from host.Host, to peer.ID, connect, sync *pb.HolePunch) (*pb.HolePunch, error) {
	t.Helper()
	s, err := from.NewStream(network.WithAllowLimitedConn(timeout(t), "test"), to, direct.Protocol)
	if err != nil {
		return nil, err
	}
	defer s.Reset()
	s.SetDeadline(time.Now().Add(10 * time.Second))
	w, r := pbio.NewDelimitedWriter(s), pbio.NewDelimitedReader(s, 8192)
	if err := w.WriteMsg(connect); err != nil {
		return nil, err
	}
	answer := new(pb.HolePunch)
	if err := r.ReadMsg(answer); err != nil {
		return nil, err
	}
	if err := w.WriteMsg(sync); err != nil {
		return nil, err
	}
	s.CloseWrite()
	io.Copy(io.Discard, s) // until it was read
	return answer, nil
}

// TestOurLANIsOurs: a peer at another public address neither hears of our
// private addresses nor makes us dial machines beside us.
func TestOurLANIsOurs(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.bootstrap()
		relay := w.relays(1)[0]
		home := w.net.NAT("nat victim", testnet.PortRestricted())
		victim := w.withSockets(home.Host("victim"))
		printer := &bystander{Host: home.Host("printer")}
		printer.count(w, 9100)
		await(t, victim, "a verdict", func(e ReachabilityChanged) bool { return e.Verdict.Reachability == reachability.Private })
		evil := w.plainHost(w.net.NAT("nat evil", testnet.PortRestricted()).Host("evil"), relay)
		victim.Host().Peerstore().AddAddrs(evil.ID(), []ma.Multiaddr{circuitThrough(relay, evil.ID())}, time.Hour)
		w.connectRelayed(victim, evil.ID())
		time.Sleep(time.Second) // both sides have the connection
		lan := &pb.HolePunch_Causeway{LanAddrs: [][]byte{
			ma.StringCast("/ip4/" + printer.IP().String() + "/udp/9100/quic-v1").Bytes(),
		}}
		answer, err := converse(t, evil, victim.ID(),
			&pb.HolePunch{Type: pb.HolePunch_CONNECT.Enum(), Causeway: lan, ObsAddrs: [][]byte{ma.StringCast("/ip4/22.7.7.7/udp/4001/quic-v1").Bytes()}},
			&pb.HolePunch{Type: pb.HolePunch_SYNC.Enum(), Causeway: lan})
		if err != nil {
			t.Fatal(err)
		}
		if told := answer.GetCauseway().GetLanAddrs(); len(told) > 0 {
			t.Errorf("it was told %d addresses on our network", len(told))
		}
		time.Sleep(10 * time.Second)
		if n := printer.packets.Load(); n > 0 {
			t.Errorf("a machine on our network got %d packets", n)
		}
	})
}

// TestHangUp: a peer that closes every direct connection does not keep us busy.
func TestHangUp(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.bootstrap()
		relay := w.relays(1)[0]
		b := w.withSockets(w.net.NAT("nat b", testnet.PortRestricted()).Host("b"))
		await(t, b, "a verdict", func(e ReachabilityChanged) bool { return e.Verdict.Reachability == reachability.Private })
		await(t, b, "a circuit address", func(e AddrsChanged) bool { return e.Circuits > 0 })
		s := w.stock(w.net.NAT("nat s", testnet.PortRestricted()).Host("stock"), relay)
		s.Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
			if c.RemotePeer() == b.ID() && !maddr.IsCircuit(c.RemoteMultiaddr()) {
				go c.Close()
			}
		}})
		time.Sleep(5 * time.Second)
		ctx := network.WithAllowLimitedConn(timeout(t), "test")
		if err := s.Connect(ctx, peer.AddrInfo{ID: b.ID(), Addrs: []ma.Multiaddr{circuitThrough(relay, b.ID())}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		n := 0
		for e := range b.History(closed(t)) {
			if _, ok := e.(DirectAttempt); ok {
				n++
			}
		}
		if n < 1 || n > 3 {
			t.Errorf("%d attempts in a minute, want one or two", n)
		}
	})
}
