package fastconn

import (
	"encoding/binary"
	"net"
	"testing"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// BenchmarkReceive receives datagrams that were sent 14 at a time, as quic-go
// sends them, in the batches of 8 in which it asks for them. An operation is a
// datagram.
func BenchmarkReceive(b *testing.B) {
	for _, fast := range []bool{false, true} {
		b.Run(name(fast), func(b *testing.B) {
			const size, many = 1252, 14
			c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			var batch interface {
				ReadBatch([]ipv4.Message, int) (int, error)
			} = ipv4.NewPacketConn(c)
			if fast {
				r, ok := receiveMany(c).(*receiver)
				if !ok {
					b.Skip("the kernel has no receive offload")
				}
				batch = r
			}
			from, err := net.DialUDP("udp4", nil, c.LocalAddr().(*net.UDPAddr))
			if err != nil {
				b.Fatal(err)
			}
			defer from.Close()
			payload := make([]byte, size*many)
			oob := cmsg(unix.IPPROTO_UDP, unix.UDP_SEGMENT, binary.NativeEndian.AppendUint16(nil, size))
			ms := make([]ipv4.Message, 8)
			for i := range ms {
				ms[i].Buffers, ms[i].OOB = [][]byte{make([]byte, 1452)}, make([]byte, 128)
			}
			b.SetBytes(size)
			left := 0
			for b.Loop() {
				if left == 0 {
					b.StopTimer()
					if _, _, err := from.WriteMsgUDP(payload, oob, nil); err != nil {
						b.Skipf("no segmentation offload: %v", err)
					}
					b.StartTimer()
					for got := 0; got < many; {
						n, err := batch.ReadBatch(ms, 0)
						if err != nil {
							b.Fatal(err)
						}
						got += n
					}
					left = many
				}
				left--
			}
		})
	}
}
