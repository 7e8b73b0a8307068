package fastconn

import (
	"encoding/binary"
	"net"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

const (
	// superSize is the largest UDP payload, and so what the kernel may merge.
	superSize = 64 << 10
	// supers is how many of these are received at once. Where nothing merges
	// each holds one datagram; quic-go asks for 8 (v0.64, batchSize).
	supers = 8
	// oobSize is quic-go's, for as many control messages (v0.64,
	// sys_conn_oob.go, oobBufferSize), plus ours.
	oobSize = 128 + 24
)

// receiver is a UDP socket with generic receive offload: datagrams of equal
// size that follow each other, from one sender with one ECN mark, come from the
// kernel as one. It gives quic-go the single ones, each with the control
// messages of the whole.
//
// Only ReadBatch may be used to receive: quic-go does.
type receiver struct {
	*net.UDPConn
	batch *ipv4.PacketConn

	// Owned by the one goroutine that calls ReadBatch.
	msgs  []ipv4.Message
	ready []ipv4.Message // of msgs, not read to the end
	at    int            // how much of ready[0] is
	size  int            // of the datagrams in ready[0]
}

// receiveMany turns the offload on, or returns the socket as it is if the
// kernel has none (before Linux 5.0).
func receiveMany(c *net.UDPConn) net.PacketConn {
	raw, err := c.SyscallConn()
	if err != nil {
		return c
	}
	var soErr error
	err = raw.Control(func(fd uintptr) {
		soErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	})
	if err != nil || soErr != nil {
		return c
	}
	r := &receiver{UDPConn: c, batch: ipv4.NewPacketConn(c), msgs: make([]ipv4.Message, supers)}
	for i := range r.msgs {
		r.msgs[i].Buffers = [][]byte{make([]byte, superSize)}
		r.msgs[i].OOB = make([]byte, oobSize)
	}
	return r
}

// ReadBatch receives into ms, for which it waits if nothing is left of what
// was received before.
func (r *receiver) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	if len(r.ready) == 0 {
		n, err := r.batch.ReadBatch(r.msgs, flags)
		if n <= 0 || err != nil {
			return 0, err
		}
		r.ready = r.msgs[:n]
		r.open()
	}
	n := 0
	for n < len(ms) && len(r.ready) > 0 {
		m := &r.ready[0]
		end := min(r.at+r.size, m.N)
		ms[n].N = copy(ms[n].Buffers[0], m.Buffers[0][r.at:end])
		ms[n].NN = copy(ms[n].OOB, m.OOB[:m.NN])
		ms[n].Addr, ms[n].Flags = m.Addr, m.Flags
		n++
		if r.at = end; r.at >= m.N {
			r.ready = r.ready[1:]
			r.open()
		}
	}
	return n, nil
}

// open looks at the first message that is ready.
func (r *receiver) open() {
	if len(r.ready) == 0 {
		return
	}
	m := &r.ready[0]
	r.at, r.size = 0, m.N
	var s int
	s, m.NN = segmentSize(m.OOB, m.NN)
	if s > 0 {
		r.size = s
	}
}

// segmentSize finds the size of the single datagrams in the control messages
// oob[:n], and takes that message out, since quic-go's buffer is full without.
// It returns 0 if the kernel has not merged anything.
func segmentSize(oob []byte, n int) (size, rest int) {
	for at := 0; at+unix.SizeofCmsghdr <= n; {
		h, data, _, err := unix.ParseOneSocketControlMessage(oob[at:n])
		if err != nil {
			return 0, n
		}
		space := unix.CmsgSpace(len(data))
		if h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(data) >= 4 {
			size = int(binary.NativeEndian.Uint32(data))
			n = at + copy(oob[at:], oob[min(at+space, n):n])
			return size, n
		}
		at += space
	}
	return 0, n
}
