package direct

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/causeway-p2p/causeway/direct/pb"
)

// FuzzMessage: whatever a peer sends, what is dialled because of it stays
// within the bounds, and nothing else is remembered of it.
func FuzzMessage(f *testing.F) {
	for _, m := range []*pb.HolePunch{
		{Type: pb.HolePunch_CONNECT.Enum(), ObsAddrs: toBytes(addrs("/ip4/11.0.0.2/udp/4001/quic-v1", "/ip4/127.0.0.1/tcp/1"))},
		{Type: pb.HolePunch_SYNC.Enum()},
		{Type: pb.HolePunch_SYNC.Enum(), Causeway: &pb.HolePunch_Causeway{
			Mapping: pb.HolePunch_ADDRESS_DEPENDENT.Enum(), Guesses: proto.Uint32(1 << 31), LanAddrs: toBytes(addrs("/ip4/192.168.1.7/tcp/4001")),
		}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m pb.HolePunch
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		th := read(&m)
		if len(th.addrs) > maxNamed || len(th.lan) > maxNamed || th.guess > maxGuesses {
			t.Errorf("kept %d addresses, %d on the LAN, %d guesses", len(th.addrs), len(th.lan), th.guess)
		}
		for _, b := range []Behavior{th.nat.UDPMapping, th.nat.UDPFiltering, th.nat.TCPMapping} {
			if b < Unknown || b > AddressAndPortDependent {
				t.Errorf("behavior %d", b)
			}
		}
		if n := len(targets(th.addrs)); n > 2*2*maxIPs*maxPorts {
			t.Errorf("%d targets", n)
		}
	})
}
