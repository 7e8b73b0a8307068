//go:build linux

package natlab_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/causeway-p2p/causeway/internal/natlab"
	"github.com/causeway-p2p/causeway/netwatch"
)

// TestNetwatch holds that what happens to a machine's interfaces is noticed
// within a second, and that what does not matter is not reported.
func TestNetwatch(t *testing.T) {
	t.Parallel()
	lab := natlab.New(t)
	host := lab.NAT("box", natlab.PortRestricted).Host("host")
	p := host.Start("netwatch", "/usr/bin/env", netwatchEnv+"=1", os.Args[0], "-test.run=^TestNetwatchProgram$", "-test.v")
	scan(t, p, 0, "the program to watch", func(line string) bool { return line == "watching" })
	ip := func(args ...string) {
		t.Helper()
		r, err := host.Run(t.Context(), nil, "ip", args...)
		if err != nil || r.Code != 0 {
			t.Fatalf("ip %s: %v, %+v", strings.Join(args, " "), err, r)
		}
	}
	// Its first look may come a moment after its word, and what was there by
	// then is no change: an address comes and goes until both are noticed.
	for seen := false; !seen; {
		mark := p.Mark()
		ip("addr", "add", "192.168.1.76/24", "dev", "eth0")
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		_, _, err := p.WaitLineAfter(ctx, mark, regexp.MustCompile(`192\.168\.1\.76 is new`))
		cancel()
		seen = err == nil
		mark = p.Mark()
		ip("addr", "del", "192.168.1.76/24", "dev", "eth0")
		scan(t, p, mark, "the address to go", func(line string) bool { return strings.Contains(line, "192.168.1.76 is gone") })
	}
	gateway := strings.TrimSuffix(host.IP().String(), "10") + "1"
	for _, c := range []struct {
		what string
		do   func()
		want string // of the sentence; empty: silence
	}{
		{"an address comes", func() { ip("addr", "add", "192.168.1.77/24", "dev", "eth0") }, "192.168.1.77 is new"},
		{"an address goes", func() { ip("addr", "del", "192.168.1.77/24", "dev", "eth0") }, "192.168.1.77 is gone"},
		{"a docker bridge without an address", func() {
			ip("link", "add", "docker0", "type", "bridge")
			ip("link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
			ip("link", "set", "veth0", "up")
			ip("link", "set", "veth1", "up")
			ip("link", "del", "veth0")
			ip("link", "del", "docker0")
			ip("route", "add", "198.51.100.0/24", "via", gateway)
			ip("route", "del", "198.51.100.0/24")
		}, ""},
		{"what told of it goes", func() { ip("addr", "del", "192.168.1.78/24", "dev", "eth0") }, "192.168.1.78 is gone"},
		{"the link goes down", func() { ip("link", "set", "eth0", "down") }, host.IP().String() + " is gone, default route changed"},
		{"the link comes up", func() {
			ip("link", "set", "eth0", "up")
			ip("route", "add", "default", "via", gateway)
		}, host.IP().String() + " is new, default route changed"},
		{"another default route", func() {
			ip("addr", "add", "10.7.0.4/24", "dev", "eth0")
			ip("route", "replace", "default", "via", "10.7.0.1")
		}, "10.7.0.4 is new, default route changed"},
	} {
		mark, began := p.Mark(), time.Now()
		c.do()
		done := time.Now()
		if c.want == "" {
			ip("addr", "add", "192.168.1.78/24", "dev", "eth0") // tells when it would have been heard of
			c.want = "192.168.1.78 is new"
		}
		var at time.Time
		scan(t, p, mark, c.what, func(line string) bool {
			var n noticed
			if !strings.HasPrefix(line, "{") || json.Unmarshal([]byte(line), &n) != nil {
				return false
			}
			at = n.At
			if n.Text != c.want {
				// In steps, if the machine was slow to do them.
				if done.Sub(began) < 200*time.Millisecond || !strings.Contains(c.want, n.Text) {
					t.Errorf("%s: heard %q, want %q", c.what, n.Text, c.want)
				}
			}
			return strings.HasSuffix(c.want, n.Text)
		})
		t.Logf("%s: %q, noticed %v after it was done", c.what, c.want, at.Sub(done).Round(time.Millisecond))
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
}

// noticed is what the program prints.
type noticed struct {
	At   time.Time
	Text string
}

const netwatchEnv = "NATLAB_TEST_NETWATCH"

// TestNetwatchProgram is the program of TestNetwatch.
func TestNetwatchProgram(t *testing.T) {
	if os.Getenv(netwatchEnv) == "" {
		t.Skip("not a test, but the program of one")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var all []string
	// What comes after this line and before the first look is no change.
	fmt.Println("watching")
	err := netwatch.Run(ctx, func(c netwatch.Change) {
		all = append(all, c.String())
		line, err := json.Marshal(noticed{time.Now(), c.String()})
		if err != nil {
			t.Error(err)
		}
		fmt.Println(string(line))
	})
	if err != nil || slices.Contains(all, "nothing changed") {
		t.Errorf("%v, %q", err, all)
	}
}
