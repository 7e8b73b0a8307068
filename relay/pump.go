package relay

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/causeway-p2p/causeway/fastconn"
	"github.com/causeway-p2p/causeway/relay/usage"
)

const (
	// stallTime is how long one end may take nothing of what the other sends,
	// or half of it, as the deadline is moved seldom: what a stalled circuit
	// holds here is a large buffer.
	stallTime = 2 * time.Minute
	// largeIdle is after how long without data a direction gives back its large
	// buffer.
	largeIdle = time.Second
	// smallReads in a row mean that the large buffer is not needed.
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

	small     *[smallBuffer]byte
	large     *[largeBuffer]byte
	few       int       // reads in a row that did not need the large buffer
	waitUntil time.Time // the read deadline that is set, while there is a large buffer
	stallAt   time.Time // the write deadline that is set
}

// run carries until the direction ends, and returns why, or "" if the source has
// closed it.
func (p *pump) run() Reason {
	p.small = smallBuffers.Get().(*[smallBuffer]byte)
	defer func() {
		smallBuffers.Put(p.small)
		p.shrink()
	}()
	p.out = fastconn.Pace(p.dst, p.c.done)
	for {
		buf := p.buffer()
		n, err := p.src.Read(buf)
		if n > 0 {
			if why := p.pass(buf[:n]); why != "" {
				return why
			}
			p.adapt(n, len(buf))
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			if p.dst.CloseWrite() != nil {
				return PeerGone
			}
			return ""
		case p.large != nil && errors.Is(err, os.ErrDeadlineExceeded):
			p.shrink()
		default:
			p.failed("read", err)
			return PeerGone
		}
	}
}

// failed notes what a stream said, for who looks closely: all that others get
// to know is that a peer has gone.
func (p *pump) failed(what string, err error) {
	log.Debug("circuit broken", "circuit", p.c.id, "at", what, "src", p.src.Conn().RemotePeer(), "dst", p.dst.Conn().RemotePeer(),
		"bytes", p.dir.bytes.Load(), "err", err.Error())
}

// buffer is what the next read goes into.
func (p *pump) buffer() []byte {
	if p.large == nil {
		return p.small[:]
	}
	now := time.Now()
	if p.waitUntil.Sub(now) < largeIdle/2 {
		p.waitUntil = now.Add(largeIdle)
		_ = p.src.SetReadDeadline(p.waitUntil) // the read will tell
	}
	return p.large[:min(p.dir.flow.Piece(), largeBuffer)]
}

// adapt takes a large buffer when a read has filled the small one, and gives it
// back when it is not needed.
func (p *pump) adapt(n, size int) {
	switch {
	case p.large == nil && n == size:
		if p.c.memory.ReserveMemory(largeBuffer, network.ReservationPriorityLow) != nil {
			return
		}
		if p.large = p.relay.larges.get(); p.large == nil {
			p.c.memory.ReleaseMemory(largeBuffer)
		}
		p.few = 0
	case p.large == nil:
	case n > smallBuffer:
		p.few = 0
	default:
		if p.few++; p.few >= smallReads {
			p.shrink()
		}
	}
}

func (p *pump) shrink() {
	if p.large == nil {
		return
	}
	p.relay.larges.put(p.large)
	p.c.memory.ReleaseMemory(largeBuffer)
	p.large, p.waitUntil = nil, time.Time{}
	_ = p.src.SetReadDeadline(time.Time{}) // the read will tell
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
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Stalled
	}
	p.failed("write", err)
	return PeerGone
}
