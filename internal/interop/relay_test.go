//go:build linux

package interop_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/causeway-p2p/causeway/internal/interop/report"
	"github.com/causeway-p2p/causeway/relay"
	"github.com/causeway-p2p/causeway/relay/acl"
)

const hop = "/libp2p/circuit/relay/0.2.0/hop"

// each runs a test for every stock program that there is.
func each(t *testing.T, f func(t *testing.T, p program)) {
	for _, p := range stock {
		t.Run(p.name, func(t *testing.T) { t.Parallel(); f(t, p) })
	}
	t.Run("js", func(t *testing.T) {
		if jsWants != "" {
			t.Skip(jsWants)
		}
		t.Parallel()
		f(t, js)
	})
}

// TestReserve: what a stock peer is told is what the relay was set to, signed.
func TestReserve(t *testing.T) {
	needPrograms(t)
	const ttl = 40 * time.Minute
	s := startRelayd(t, "--reservation-ttl", ttl.String(), "--circuit-time", "7m", "--circuit-bytes", "3145728")
	each(t, func(t *testing.T, p program) {
		begun := time.Now().Truncate(time.Second) // the wire has whole seconds
		x := reserve(t, p, s.over(t, "tcp"))
		if want := builtWith(t, p); !strings.HasPrefix(x.first.Libp2p, want) {
			t.Errorf("libp2p: got %s, want %s", x.first.Libp2p, want)
		}
		if !slices.Contains(x.first.Protocols, hop) {
			t.Errorf("identify: got %v, want %s in it", x.first.Protocols, hop)
		}
		r := x.first.Reservation
		if e := r.Expires; e.Before(begun.Add(ttl)) || e.After(time.Now().Add(ttl)) {
			t.Errorf("expires %v: want %v from now (%v)", e, ttl, time.Now())
		}
		if !r.Voucher {
			t.Error("no valid voucher")
		}
		for _, a := range s.addrs {
			if !slices.Contains(r.Addrs, a) {
				t.Errorf("addresses: got %v, want %s in it", r.Addrs, a)
			}
		}
		if p.js {
			return // forgets the limits, and refreshes by its own clock
		}
		if r.LimitSeconds != 7*60 || r.LimitBytes != 3<<20 {
			t.Errorf("limits: got %d s and %d bytes, want 420 s and 3145728 bytes", r.LimitSeconds, r.LimitBytes)
		}
		again := x.again()
		if again.Reservation == nil {
			t.Fatalf("refresh: got %+v, want a reservation", again)
		}
		if again.Reservation.Expires.Before(r.Expires) || !again.Reservation.Voucher {
			t.Errorf("refresh: got %+v after %+v", *again.Reservation, *r)
		}
	})
}

// builtWith is the version that a program should have been built with.
func builtWith(t *testing.T, p program) string {
	t.Helper()
	if p.js {
		return "js-3."
	}
	file := "../../go.mod"
	if p.name != "current" {
		file = filepath.Join("versions", p.name+".mod")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`github.com/libp2p/go-libp2p (v\S+)`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("%s requires no go-libp2p", file)
	}
	return string(m[1])
}

// TestAutoRelay: go-libp2p's AutoRelay takes ours for a relay, and advertises an
// address over it.
func TestAutoRelay(t *testing.T) {
	needPrograms(t)
	// AutoRelay passes over private addresses, and so over all that a relay on
	// loopback has. Nobody dials this one.
	const public = "/dns4/relay.example.com/tcp/4001"
	s := startRelayd(t, "--announce", public)
	for _, p := range stock {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			x := p.start(t, "auto", s.over(t, "tcp"))
			if got := strings.Join(x.first.Addrs, " "); !strings.Contains(got, public+"/p2p/") || !strings.HasSuffix(got, "/p2p-circuit") {
				t.Errorf("addresses: got %q (error %q), want one over %s", got, x.first.Error, public)
			}
			wantEcho(t, p.run(t, "dial", s.over(t, "quic"), x.first.ID, "100000"), 100000)
		})
	}
}

// TestTransports: every version with itself, over all that relayd listens on.
func TestTransports(t *testing.T) {
	needPrograms(t)
	s := startRelayd(t)
	for _, c := range []struct {
		transport, security string
		size                int64
	}{
		{"tcp", "noise", 5 << 20},
		{"tcp", "tls", 1 << 20},
		{"quic", "", 5 << 20},
		{"ws", "", 64 << 10},
	} {
		t.Run(c.transport+c.security, func(t *testing.T) {
			each(t, func(t *testing.T, p program) {
				if p.js && c.transport != "tcp" {
					t.Skip("js-libp2p has no QUIC, and WebSocket only on Node 22")
				}
				addr := s.over(t, c.transport)
				listener := reserve(t, p, addr, "--security", c.security)
				wantEcho(t, p.run(t, "--security", c.security, "dial", addr, listener.first.ID, fmt.Sprint(c.size)), c.size)
			})
		})
	}
}

// TestMixed: every version with every other, each over its own transport.
func TestMixed(t *testing.T) {
	needPrograms(t)
	s := startRelayd(t)
	each(t, func(t *testing.T, p program) {
		listener := reserve(t, p, s.over(t, "tcp"))
		each(t, func(t *testing.T, q program) {
			transport := "quic"
			if q.js {
				transport = "tcp"
			}
			const size = 1 << 20
			wantEcho(t, q.run(t, "dial", s.over(t, transport), listener.first.ID, fmt.Sprint(size)), size)
			if r := q.run(t, "ping", s.over(t, transport), listener.first.ID); r.Circuit == nil || !r.Circuit.Pinged {
				t.Errorf("ping: got %+v", r)
			}
		})
	})
}

// both runs a test against our relay and a stock one: what a peer sees of a
// limit should be the same.
func both(t *testing.T, limit relay.Limits, f func(t *testing.T, p program, addr string)) {
	ours := startHost(t, limit, relay.Access{}).over(t, "tcp")
	theirs := startStockRelay(t, stock[len(stock)-1],
		"--circuit-time", limit.WithDefaults().CircuitTime.String(), "--circuit-bytes", fmt.Sprint(limit.WithDefaults().CircuitBytes)).over(t, "tcp")
	t.Run("ours", func(t *testing.T) { each(t, func(t *testing.T, p program) { f(t, p, ours) }) })
	t.Run("stock", func(t *testing.T) { each(t, func(t *testing.T, p program) { f(t, p, theirs) }) })
}

// TestByteLimit: a circuit carries what it may and then ends, at both ends.
func TestByteLimit(t *testing.T) {
	needPrograms(t)
	const limit = 256 << 10
	both(t, relay.Limits{CircuitBytes: limit}, func(t *testing.T, p program, addr string) {
		listener := reserve(t, p, addr)
		wantEcho(t, p.run(t, "dial", addr, listener.first.ID, fmt.Sprint(limit/2)), limit/2)
		r := p.run(t, "dial", addr, listener.first.ID, fmt.Sprint(4*limit))
		silent := r.Error == "" && !p.js // js-libp2p takes some resets for the end
		open := strings.Contains(r.Error, "the circuit did not end")
		if r.Circuit == nil || silent || open || r.Circuit.Equal || r.Circuit.Received >= limit {
			t.Errorf("echo of %d bytes over a circuit of %d: got %+v, circuit %+v", 4*limit, limit, r, r.Circuit)
		}
		// The listener has taken no harm.
		wantEcho(t, p.run(t, "dial", addr, listener.first.ID, "1000"), 1000)
	})
}

// TestTimeLimit: a circuit over which nothing goes ends in time all the same.
func TestTimeLimit(t *testing.T) {
	needPrograms(t)
	both(t, relay.Limits{CircuitTime: time.Second}, func(t *testing.T, p program, addr string) {
		listener := reserve(t, p, addr)
		if r := p.run(t, "hold", addr, listener.first.ID); r.Circuit == nil || !r.Circuit.Ended {
			t.Errorf("circuit of a second: got %+v, circuit %+v; want it to end", r, r.Circuit)
		}
	})
}

// TestUnlimited: a relay without limits says so, and its circuits count as any
// other connection.
func TestUnlimited(t *testing.T) {
	needPrograms(t)
	s := startHost(t, relay.Limits{CircuitTime: relay.Unlimited, CircuitBytes: relay.Unlimited}, relay.Access{})
	each(t, func(t *testing.T, p program) {
		addr := s.over(t, "tcp")
		listener := reserve(t, p, addr)
		if r := listener.first.Reservation; r.LimitSeconds != 0 || r.LimitBytes != 0 {
			t.Errorf("reservation: got %+v, want no limits", *r)
		}
		r := p.run(t, "dial", addr, listener.first.ID, "100000")
		if r.Circuit == nil || !r.Circuit.Equal || r.Circuit.Limited {
			t.Errorf("echo: got %+v, circuit %+v; want it to count as unlimited", r, r.Circuit)
		}
	})
}

// TestRefused: stock peers read the status that the specification has for it.
func TestRefused(t *testing.T) {
	needPrograms(t)
	denyAll, err := acl.Parse(strings.NewReader("deny all\n"), "test")
	if err != nil {
		t.Fatal(err)
	}
	open := startHost(t, relay.Limits{}, relay.Access{}).over(t, "tcp")
	full := startHost(t, relay.Limits{Reservations: 1}, relay.Access{}).over(t, "tcp")
	denied := startHost(t, relay.Limits{}, relay.Access{ACL: denyAll}).over(t, "tcp")
	rare := startHost(t, relay.Limits{RequestsPerPeer: 1}, relay.Access{}).over(t, "tcp")
	holder := reserve(t, stock[0], full).first.ID
	each(t, func(t *testing.T, p program) {
		want := func(status string, r report.Report, what string) {
			t.Helper()
			if r.Refused != status {
				t.Errorf("%s: got %q in %+v, want %s", what, r.Refused, r, status)
			}
		}
		want("PERMISSION_DENIED", p.run(t, "dial", denied, holder, "1"), "dial where all are denied")
		want("NO_RESERVATION", p.run(t, "dial", open, holder, "1"), "dial a peer without reservation")
		want("PERMISSION_DENIED", p.run(t, "reserve", denied), "reserve where all are denied")
		want("RESERVATION_REFUSED", p.run(t, "reserve", full), "reserve on a full relay")
		if !p.js { // refreshes by its own clock
			want("RESOURCE_LIMIT_EXCEEDED", reserve(t, p, rare).again(), "refresh sooner than the rate allows")
		}
	})
}
