//go:build linux

package natlab

import (
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"
)

// Which pairs of NATs a hole can be punched through follows from their kinds
// (RFC 5128 section 3.3); libp2p's DCUtR was seen to succeed on exactly these.
func TestHolePunchUDP(t *testing.T) {
	t.Parallel()
	lab := New(t)
	s := startServers(t, lab.Public("stun1"), lab.Public("stun2"))
	// Two of each kind, so that a kind meets itself.
	kinds := []Kind{FullCone, AddressRestricted, PortRestricted, Symmetric}
	var sides [2][]*Machine
	for i := range sides {
		for _, k := range kinds {
			sides[i] = append(sides[i], lab.NAT("nat-"+k.String()+itoa(i), k).Host(k.String()+itoa(i)))
		}
		cgn := lab.NAT("cgn"+itoa(i), PortRestricted).NAT("nat"+itoa(i), PortRestricted)
		sides[i] = append(sides[i], cgn.Host("CGNAT"+itoa(i)))
	}
	port := uint16(41000)
	for i, a := range sides[0] {
		for j, b := range sides[1] {
			// Each pair its own port: no mapping is left from the one before.
			port++
			ca, cb := newClient(t, a, port), newClient(t, b, port)
			symmetric := func(n int) bool { return n == 3 }
			strict := func(n int) bool { return n >= 2 }
			want := !(symmetric(i) && strict(j) || symmetric(j) && strict(i))
			if got := punchUDP(t, s, ca, cb); got != want {
				t.Errorf("%s to %s: punched %t, want %t", a.Name(), b.Name(), got, want)
			}
		}
	}
}

// punchUDP lets both send to where the other was seen, and says whether both
// heard the other.
func punchUDP(t *testing.T, s *servers, a, b *client) bool {
	t.Helper()
	seenA, okA := a.ask(s.at(0), s.at(0), passes)
	seenB, okB := b.ask(s.at(0), s.at(0), passes)
	if !okA || !okB {
		t.Fatal("no answer from the server")
	}
	const rounds = 3
	for range rounds {
		// The first packets may die at the other NAT: they open their own.
		for _, c := range []struct {
			*client
			to *answer
		}{{a, &seenB}, {b, &seenA}} {
			msg, _ := json.Marshal(request{ID: -1})
			c.WriteToUDPAddrPort(msg, c.to.Observed)
		}
		gotA, fromB := a.hearPunch(t, s)
		gotB, fromA := b.hearPunch(t, s)
		if gotA && gotB {
			return true
		}
		// A symmetric NAT sends from a port nobody has seen: answer to that.
		if gotA {
			seenB.Observed = fromB
		}
		if gotB {
			seenA.Observed = fromA
		}
	}
	return false
}

// hearPunch waits a moment for a packet that is not from a server.
func (c *client) hearPunch(t *testing.T, s *servers) (bool, netip.AddrPort) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(silence / 5))
	buf := make([]byte, 1500)
	for {
		_, src, err := c.ReadFromUDPAddrPort(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false, src
		}
		if err != nil {
			t.Fatal(err)
		}
		if s.udp[src] == nil {
			return true, src
		}
	}
}

// TCP simultaneous open through two port-restricted NATs, one of them doubled:
// the SYN that is lost must be lost silently.
func TestHolePunchTCP(t *testing.T) {
	t.Parallel()
	lab := New(t)
	s := startServers(t, lab.Public("stun1"), lab.Public("stun2"))
	a := lab.NAT("natA", PortRestricted).Host("a")
	b := lab.NAT("cgn", PortRestricted).NAT("natB", PortRestricted).Host("b")
	const portA, portB = 40001, 40002
	seenA, seenB := dialTCP(t, a, portA, s.at(0)), dialTCP(t, b, portB, s.at(0))
	punch := func(m *Machine, port uint16, to netip.AddrPort) error {
		return m.Do(func() error {
			d := net.Dialer{
				Timeout:   passes, // the lost SYN is repeated after a second
				Control:   reuse,
				LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(m.IP(), port)),
			}
			conn, err := d.Dial("tcp4", to.String())
			if err == nil {
				conn.Close()
			}
			return err
		})
	}
	var errA, errB error
	var both sync.WaitGroup
	both.Go(func() { errA = punch(a, portA, seenB) })
	both.Go(func() { errB = punch(b, portB, seenA) })
	both.Wait()
	if errA != nil || errB != nil {
		t.Errorf("a to b: %v; b to a: %v", errA, errB)
	}
}
