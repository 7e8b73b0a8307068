package relay

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
)

// Anonymous is the class of those whom nothing puts into another.
const Anonymous = "anonymous"

// Class is what the peers of one kind may use. A zero means no limit, other
// than in Limits, where it means the default.
type Class struct {
	// Name is what ACLs, tokens and validators call it: 1 to 32 characters of
	// a-z 0-9 -.
	Name string `json:"name" toml:"name"`
	// Reservations bounds those of the class at a time.
	Reservations int `json:"reservations" toml:"reservations"`
	// CircuitsPerPeer bounds the circuits of one peer at a time.
	CircuitsPerPeer int `json:"circuits_per_peer" toml:"circuits_per_peer"`
	// CircuitTime is how long a circuit may last, at least 1 s.
	CircuitTime time.Duration `json:"circuit_time_ns" toml:"circuit_time"`
	// CircuitBytes is how much a circuit may carry in each direction, at least
	// 4096.
	CircuitBytes int64 `json:"circuit_bytes" toml:"circuit_bytes"`
	// Rate and Burst bound all circuits of one peer together, both directions,
	// in bytes per second and bytes.
	Rate  int64 `json:"rate" toml:"rate"`
	Burst int64 `json:"burst" toml:"burst"`
	// MonthlyBytes is how much a peer may have relayed in a calendar month
	// (UTC), both directions together.
	MonthlyBytes int64 `json:"monthly_bytes" toml:"monthly_bytes"`
	// HolePunchOnly makes a circuit just good enough for two peers to agree on
	// a direct connection.
	HolePunchOnly bool `json:"hole_punch_only" toml:"hole_punch_only"`

	// rank orders classes by trust; it is the place in the list.
	rank int
}

const (
	// punchTime and punchBytes are enough for the handshake of the connection
	// inside a circuit, identify with signed records of many addresses, and
	// several rounds of DCUtR (github.com/libp2p/specs/blob/master/relay/DCUtR.md):
	// some 15 kB and 10 round trips.
	punchTime  = 30 * time.Second
	punchBytes = 64 << 10
)

// circuit is the time and the bytes, each way, that a circuit gets; 0 is
// unlimited.
func (c *Class) circuit() (time.Duration, int64) {
	if c.HolePunchOnly {
		return punchTime, punchBytes
	}
	return c.CircuitTime, c.CircuitBytes
}

// limit is the same for the wire. Without one a circuit counts as unlimited;
// a zero in one means the same for that field.
func (c *Class) limit() *pbv2.Limit {
	d, n := c.circuit()
	if d == 0 && n == 0 {
		return nil
	}
	// Rounded up: a limit below a second must not read as none.
	seconds, bytes := uint32((d+time.Second-1)/time.Second), uint64(n)
	return &pbv2.Limit{Duration: &seconds, Data: &bytes}
}

var className = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

func (c *Class) validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("class %s: "+format, append([]any{c.Name}, args...)...))
	}
	if !className.MatchString(c.Name) {
		errs = append(errs, fmt.Errorf("class name %q: want 1 to 32 characters of a-z 0-9 -", c.Name))
	}
	for _, f := range []struct {
		name     string
		v, least int64
	}{
		{"reservations", int64(c.Reservations), 1},
		{"circuits_per_peer", int64(c.CircuitsPerPeer), 1},
		{"circuit_bytes", c.CircuitBytes, 4096},
		{"rate", c.Rate, 1024},
		{"burst", c.Burst, 1024},
		{"monthly_bytes", c.MonthlyBytes, 1},
	} {
		if f.v != 0 && f.v < f.least {
			bad("%s is %d, want at least %d, or 0 for no limit", f.name, f.v, f.least)
		}
	}
	if c.CircuitTime != 0 && c.CircuitTime < time.Second {
		bad("circuit_time is %v, want at least 1s, or 0 for no limit", c.CircuitTime)
	}
	if c.Burst != 0 && c.Rate == 0 {
		bad("burst without rate")
	}
	return errors.Join(errs...)
}
