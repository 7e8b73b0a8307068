package relay

import (
	"errors"
	"fmt"
	"time"

	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
)

// Limits bound what strangers may use. The zero value of a field is its
// default; Unlimited lifts it where that makes sense.
type Limits struct {
	// Reservations is how many peers may hold one at a time. If zero, 1024.
	Reservations int `json:"reservations" toml:"reservations"`
	// ReservationsPerIP bounds those that come from one IP address. If zero,
	// 32: whole offices sit behind one NAT.
	ReservationsPerIP int `json:"reservations_per_ip" toml:"reservations_per_ip"`
	// ReservationsPerASN bounds those from one autonomous system. If zero, 256.
	ReservationsPerASN int `json:"reservations_per_asn" toml:"reservations_per_asn"`
	// ReservationTTL is how long a reservation holds unless refreshed. If
	// zero, 1 hour.
	ReservationTTL time.Duration `json:"reservation_ttl_ns" toml:"reservation_ttl"`
	// CircuitsPerPeer bounds the circuits of one peer at a time. If zero, 64.
	CircuitsPerPeer int `json:"circuits_per_peer" toml:"circuits_per_peer"`
	// CircuitTime is how long a circuit may last. If zero, 1 hour.
	CircuitTime time.Duration `json:"circuit_time_ns" toml:"circuit_time"`
	// CircuitBytes is how much a circuit may carry in each direction. If
	// zero, 256 MiB.
	CircuitBytes int64 `json:"circuit_bytes" toml:"circuit_bytes"`
}

// Unlimited, in CircuitTime or CircuitBytes, lifts the limit of both: circuit
// v2 calls a connection limited or not, and has nothing in between.
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
	def(&l.ReservationsPerASN, 256)
	def(&l.CircuitsPerPeer, 64)
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
	atLeast("reservations", int64(l.Reservations), 1)
	atLeast("reservations_per_ip", int64(l.ReservationsPerIP), 1)
	atLeast("reservations_per_asn", int64(l.ReservationsPerASN), 1)
	atLeast("circuits_per_peer", int64(l.CircuitsPerPeer), 1)
	if l.ReservationTTL != 0 && l.ReservationTTL < time.Minute {
		errs = append(errs, fmt.Errorf("limit reservation_ttl is %v, want at least 1m", l.ReservationTTL))
	}
	if l.CircuitTime != 0 && l.CircuitTime != Unlimited && l.CircuitTime < time.Second {
		errs = append(errs, fmt.Errorf("limit circuit_time is %v, want at least 1s, or -1ns for no limit", l.CircuitTime))
	}
	if l.CircuitBytes != 0 && l.CircuitBytes != Unlimited && l.CircuitBytes < 4096 {
		errs = append(errs, fmt.Errorf("limit circuit_bytes is %d, want at least 4096, or -1 for no limit", l.CircuitBytes))
	}
	return errors.Join(errs...)
}

func (l Limits) unlimited() bool { return l.CircuitTime == Unlimited || l.CircuitBytes == Unlimited }

// String says the limits in plain words.
func (l Limits) String() string {
	l = l.WithDefaults()
	circuit := "circuits of any length and size"
	if !l.unlimited() {
		circuit = fmt.Sprintf("each circuit up to %s and %s each way", shortDuration(l.CircuitTime), shortBytes(l.CircuitBytes))
	}
	return fmt.Sprintf("%d reservations of %s (%d per IP), %d circuits per peer, %s",
		l.Reservations, shortDuration(l.ReservationTTL), l.ReservationsPerIP, l.CircuitsPerPeer, circuit)
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

func (l Limits) resources() relayv2.Resources {
	rc := relayv2.DefaultResources()
	rc.MaxReservations = l.Reservations
	rc.MaxReservationsPerIP = l.ReservationsPerIP
	rc.MaxReservationsPerASN = l.ReservationsPerASN
	rc.ReservationTTL = l.ReservationTTL
	rc.MaxCircuits = l.CircuitsPerPeer
	rc.BufferSize = 16 << 10 // go-libp2p's 2 KiB cost twice the CPU
	rc.Limit = &relayv2.RelayLimit{Duration: l.CircuitTime, Data: l.CircuitBytes}
	if l.unlimited() {
		rc.Limit = nil
	}
	return rc
}
