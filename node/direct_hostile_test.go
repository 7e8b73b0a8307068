package node

import (
	"io"
	"net/netip"
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
	"github.com/causeway-p2p/causeway/reachability"
	"github.com/causeway-p2p/causeway/testnet"
)

// bystander is a machine that has nothing to do with anybody, and counts what
// it is sent.
type bystander struct {
	*testnet.Host
	packets, bytes int
}

func (w *world) bystander(name string, port int) *bystander {
	w.Helper()
	b := &bystander{Host: w.net.Host(name)}
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
			b.packets++
			b.bytes += n + 28 // IP and UDP headers
		}
	}()
	return b
}

// TestAmplification: a stranger that names somebody else's address makes us
// send no more than what is written down in docs/protocols/dcutr.md, however
// often it asks.
func TestAmplification(t *testing.T) {
	for _, test := range []struct {
		name     string
		causeway *pb.HolePunch_Causeway
		// most is what one minute may cost the bystander, in bytes.
		most int
	}{
		{"dials", nil, 200_000},
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
				target := w.bystander("bystander", 4001)

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
				t.Logf("a stranger paid %d bytes in a minute, and a bystander got %d packets, %d bytes (times %.1f)", paid, target.packets, target.bytes, float64(target.bytes)/float64(paid))
				if target.bytes > test.most {
					t.Errorf("a bystander got %d bytes in a minute, want at most %d", target.bytes, test.most)
				}
				if test.causeway != nil && target.packets == 0 {
					t.Log("no guess met the one port that listens")
				}
			})
		})
	}
}

// punchAt has the conversation of a hole punch, with somebody else's address,
// and returns how many bytes that was.
func punchAt(t *testing.T, from host.Host, to peer.ID, ip netip.Addr, extra *pb.HolePunch_Causeway) (paid int, ok bool) {
	t.Helper()
	s, err := from.NewStream(network.WithAllowLimitedConn(timeout(t), "test"), to, direct.Protocol)
	if err != nil {
		return 0, false
	}
	defer s.Reset()
	s.SetDeadline(time.Now().Add(10 * time.Second))
	m := &pb.HolePunch{Type: pb.HolePunch_CONNECT.Enum(), Causeway: extra}
	for _, a := range []string{"/udp/4001/quic-v1", "/udp/4002/quic-v1"} {
		m.ObsAddrs = append(m.ObsAddrs, ma.StringCast("/ip4/"+ip.String()+a).Bytes())
	}
	paid = proto.Size(m)
	w, r := pbio.NewDelimitedWriter(s), pbio.NewDelimitedReader(s, 8192)
	if w.WriteMsg(m) != nil {
		return paid, false
	}
	if err := r.ReadMsg(new(pb.HolePunch)); err != nil {
		return paid, false
	}
	sync := &pb.HolePunch{Type: pb.HolePunch_SYNC.Enum(), Causeway: extra}
	paid += proto.Size(sync)
	if w.WriteMsg(sync) != nil || s.CloseWrite() != nil {
		return paid, false
	}
	io.Copy(io.Discard, s) // until it was read
	return paid, true
}
