package portmap

import (
	"net/netip"
	"testing"
	"time"
)

func TestEpoch(t *testing.T) {
	start := time.Now()
	for _, c := range []struct {
		name   string
		first  uint32
		second uint32
		after  time.Duration
		lost   bool
	}{
		{"in step", 100, 700, 600 * time.Second, false},
		{"slow by less than an eighth", 100, 100 + 530, 600 * time.Second, false},
		{"slow by more", 100, 100 + 500, 600 * time.Second, true},
		{"restarted", 100000, 30, 60 * time.Second, true},
		{"restarted soon after", 10, 3, 60 * time.Second, true},
		{"an answer overtaken by another", 100, 99, 0, false},
		{"far ahead", 100, 1 << 31, time.Second, false},
		{"at its end", 1<<32 - 1, 0, time.Second, true},
	} {
		var e epoch
		e.heard(c.first, start)
		if e.lost() {
			t.Errorf("%s: lost at first", c.name)
		}
		e.heard(c.second, start.Add(c.after))
		if got := e.lost(); got != c.lost {
			t.Errorf("%s: lost %t, want %t", c.name, got, c.lost)
		}
		if e.lost() {
			t.Errorf("%s: lost twice", c.name)
		}
	}
}

func TestIsPublic(t *testing.T) {
	for a, want := range map[string]bool{
		"8.8.8.8": true, "11.1.1.2": true, "203.0.114.1": true,
		"10.0.0.1": false, "192.168.1.1": false, "172.16.0.1": false, "100.64.0.1": false, "127.0.0.1": false, "169.254.1.1": false,
		"0.0.0.0": false, "224.0.0.1": false, "255.255.255.255": false, "198.18.0.1": false, "203.0.113.1": false, "2001:4860::1": false,
	} {
		if got := isPublic(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: got %t, want %t", a, got, want)
		}
	}
	if isPublic(netip.Addr{}) {
		t.Error("no address is public")
	}
}

func TestOnLink(t *testing.T) {
	r := route{gateway: netip.MustParseAddr("10.0.0.1"), local: netip.MustParsePrefix("192.168.1.10/24")}
	for a, want := range map[string]bool{"192.168.1.1": true, "192.168.1.10": false, "192.168.2.1": false, "10.0.0.1": true, "8.8.8.8": false, "fe80::1": false} {
		if got := r.onLink(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: got %t, want %t", a, got, want)
		}
	}
}

// TestDefaultRoute is on this machine, whatever it has.
func TestDefaultRoute(t *testing.T) {
	r, err := defaultRoute()
	t.Logf("%+v, %v", r, err)
	if err == nil && !r.local.IsValid() {
		t.Error("a route without an address")
	}
}
