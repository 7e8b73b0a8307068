package relay

import (
	"errors"
	"fmt"
	"time"
)

// Limits bound what strangers may use. The zero value of a field is its
// default; Unlimited lifts it where that makes sense.
type Limits struct {
	// Reservations is how many peers may hold one at a time. If zero, 1024.
	Reservations int `json:"reservations" toml:"reservations"`
	// ReservationsPerIP bounds those that come from one IP address, or one /64
	// of IPv6, as with all limits per IP. If zero, 32: whole offices sit behind
	// one NAT.
	ReservationsPerIP int `json:"reservations_per_ip" toml:"reservations_per_ip"`
	// ReservationsPerSubnet bounds those from one /24 (IPv4) or /48 (IPv6),
	// the units in which networks are handed out. If zero, 128.
	ReservationsPerSubnet int `json:"reservations_per_subnet" toml:"reservations_per_subnet"`
	// ReservationsPerASN bounds those from one autonomous system. If zero,
	// 256. The table at hand knows IPv6 only.
	ReservationsPerASN int `json:"reservations_per_asn" toml:"reservations_per_asn"`
	// ReservationTTL is how long a reservation holds unless refreshed. If
	// zero, 1 hour.
	ReservationTTL time.Duration `json:"reservation_ttl_ns" toml:"reservation_ttl"`
	// Circuits bounds the circuits of all. If zero, 16384.
	Circuits int `json:"circuits" toml:"circuits"`
	// CircuitsPerIP bounds those that are opened from one IP address. If zero,
	// 1024.
	CircuitsPerIP int `json:"circuits_per_ip" toml:"circuits_per_ip"`
	// Bandwidth bounds what is relayed, in bytes per second, both directions
	// of all circuits together. If zero, there is no bound. Under it, circuits
	// share evenly, and those that carry little go first.
	Bandwidth int64 `json:"bandwidth" toml:"bandwidth"`
	// RequestsPerPeer and RequestsPerIP bound reservations and circuits asked
	// for, per minute, with as many at once. If zero, 120 and 1200; Unlimited
	// lifts them.
	RequestsPerPeer int `json:"requests_per_peer" toml:"requests_per_peer"`
	RequestsPerIP   int `json:"requests_per_ip" toml:"requests_per_ip"`
	// Memory and Files make the relay refuse new work while the process uses
	// more: bytes obtained from the system, and the share of its file
	// descriptors in percent. If zero, 80 % of the memory that the process may
	// use (GOMEMLIMIT, cgroup, machine), and 90; Unlimited lifts them.
	Memory int64 `json:"memory" toml:"memory"`
	Files  int   `json:"files_percent" toml:"files_percent"`

	// The fields below are the class of strangers, Anonymous.

	// CircuitsPerPeer bounds the circuits of one peer at a time. If zero, 64.
	CircuitsPerPeer int `json:"circuits_per_peer" toml:"circuits_per_peer"`
	// CircuitTime is how long a circuit may last. If zero, 1 hour.
	CircuitTime time.Duration `json:"circuit_time_ns" toml:"circuit_time"`
	// CircuitBytes is how much a circuit may carry in each direction. If
	// zero, 256 MiB.
	CircuitBytes int64 `json:"circuit_bytes" toml:"circuit_bytes"`
	// Rate and Burst bound all circuits of one peer together, in bytes per
	// second and bytes. If zero, there is no bound.
	Rate  int64 `json:"rate" toml:"rate"`
	Burst int64 `json:"burst" toml:"burst"`
	// MonthlyBytes is how much a peer may have relayed in a calendar month
	// (UTC). If zero, there is no bound.
	MonthlyBytes int64 `json:"monthly_bytes" toml:"monthly_bytes"`
	// HolePunchOnly makes circuits of strangers just good enough to agree on a
	// direct connection, whatever the fields above say.
	HolePunchOnly bool `json:"hole_punch_only" toml:"hole_punch_only"`

	// Classes are those for whom other limits hold, the most trusted last: a
	// circuit has the limits of whichever of its ends is trusted more.
	Classes []Class `json:"classes,omitempty" toml:"-"`
}

// Unlimited lifts a limit.
const Unlimited = -1

// WithDefaults fills in what is zero.
func (l Limits) WithDefaults() Limits {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	def(&l.Reservations, 1024)
	def(&l.ReservationsPerIP, 32)
	def(&l.ReservationsPerSubnet, 128)
	def(&l.ReservationsPerASN, 256)
	def(&l.Circuits, 16384)
	def(&l.CircuitsPerIP, 1024)
	def(&l.CircuitsPerPeer, 64)
	def(&l.RequestsPerPeer, 120)
	def(&l.RequestsPerIP, 1200)
	def(&l.Files, 90)
	if l.ReservationTTL == 0 {
		l.ReservationTTL = time.Hour
	}
	if l.CircuitTime == 0 {
		l.CircuitTime = time.Hour
	}
	if l.CircuitBytes == 0 {
		l.CircuitBytes = 256 << 20
	}
	return l
}

// Validate reports every limit that makes no sense.
func (l Limits) Validate() error {
	var errs []error
	atLeast := func(name string, v, least int64) {
		if v != 0 && v < least {
			errs = append(errs, fmt.Errorf("limit %s is %d, want at least %d", name, v, least))
		}
	}
	// orNone is for what can be lifted; in says how to write that.
	orNone := func(name string, v, least int64) {
		if v != 0 && v != Unlimited && v < least {
			errs = append(errs, fmt.Errorf("limit %s is %d, want at least %d, or -1 for no limit", name, v, least))
		}
	}
	atLeast("reservations", int64(l.Reservations), 1)
	atLeast("reservations_per_ip", int64(l.ReservationsPerIP), 1)
	atLeast("reservations_per_subnet", int64(l.ReservationsPerSubnet), 1)
	atLeast("reservations_per_asn", int64(l.ReservationsPerASN), 1)
	atLeast("circuits", int64(l.Circuits), 1)
	atLeast("circuits_per_ip", int64(l.CircuitsPerIP), 1)
	atLeast("circuits_per_peer", int64(l.CircuitsPerPeer), 1)
	atLeast("bandwidth", l.Bandwidth, 1024)
	atLeast("rate", l.Rate, 1024)
	atLeast("burst", l.Burst, 1024)
	atLeast("monthly_bytes", l.MonthlyBytes, 1)
	orNone("requests_per_peer", int64(l.RequestsPerPeer), 1)
	orNone("requests_per_ip", int64(l.RequestsPerIP), 1)
	orNone("memory", l.Memory, 16<<20)
	orNone("files_percent", int64(l.Files), 1)
	orNone("circuit_bytes", l.CircuitBytes, 4096)
	if l.Files > 100 {
		errs = append(errs, fmt.Errorf("limit files_percent is %d, want at most 100", l.Files))
	}
	if l.Burst != 0 && l.Rate == 0 {
		errs = append(errs, errors.New("limit burst without limit rate"))
	}
	if l.ReservationTTL != 0 && l.ReservationTTL < time.Minute {
		errs = append(errs, fmt.Errorf("limit reservation_ttl is %v, want at least 1m", l.ReservationTTL))
	}
	if l.CircuitTime != 0 && l.CircuitTime != Unlimited && l.CircuitTime < time.Second {
		errs = append(errs, fmt.Errorf("limit circuit_time is %v, want at least 1s, or -1ns for no limit", l.CircuitTime))
	}
	seen := map[string]bool{Anonymous: true}
	for _, c := range l.Classes {
		errs = append(errs, c.validate())
		if seen[c.Name] {
			errs = append(errs, fmt.Errorf("class %s is there twice", c.Name))
		}
		seen[c.Name] = true
	}
	return errors.Join(errs...)
}

// anonymous is the class of strangers.
func (l Limits) anonymous() *Class {
	c := Class{
		Name: Anonymous, CircuitsPerPeer: l.CircuitsPerPeer, CircuitTime: max(l.CircuitTime, 0), CircuitBytes: max(l.CircuitBytes, 0),
		Rate: l.Rate, Burst: l.Burst, MonthlyBytes: l.MonthlyBytes, HolePunchOnly: l.HolePunchOnly,
	}
	return &c
}

// policy is what holds at a time: limits with their defaults, and the classes
// by name. It is replaced as a whole and never changed.
type policy struct {
	Limits
	anonymous *Class
	byName    map[string]*Class
}

func newPolicy(l Limits) *policy {
	l = l.WithDefaults()
	p := &policy{Limits: l, anonymous: l.anonymous(), byName: make(map[string]*Class)}
	p.byName[Anonymous] = p.anonymous
	for i := range l.Classes {
		c := l.Classes[i]
		c.rank = i + 1
		p.byName[c.Name] = &c
	}
	return p
}

// class finds a class by name; one that is not known counts as anonymous.
func (p *policy) class(name string) *Class {
	if c, ok := p.byName[name]; ok {
		return c
	}
	return p.anonymous
}

// String says the limits in plain words.
func (l Limits) String() string {
	l = l.WithDefaults()
	d, n := l.anonymous().circuit()
	circuit := "circuits of any length and size"
	switch {
	case l.HolePunchOnly:
		circuit = "circuits for hole punching only"
	case d > 0 && n > 0:
		circuit = fmt.Sprintf("each circuit up to %s and %s each way", shortDuration(d), shortBytes(n))
	case d > 0:
		circuit = "each circuit up to " + shortDuration(d)
	case n > 0:
		circuit = fmt.Sprintf("each circuit up to %s each way", shortBytes(n))
	}
	s := fmt.Sprintf("%d reservations of %s (%d per IP), %d circuits per peer, %s",
		l.Reservations, shortDuration(l.ReservationTTL), l.ReservationsPerIP, l.CircuitsPerPeer, circuit)
	if l.Bandwidth > 0 {
		s += fmt.Sprintf(", %s in all", shortRate(l.Bandwidth))
	}
	return s
}

func shortDuration(d time.Duration) string {
	switch {
	case d%time.Hour == 0:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d%time.Minute == 0:
		return fmt.Sprintf("%d min", d/time.Minute)
	}
	return d.String()
}

// shortRate is in powers of ten, as lines are sold.
func shortRate(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{1e9, "GB/s"}, {1e6, "MB/s"}, {1e3, "kB/s"}} {
		if n >= u.size {
			return fmt.Sprintf("%.4g %s", float64(n)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d B/s", n)
}

func shortBytes(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.size {
			return fmt.Sprintf("%.4g %s", float64(n)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}
