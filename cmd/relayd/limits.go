package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/causeway-p2p/causeway/internal/cli"
	"github.com/causeway-p2p/causeway/relay"
)

// limit is one field of relay.Limits or relay.Class as a person writes it. It
// is a pflag.Value.
type limit struct {
	name  string // as in JSON, and in errors
	usage string
	kind  kind
	// none is what the field is where there is no limit, and auto what makes it
	// the relay's choice; must is for what cannot be.
	none, auto int64
	get        func() int64
	set        func(int64)
}

// kind is how a limit is written.
type kind string

const (
	countKind    kind = "number"
	bytesKind    kind = "bytes"
	rateKind     kind = "bytes/s"
	durationKind kind = "duration"
	switchKind   kind = "bool"
)

const must = math.MinInt64

// The words for a limit that is none, and for one that the relay chooses.
const (
	unlimitedWord = "unlimited"
	autoWord      = "auto"
)

func field[N ~int | ~int64](kind kind, name string, p *N, none int64, usage string) limit {
	return limit{
		name: name, usage: usage, kind: kind, none: none, auto: must,
		get: func() int64 { return int64(*p) }, set: func(v int64) { *p = N(v) },
	}
}

func toggle(name string, p *bool, usage string) limit {
	l := limit{name: name, usage: usage, kind: switchKind, none: must, auto: must}
	l.get = func() int64 {
		if *p {
			return 1
		}
		return 0
	}
	l.set = func(v int64) { *p = v != 0 }
	return l
}

// limitsOf lists the fields of all limits but the classes.
func limitsOf(l *relay.Limits) []limit {
	memory := field(bytesKind, "memory", &l.Memory, relay.Unlimited, "memory in use from which on new work is refused (auto: 80% of what there is)")
	memory.auto = 0
	return []limit{
		field(countKind, "reservations", &l.Reservations, must, "peers that may hold a reservation at a time"),
		field(countKind, "reservations_per_ip", &l.ReservationsPerIP, must, "peers from one IP address that may hold a reservation at a time"),
		field(countKind, "reservations_per_subnet", &l.ReservationsPerSubnet, must, "peers from one /24 (IPv4) or /48 (IPv6) that may"),
		field(countKind, "reservations_per_asn", &l.ReservationsPerASN, must, "peers from one autonomous system that may"),
		field(durationKind, "reservation_ttl", &l.ReservationTTL, must, "how long a reservation holds unless refreshed"),
		field(countKind, "circuits", &l.Circuits, must, "circuits of all peers at a time"),
		field(countKind, "circuits_per_ip", &l.CircuitsPerIP, must, "circuits opened by peers at one IP address"),
		field(rateKind, "bandwidth", &l.Bandwidth, 0, "bytes a second of all circuits together, shared evenly, like 100MB"),
		field(countKind, "requests_per_peer", &l.RequestsPerPeer, relay.Unlimited, "reservations and circuits that one peer may ask for in a minute"),
		field(countKind, "requests_per_ip", &l.RequestsPerIP, relay.Unlimited, "reservations and circuits that peers at one IP address may ask for in a minute"),
		memory,
		field(countKind, "files_percent", &l.Files, relay.Unlimited, "share of its file descriptors from which on new work is refused"),
		field(countKind, "circuits_per_peer", &l.CircuitsPerPeer, must, "circuits of one peer at a time"),
		field(durationKind, "circuit_time", &l.CircuitTime, relay.Unlimited, "how long a circuit may last (0: unlimited)"),
		field(bytesKind, "circuit_bytes", &l.CircuitBytes, relay.Unlimited, "bytes a circuit may carry each way (0: unlimited)"),
		field(rateKind, "rate", &l.Rate, 0, "bytes a second of all circuits of one peer together"),
		field(bytesKind, "burst", &l.Burst, 0, "bytes of all circuits of one peer at once after a pause; needs --rate"),
		field(bytesKind, "monthly_bytes", &l.MonthlyBytes, 0, "bytes that one peer may have relayed in a calendar month (UTC)"),
		toggle("hole_punch_only", &l.HolePunchOnly, "circuits just good enough to agree on a direct connection"),
	}
}

// classLimits lists the fields of a class.
func classLimits(c *relay.Class) []limit {
	return []limit{
		field(countKind, "reservations", &c.Reservations, 0, ""),
		field(countKind, "circuits_per_peer", &c.CircuitsPerPeer, 0, ""),
		field(durationKind, "circuit_time", &c.CircuitTime, 0, ""),
		field(bytesKind, "circuit_bytes", &c.CircuitBytes, 0, ""),
		field(rateKind, "rate", &c.Rate, 0, ""),
		field(bytesKind, "burst", &c.Burst, 0, ""),
		field(bytesKind, "monthly_bytes", &c.MonthlyBytes, 0, ""),
		toggle("hole_punch_only", &c.HolePunchOnly, ""),
	}
}

// flag is the name of a limit's flag.
func (l limit) flag() string {
	name := strings.ReplaceAll(l.name, "_", "-")
	if strings.HasPrefix(name, "reservations") || strings.HasPrefix(name, "circuits") {
		return "max-" + name // of those at a time
	}
	return name
}

// is tells whether a person means this limit: circuit-time, circuit_time,
// max-circuits, circuits.
func (l limit) is(name string) bool {
	name = strings.ReplaceAll(strings.TrimPrefix(name, "--"), "_", "-")
	return name == l.flag() || name == strings.ReplaceAll(l.name, "_", "-")
}

// addLimits adds a flag for each limit. What they are now is the default.
func addLimits(fs *pflag.FlagSet, l *relay.Limits) {
	for _, f := range limitsOf(l) {
		flag := fs.VarPF(f, f.flag(), "", f.usage)
		if f.kind == switchKind {
			flag.NoOptDefVal = "true"
		}
	}
}

// Type implements pflag.Value.
func (l limit) Type() string { return string(l.kind) }

// String writes the limit as Set reads it.
func (l limit) String() string {
	if l.get == nil {
		return "" // pflag asks the zero value
	}
	return l.write(cli.ExactBytes)
}

// words is the limit for people.
func (l limit) words() string { return l.write(cli.Bytes) }

func (l limit) write(bytes func(int64) string) string {
	switch v := l.get(); {
	case v == l.auto:
		return autoWord
	case v == l.none:
		return unlimitedWord
	case l.kind == bytesKind:
		return bytes(v)
	case l.kind == rateKind:
		return bytes(v) + "/s"
	case l.kind == durationKind:
		return shortDuration(time.Duration(v))
	case l.kind == switchKind:
		return strconv.FormatBool(v != 0)
	default:
		return strconv.FormatInt(v, 10)
	}
}

// Set reads the limit. What it may be at least is for relay.Limits to say.
func (l limit) Set(text string) error {
	v, err := l.read(strings.TrimSpace(text))
	if err == nil {
		l.set(v)
	}
	return err
}

func (l limit) read(text string) (v int64, err error) {
	switch {
	case text == autoWord && l.auto != must:
		return l.auto, nil
	case l.kind == switchKind:
		on, err := strconv.ParseBool(text)
		if err != nil {
			return 0, fmt.Errorf("%.40q is not one of true, false", text)
		}
		if on {
			return 1, nil
		}
		return 0, nil
	case text == unlimitedWord || text == "-1" || text == "-1ns":
		v = 0
	case l.kind == durationKind && text != "0":
		d, err := time.ParseDuration(text)
		if err != nil {
			return 0, fmt.Errorf("%.40q is not a time like 30m or 2h", text)
		}
		v = int64(d)
	case l.kind == countKind:
		if v, err = strconv.ParseInt(text, 10, 32); err != nil {
			return 0, fmt.Errorf("%.40q is not a number", text)
		}
	case l.kind == bytesKind || l.kind == rateKind:
		if l.kind == rateKind {
			text = strings.TrimSuffix(text, "/s")
		}
		if v, err = cli.ParseBytes(text); err != nil {
			return 0, err
		}
	}
	if v != 0 {
		return v, nil
	}
	if l.none == must {
		return 0, errors.New("there must be a limit")
	}
	return l.none, nil
}

// shortDuration leaves out the zeros at the end of 2h0m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
