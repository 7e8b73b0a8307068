package direct

import (
	"context"
	"crypto/rand"
	mrand "math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	ma "github.com/multiformats/go-multiaddr"
)

// Guessing ports. One NAT uses another port for every destination, so that
// nobody can be told where its packets come from; the other lets in only what
// comes from where its own packets went. The first side opens many sockets and
// sends from each to the one address of the other, which makes its NAT use as
// many ports; the second sends to as many ports as it may. As with birthdays,
// few of each are enough for one to meet: with s sockets and g guesses among n
// ports, all miss with the probability (1-s/n)^g, 2 % for the figures below.
// Where the NAT hands out its ports one after another, those next to the ones
// that were seen are tried first, and all of it takes a moment.

// Sockets is the machine beneath a libp2p host: its addresses, and UDP beneath
// QUIC.
type Sockets interface {
	// Addrs are the addresses of the interfaces, with their prefixes.
	Addrs() ([]net.Addr, error)
	// Open opens a socket for IPv4 on a port of its own.
	Open() (net.PacketConn, error)
	// Send sends a packet from the socket that QUIC listens on for IPv4.
	Send(b []byte, to netip.AddrPort) error
}

const (
	// openSockets is how many sockets the side with the unpredictable NAT opens,
	// maxGuesses how many ports the other one tries.
	openSockets = 256
	maxGuesses  = 1024
	// nearby is how many of the guesses go next to ports that were seen.
	nearby = 96
	// pace is the pause between two packets, on either side: home routers make
	// a record of each.
	pace = time.Millisecond
	// guessWait is how long the two of them need, round trips not counted.
	guessWait = 2500 * time.Millisecond
	// firstPort: NATs leave the ports below to services.
	firstPort = 1024
)

// guessing reports whether ports are guessed in this attempt: both can, one side
// is unpredictable, and the other one predictable but strict.
func (a *attempt) guessing() bool {
	return a.u.cfg.Sockets != nil && a.their.guess > 0 &&
		!a.nat.UDPBlocked && !a.their.nat.UDPBlocked &&
		(guessable(a.nat, a.their.nat) || guessable(a.their.nat, a.nat))
}

// guessable: the ports of one are worth guessing for the other.
func guessable(hard, easy NAT) bool {
	return hard.UDPMapping.unpredictable() && easy.UDPMapping == EndpointIndependent &&
		easy.UDPFiltering != EndpointIndependent && easy.UDPFiltering != AddressDependent
}

// guess starts our part in guessing ports, if that is what it takes.
func (a *attempt) guess(ctx context.Context, where []ma.Multiaddr) bool {
	if !a.guessing() {
		return false
	}
	var seen []netip.AddrPort
	for _, to := range where {
		if ap, udp, _ := plainAddr(to); udp && ap.Addr().Is4() && (len(seen) == 0 || seen[0].Addr() == ap.Addr()) {
			seen = append(seen, ap)
		}
	}
	if len(seen) == 0 || !a.u.rates.guesses.Allow() {
		return false
	}
	if a.nat.UDPMapping.unpredictable() {
		a.dials.Go(func() { a.openMany(ctx, seen[0]) })
	} else {
		a.dials.Go(func() { a.guessPorts(ctx, seen) })
	}
	return true
}

// guessPorts sends to many ports of the peer's NAT. Whichever packet gets
// through, the peer answers with a QUIC handshake, which comes in like any.
func (a *attempt) guessPorts(ctx context.Context, seen []netip.AddrPort) {
	ip := seen[0].Addr()
	a.note(ip)
	tick := time.NewTicker(pace)
	defer tick.Stop()
	packet := make([]byte, packetSize)
	for _, port := range order(seen, maxGuesses) {
		select {
		case <-ctx.Done():
			return
		case <-a.direct:
			return
		case <-tick.C:
		}
		fill(packet)
		if err := a.u.cfg.Sockets.Send(packet, netip.AddrPortFrom(ip, port)); err != nil {
			log.Debug("guess not sent", "peer", a.peer, "reason", err.Error())
			return
		}
		a.guesses.Add(1)
	}
}

// order is the ports to try: those that follow the highest that was seen, then
// any, each once.
func order(seen []netip.AddrPort, n int) []uint16 {
	out := make([]uint16, 0, n)
	tried := make(map[uint16]bool, n)
	try := func(p int) {
		if p >= firstPort && p <= 65535 && !tried[uint16(p)] && len(out) < n {
			tried[uint16(p)] = true
			out = append(out, uint16(p))
		}
	}
	last := slices.MaxFunc(seen, func(a, b netip.AddrPort) int { return int(a.Port()) - int(b.Port()) })
	for i := range nearby {
		try(int(last.Port()) + i)
	}
	for len(out) < n {
		try(firstPort + mrand.IntN(65536-firstPort))
	}
	return out
}

// openMany sends to the peer from many sockets, each of which our NAT gives a
// port. On the one where something comes back, we dial.
func (a *attempt) openMany(ctx context.Context, to netip.AddrPort) {
	a.note(to.Addr())
	ctx, cancel := context.WithCancel(ctx)
	var reading sync.WaitGroup
	hit := make(chan net.PacketConn, 1)
	sockets := make([]net.PacketConn, 0, openSockets)
	defer func() {
		cancel()
		for _, s := range sockets {
			_ = s.SetReadDeadline(time.Unix(1, 0)) // ends the read
		}
		reading.Wait()
		close(hit)
		kept := <-hit
		for _, s := range sockets {
			if s != kept {
				s.Close()
			}
		}
		if kept != nil {
			a.dialFrom(kept, to)
		}
	}()
	dst := net.UDPAddrFromAddrPort(to)
	packet := make([]byte, packetSize)
	tick := time.NewTicker(pace)
	defer tick.Stop()
	found := make(chan struct{})
	var once sync.Once
	for range openSockets {
		s, err := a.u.cfg.Sockets.Open()
		if err != nil {
			log.Debug("socket not opened", "reason", err)
			break
		}
		sockets = append(sockets, s)
		fill(packet)
		if _, err := s.WriteTo(packet, dst); err != nil {
			continue
		}
		a.guesses.Add(1)
		reading.Go(func() {
			if hears(s, to) {
				select {
				case hit <- s:
					once.Do(func() { close(found) })
				default: // another was faster
				}
			}
		})
		select {
		case <-tick.C:
		case <-found:
			return
		case <-ctx.Done():
			return
		}
	}
	select {
	case <-found:
	case <-ctx.Done():
	case <-a.direct:
	}
}

// hears waits until something comes from the peer's address.
func hears(s net.PacketConn, from netip.AddrPort) bool {
	buf := make([]byte, 1500)
	for range 64 {
		_, src, err := s.ReadFrom(buf)
		if err != nil {
			return false
		}
		if u, ok := src.(*net.UDPAddr); ok && sameSpot(u.AddrPort(), from) {
			return true
		}
	}
	return false
}

func sameSpot(a, b netip.AddrPort) bool {
	return a.Port() == b.Port() && a.Addr().Unmap() == b.Addr().Unmap()
}

// packetSize is that of a packet that means nothing. Its first two bits are
// zero, which no QUIC packet's are (RFC 9443 section 3), so that it is dropped
// for what it is.
const packetSize = 32

func fill(b []byte) {
	rand.Read(b)
	b[0] &= 0x3f
}
