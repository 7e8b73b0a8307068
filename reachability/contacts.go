package reachability

import (
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/causeway-p2p/causeway/internal/maddr"
)

const (
	// contactTTL is how long a host stays no stranger after the last we had to
	// do with it. NATs let a host in for as long as they remember that we sent
	// to it: for UDP a few minutes (RFC 4787 section 4.3), which this is twice.
	contactTTL = 10 * time.Minute
	// maxContacts bounds the hosts that are remembered. With more, nobody is
	// taken for a stranger until the forgotten ones would be again.
	maxContacts = 8192
)

// contacts are the IP addresses that we sent something to lately. Who is none
// of them and gets through to us was let in by no packet of ours.
type contacts struct {
	mu       sync.Mutex // guards the fields below
	ips      map[netip.Addr]*contact
	overflow time.Time // until when a forgotten contact may seem a stranger
}

type contact struct {
	since, last time.Time
	conns       int
}

func newContacts() *contacts { return &contacts{ips: make(map[netip.Addr]*contact)} }

func (c *contact) over(now time.Time) bool { return c.conns == 0 && now.Sub(c.last) > contactTTL }

// add notes that something was, or is about to be, sent to ip.
func (s *contacts) add(ip netip.Addr, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noteLocked(ip, now)
}

func (s *contacts) noteLocked(ip netip.Addr, at time.Time) *contact {
	c := s.ips[ip]
	switch {
	case c == nil:
		s.makeRoomLocked(at)
		c = &contact{since: at}
		s.ips[ip] = c
	case c.over(at):
		c.since = at
	}
	if at.After(c.last) {
		c.last = at
	}
	return c
}

// makeRoomLocked forgets what is over, and if that is not enough the oldest.
func (s *contacts) makeRoomLocked(now time.Time) {
	if len(s.ips) < maxContacts {
		return
	}
	for ip, c := range s.ips {
		if c.over(now) {
			delete(s.ips, ip)
		}
	}
	if len(s.ips) < maxContacts {
		return
	}
	// A quarter at once, so that a crowd costs no scan per newcomer.
	n := maxContacts / 4
	for ip := range s.ips {
		if n--; n < 0 {
			break
		}
		delete(s.ips, ip)
	}
	s.overflow = now.Add(contactTTL)
}

func (s *contacts) connected(ip netip.Addr, opened time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noteLocked(ip, opened).conns++
}

func (s *contacts) disconnected(ip netip.Addr, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.ips[ip]; c != nil {
		c.conns = max(0, c.conns-1)
		c.last = now
	}
}

// stranger reports whether ip was no contact of ours when it opened a
// connection to us; that connection makes it one.
func (s *contacts) stranger(ip netip.Addr, opened, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Before(s.overflow) {
		return false
	}
	c := s.ips[ip]
	return c == nil || !c.since.Before(opened)
}

// notifiee keeps the contacts by what the network says. Dials that fail are not
// among it: [Tracker.Contacted] is for those.
func (s *contacts) notifiee() *network.NotifyBundle {
	return &network.NotifyBundle{
		ConnectedF: func(_ network.Network, c network.Conn) {
			if ip, ok := remoteIP(c); ok {
				s.connected(ip, c.Stat().Opened)
			}
		},
		DisconnectedF: func(_ network.Network, c network.Conn) {
			if ip, ok := remoteIP(c); ok {
				s.disconnected(ip, time.Now())
			}
		},
	}
}

// remoteIP is where the packets of a direct connection go.
func remoteIP(c network.Conn) (netip.Addr, bool) {
	a := c.RemoteMultiaddr()
	if a == nil || maddr.IsCircuit(a) {
		return netip.Addr{}, false
	}
	ip := maddr.IP(a)
	return ip, ip.IsValid()
}
