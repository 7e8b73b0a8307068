package relay

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"

	"github.com/causeway-p2p/causeway/fastconn"
	"github.com/causeway-p2p/causeway/relay/usage"
)

const (
	// stallTime is how long one end may take nothing of what the other sends,
	// or half of it, as the deadline is moved seldom: what a stalled circuit
	// holds here is a large buffer.
	stallTime = 2 * time.Minute
	// largeIdle is after how long without data a direction that cannot wait
	// without a buffer gives back its large one.
	largeIdle = time.Second
	// smallReads in a row mean that large buffers are not needed.
	smallReads = 16
	// lastWords is how long an end that gets no more may take to read what was
	// sent before.
	lastWords = 5 * time.Second
)

// pump carries one direction of a circuit.
type pump struct {
	relay *Relay
	c     *circuit
	dir   *direction
	src   network.Stream
	dst   network.Stream
	out   io.Writer // to dst, not ahead of those who write little to the same peer
	left  int64     // bytes that may still pass; < 0 if any number
	quota int64     // of the payer's month; 0 if there is none
	payer *usage.Account

	parks     bool // src waits for data without a buffer
	wide      bool // much has passed of late: large buffers are in order
	few       int  // reads in a row for which a small one would have done
	small     *[smallBuffer]byte
	large     *[largeBuffer]byte
	waitUntil time.Time // the read deadline that is set; never if it parks
	stallAt   time.Time // the write deadline that is set
}

// run carries until the direction ends, and returns why, or "" if the source has
// closed it.
func (p *pump) run() Reason {
	defer p.narrow()
	defer p.giveBack()
	p.out = fastconn.Pace(p.dst, p.c.done)
	p.parks = waitsEmpty(p.src)
	for {
		n, err := p.read()
		if n > 0 {
			if why := p.pass(p.buffer()[:n]); why != "" {
				return why
			}
			p.adapt(n)
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			if p.dst.CloseWrite() != nil {
				return PeerGone
			}
			return ""
		case !p.parks && isTimeout(err):
			p.narrow()
		default:
			p.failed("read", err)
			return PeerGone
		}
	}
}

// waitsEmpty reports whether a read of nothing waits for data on s, as yamux's
// does (go-yamux v5.1, stream.go, Read: it looks at the length only after there
// is something). A direction then holds no buffer while it waits, and needs no
// read deadline: one that passes makes yamux lose an update of its window.
func waitsEmpty(s network.Stream) bool { return s.Conn().ConnState().StreamMultiplexer == yamux.ID }

// isTimeout knows yamux's error too, which is no os.ErrDeadlineExceeded.
func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// read reads once, into the buffer.
func (p *pump) read() (int, error) {
	if p.parks {
		p.giveBack()
		if _, err := p.src.Read(nil); err != nil {
			return 0, err
		}
	}
	if p.wide && p.large == nil {
		p.large = p.relay.larges.get()
	}
	if p.large == nil && p.small == nil {
		p.small = smallBuffers.Get().(*[smallBuffer]byte)
	}
	if p.large != nil && !p.parks {
		if now := time.Now(); p.waitUntil.Sub(now) < largeIdle/2 {
			p.waitUntil = now.Add(largeIdle)
			_ = p.src.SetReadDeadline(p.waitUntil) // the read will tell
		}
	}
	return p.src.Read(p.buffer())
}

// buffer is what there is.
func (p *pump) buffer() []byte {
	if p.large != nil {
		return p.large[:min(p.dir.flow.Piece(), largeBuffer)]
	}
	return p.small[:]
}

// giveBack gives back the buffers.
func (p *pump) giveBack() {
	if p.large != nil {
		p.relay.larges.put(p.large)
		p.large = nil
	}
	if p.small != nil {
		smallBuffers.Put(p.small)
		p.small = nil
	}
}

// adapt allows large buffers when a read has filled a small one, and none any
// more when they are not needed.
func (p *pump) adapt(n int) {
	switch {
	case !p.wide:
		if n == smallBuffer && p.c.memory.ReserveMemory(largeBuffer, network.ReservationPriorityLow) == nil {
			p.wide, p.few = true, 0
		}
	case n > smallBuffer:
		p.few = 0
	default:
		if p.few++; p.few >= smallReads {
			p.narrow()
		}
	}
}

// narrow ends the use of large buffers.
func (p *pump) narrow() {
	if p.large != nil {
		p.relay.larges.put(p.large)
		p.large = nil
	}
	if p.wide {
		p.c.memory.ReleaseMemory(largeBuffer)
		p.wide = false
	}
	if !p.waitUntil.IsZero() {
		p.waitUntil = time.Time{}
		_ = p.src.SetReadDeadline(time.Time{}) // the read will tell
	}
}

// failed notes what a stream said, for who looks closely: all that others get
// to know is that a peer has gone.
func (p *pump) failed(what string, err error) {
	log.Debug("circuit broken", "circuit", p.c.id, "at", what, "src", p.src.Conn().RemotePeer(), "dst", p.dst.Conn().RemotePeer(),
		"bytes", p.dir.bytes.Load(), "err", err.Error())
}

// pass writes what was read, as much of it as may pass.
func (p *pump) pass(b []byte) Reason {
	var last Reason
	if p.left >= 0 {
		if int64(len(b)) > p.left {
			b, last = b[:p.left], Bytes
		}
		p.left -= int64(len(b))
	}
	if len(b) > 0 {
		if why := p.write(b); why != "" {
			return why
		}
	}
	if last == "" && p.quota > 0 && p.payer.MonthBytes() > p.quota {
		last = Quota
	}
	return last
}

func (p *pump) write(b []byte) Reason {
	if p.dir.flow.Acquire(len(b), p.c.done) != nil {
		return PeerGone // the circuit has ended: its reason is another
	}
	now := time.Now()
	if p.stallAt.Sub(now) < stallTime/2 {
		p.stallAt = now.Add(stallTime)
		_ = p.dst.SetWriteDeadline(p.stallAt) // the write will tell
	}
	n, err := p.out.Write(b)
	if n > 0 {
		p.dir.bytes.Add(int64(n))
		p.c.accounts[0].AddBytes(int64(n))
		p.c.accounts[1].AddBytes(int64(n))
		p.relay.bytes.Add(int64(n))
	}
	switch {
	case err == nil:
		return ""
	case isTimeout(err):
		return Stalled
	}
	p.failed("write", err)
	return PeerGone
}
