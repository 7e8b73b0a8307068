//go:build linux

package natlab

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

// The internet between two NATs takes time, both families alike; a LAN does
// not.
func TestDelay(t *testing.T) {
	t.Parallel()
	const delay = 20 * time.Millisecond
	lab := New(t)
	lab.Delay(delay)
	s := startServers(t, lab.Public("stun1"), lab.Public("stun2"))
	box := lab.NAT("nat", PortRestricted)
	a, b := box.Host("a"), box.Host("b")
	ca := newClient(t, a, 40001)
	fastest := func(ask func() time.Duration) time.Duration {
		best := ask()
		for range 9 { // the machine may be busy
			best = min(best, ask())
		}
		return best
	}
	udp := fastest(func() time.Duration {
		began := time.Now()
		if _, ok := ca.ask(s.at(0), s.at(0), passes); !ok {
			t.Fatal("no answer")
		}
		return time.Since(began)
	})
	tcp := func(from *Machine, to netip.Addr) time.Duration {
		return fastest(func() time.Duration {
			began := time.Now()
			err := from.Do(func() error { return dialFor(passes, "tcp", netip.AddrPortFrom(to, 9)) })
			if err == nil || isTimeout(err) {
				t.Fatalf("dial to a closed port of %s: %v, want refused", to, err)
			}
			return time.Since(began)
		})
	}
	for what, got := range map[string]time.Duration{
		"UDP": udp, "TCP over IPv4": tcp(a, s.a.IP()), "TCP over IPv6": tcp(s.b, s.a.IP6()),
	} {
		t.Logf("%s: round trip %s", what, got)
		if got < 2*delay || got > 3*delay {
			t.Errorf("%s: the fastest round trip took %s, want %s and little more", what, got, 2*delay)
		}
	}
	if got := tcp(a, b.IP()); got > delay {
		t.Errorf("the fastest round trip on the LAN took %s", got)
	}
	lab.Delay(0)
	if got := tcp(a, s.a.IP()); got > delay {
		t.Errorf("the fastest round trip after Delay(0) took %s", got)
	}
}

func TestLoss(t *testing.T) {
	t.Parallel()
	lab := New(t)
	s := startServers(t, lab.Public("stun1"), lab.Public("stun2"))
	c := newClient(t, lab.NAT("nat", PortRestricted).Host("a"), 40001)
	lab.Loss(1)
	if _, ok := c.ask(s.at(0), s.at(0), silence); ok {
		t.Error("an answer with all packets lost")
	}
	lab.Loss(0)
	if _, ok := c.ask(s.at(0), s.at(0), passes); !ok {
		t.Error("no answer with no packet lost")
	}
	lab.Loss(0.5)
	const sent = 400
	arrived := lossy(t, s.a, s.b, sent)
	t.Logf("%d of %d arrived at a loss of one half", arrived, sent)
	if arrived < sent/4 || arrived > sent*3/4 {
		t.Errorf("%d of %d arrived, want about half", arrived, sent)
	}
}

// lossy counts how many of n packets arrive.
func lossy(t *testing.T, from, to *Machine, n int) (arrived int) {
	t.Helper()
	sender, receiver := newClient(t, from, 40001), newClient(t, to, 40002)
	for range n {
		sender.WriteToUDPAddrPort([]byte("?"), netip.AddrPortFrom(to.IP(), 40002))
	}
	for {
		receiver.SetReadDeadline(time.Now().Add(silence))
		if _, err := receiver.Read(make([]byte, 10)); err != nil {
			if e, ok := err.(net.Error); !ok || !e.Timeout() {
				t.Fatal(err)
			}
			return arrived
		}
		arrived++
	}
}

// A NAT is what it was on an internet that takes time, and a hole is punched
// all the same.
func TestHolePunchWithDelay(t *testing.T) {
	t.Parallel()
	lab := New(t)
	lab.Delay(10 * time.Millisecond)
	s := startServers(t, lab.Public("stun1"), lab.Public("stun2"))
	a, b := lab.NAT("natA", PortRestricted).Host("a"), lab.NAT("natB", AddressRestricted).Host("b")
	if !punchUDP(t, s, newClient(t, a, 41001), newClient(t, b, 41002)) {
		t.Error("no hole could be punched")
	}
}
