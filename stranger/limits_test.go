package stranger

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"time"
)

func TestLimits(t *testing.T) {
	if got, want := (Limits{PerTarget: 9}).withDefaults(), (Limits{PerAsker: 6, PerServer: 12, PerTarget: 9, Total: 30, Concurrent: 4}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := (Limits{PerAsker: -1, Total: -1}).validate(); err == nil {
		t.Error("limits below 0 are accepted")
	}
	if _, err := New(nil, Config{Limits: Limits{Total: -1}}); err == nil {
		t.Error("a configuration without dialer and with a limit below 0 is accepted")
	}
}

// TestGate counts who gets in of many that leave at once.
func TestGate(t *testing.T) {
	ip := netip.MustParseAddr
	after := func(ip netip.Addr, n uint32) netip.Addr {
		b := ip.As4()
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(b[:])+n)))
	}
	next := func(ip netip.Addr) netip.Addr { return after(ip, 256) } // in the next /24
	near := func(ip netip.Addr) netip.Addr { b := ip.As4(); b[3]++; return netip.AddrFrom4(b) }
	same := func(ip netip.Addr) netip.Addr { return ip }
	for _, c := range []struct {
		name          string
		asker, target func(netip.Addr) netip.Addr
		want          int // of 1000 at once
		later         int // of 1000 in each of the minutes after
	}{
		{"one asks", same, next, 2, 2},
		{"one network is dialled", next, near, 4, 4},
		{"many ask for many", next, next, 30, 30},
	} {
		g, at := newGate(2, 4, 30, 4), time.Unix(0, 0)
		got := func(over time.Duration) (n int) {
			asker, target := ip("8.0.0.1"), ip("9.0.0.1")
			for range 1000 {
				leave, err := g.enter(asker, target, at)
				if err == nil {
					n++
					leave()
				}
				asker, target = c.asker(asker), c.target(target)
				at = at.Add(over / 1000)
			}
			return n
		}
		if n := got(0); n != c.want {
			t.Errorf("%s: %d at once, want %d", c.name, n, c.want)
		}
		for range 3 {
			if n := got(time.Minute); n < c.later-1 || n > c.later {
				t.Errorf("%s: %d in a minute, want %d", c.name, n, c.later)
			}
		}
		if len(g.perHost) != 0 || g.inside != 0 {
			t.Errorf("%s: %d inside after all have left", c.name, g.inside)
		}
	}
}

// TestGatePlaces: half of the places are for one address, all for many.
func TestGatePlaces(t *testing.T) {
	g := newGate(100, 100, 100, 4)
	enter := func(from string) error {
		_, err := g.enter(netip.MustParseAddr(from), netip.MustParseAddr("9.9.9.9"), time.Unix(0, 0))
		return err
	}
	for i, c := range []struct {
		from string
		in   bool
	}{{"2a00::1", true}, {"2a00::2", true}, {"2a00::ffff:1", false}, {"2a00:0:0:1::1", true}, {"8.8.8.8", true}, {"8.8.8.9", false}} {
		err := enter(c.from)
		var refusal *RefusedError
		if (err == nil) != c.in || err != nil && (!errors.As(err, &refusal) || refusal.Reason != Busy) {
			t.Errorf("%d, from %s: got %v, want in %v", i, c.from, err, c.in)
		}
	}
}
