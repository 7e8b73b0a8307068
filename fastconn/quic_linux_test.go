package fastconn

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// TestReceiver sends datagrams with segmentation offload, which on loopback
// arrive merged, and reads them one by one.
func TestReceiver(t *testing.T) {
	for _, tt := range []struct{ network, addr string }{{"udp4", "127.0.0.1:0"}, {"udp6", "[::1]:0"}} {
		t.Run(tt.network, func(t *testing.T) {
			addr, err := net.ResolveUDPAddr(tt.network, tt.addr)
			if err != nil {
				t.Fatal(err)
			}
			pc, err := listenUDP(tt.network, addr)
			if err != nil {
				t.Skipf("no %s: %v", tt.network, err)
			}
			defer pc.Close()
			r, ok := pc.(*receiver)
			if !ok {
				t.Skip("the kernel has no receive offload")
			}
			raw, err := r.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			raw.Control(func(fd uintptr) {
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVTOS, 1)
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1)
			})
			from, err := net.DialUDP(tt.network, nil, r.LocalAddr().(*net.UDPAddr))
			if err != nil {
				t.Fatal(err)
			}
			defer from.Close()

			// 20 of 1200 bytes and a shorter one in one send, then one alone.
			var payload []byte
			for i := range 20 {
				payload = append(payload, bytes.Repeat([]byte{byte(i)}, 1200)...)
			}
			payload = append(payload, bytes.Repeat([]byte{20}, 77)...)
			oob := make([]byte, unix.CmsgSpace(2))
			binary.NativeEndian.PutUint64(oob, uint64(unix.CmsgLen(2)))
			binary.NativeEndian.PutUint32(oob[8:], unix.IPPROTO_UDP)
			binary.NativeEndian.PutUint32(oob[12:], unix.UDP_SEGMENT)
			binary.NativeEndian.PutUint16(oob[16:], 1200)
			if _, _, err := from.WriteMsgUDP(payload, oob, nil); err != nil {
				t.Skipf("no segmentation offload: %v", err)
			}
			if _, err := from.Write(bytes.Repeat([]byte{21}, 5)); err != nil {
				t.Fatal(err)
			}

			r.SetReadDeadline(time.Now().Add(20 * time.Second))
			ms := make([]ipv4.Message, 8)
			for next := 0; next < 22; {
				for i := range ms {
					ms[i].Buffers, ms[i].OOB = [][]byte{make([]byte, 1452)}, make([]byte, 128)
				}
				n, err := r.ReadBatch(ms, 0)
				if err != nil {
					t.Fatalf("after %d datagrams: %v", next, err)
				}
				for _, m := range ms[:n] {
					want := 1200
					switch next {
					case 20:
						want = 77
					case 21:
						want = 5
					}
					if m.N != want || m.Buffers[0][0] != byte(next) || m.Buffers[0][m.N-1] != byte(next) {
						t.Errorf("datagram %d: %d bytes of %d", next, m.N, m.Buffers[0][0])
					}
					if m.Addr.String() != from.LocalAddr().String() {
						t.Errorf("datagram %d: from %v, want %v", next, m.Addr, from.LocalAddr())
					}
					if got := levels(t, m.OOB[:m.NN]); got != 1 {
						t.Errorf("datagram %d: %d control messages, want the traffic class alone", next, got)
					}
					next++
				}
			}
		})
	}
}

func levels(t *testing.T, oob []byte) int {
	t.Helper()
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range msgs {
		if m.Header.Level == unix.IPPROTO_UDP {
			t.Error("quic-go is given the offload's control message")
		}
	}
	return len(msgs)
}

func cmsg(level, kind int32, data []byte) []byte {
	b := make([]byte, unix.CmsgSpace(len(data)))
	binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(len(data))))
	binary.NativeEndian.PutUint32(b[8:], uint32(level))
	binary.NativeEndian.PutUint32(b[12:], uint32(kind))
	copy(b[unix.CmsgLen(0):], data)
	return b
}

func TestSegmentSize(t *testing.T) {
	tos := cmsg(unix.IPPROTO_IP, unix.IP_TOS, []byte{2})
	info := cmsg(unix.IPPROTO_IP, unix.IP_PKTINFO, make([]byte, 12))
	gro := cmsg(unix.IPPROTO_UDP, unix.UDP_GRO, binary.NativeEndian.AppendUint32(nil, 1252))
	for i, tt := range []struct {
		oob  [][]byte
		size int
		rest [][]byte
	}{
		{nil, 0, nil},
		{[][]byte{tos, info}, 0, [][]byte{tos, info}},
		{[][]byte{gro}, 1252, nil},
		{[][]byte{gro, tos, info}, 1252, [][]byte{tos, info}},
		{[][]byte{tos, gro, info}, 1252, [][]byte{tos, info}},
		{[][]byte{info, tos, gro}, 1252, [][]byte{info, tos}},
	} {
		oob, want := bytes.Join(tt.oob, nil), bytes.Join(tt.rest, nil)
		size, n := segmentSize(oob, len(oob))
		if size != tt.size || !bytes.Equal(oob[:n], want) {
			t.Errorf("%d: size %d, %d bytes left; want %d, %d", i, size, n, tt.size, len(want))
		}
	}
}

// FuzzSegmentSize: whatever the control messages are, nothing is read or
// written outside of them.
func FuzzSegmentSize(f *testing.F) {
	f.Add(cmsg(unix.IPPROTO_UDP, unix.UDP_GRO, []byte{1, 2, 3, 4}))
	f.Add(cmsg(unix.IPPROTO_UDP, unix.UDP_GRO, []byte{1})[:17])
	f.Add(append(cmsg(unix.IPPROTO_IP, unix.IP_TOS, []byte{1}), 1, 2, 3))
	f.Fuzz(func(t *testing.T, oob []byte) {
		size, n := segmentSize(oob, len(oob))
		if n < 0 || n > len(oob) || size < 0 {
			t.Fatal(fmt.Sprint(size, n, len(oob)))
		}
	})
}
