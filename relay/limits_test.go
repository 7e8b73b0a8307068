package relay

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestLimitsDefaults(t *testing.T) {
	got := Limits{}.WithDefaults()
	want := Limits{
		Reservations: 1024, ReservationsPerIP: 32, ReservationsPerASN: 256, ReservationTTL: time.Hour,
		CircuitsPerPeer: 64, CircuitTime: time.Hour, CircuitBytes: 256 << 20,
	}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := got.Validate(); err != nil {
		t.Errorf("the defaults are not valid: %v", err)
	}
	// What is set stays.
	set := Limits{
		Reservations: 1, ReservationsPerIP: 2, ReservationsPerASN: 3, ReservationTTL: 4 * time.Minute,
		CircuitsPerPeer: 5, CircuitTime: 6 * time.Second, CircuitBytes: 7000,
	}
	if got := set.WithDefaults(); got != set {
		t.Errorf("got %+v, want %+v", got, set)
	}
}

func TestLimitsValidate(t *testing.T) {
	for _, c := range []struct {
		limits Limits
		want   string // the settings that are wrong
	}{
		{Limits{}, ""},
		{Limits{CircuitTime: Unlimited, CircuitBytes: Unlimited}, ""},
		{Limits{ReservationTTL: time.Minute, CircuitTime: time.Second, CircuitBytes: 4096, Reservations: 1}, ""},
		{Limits{Reservations: -1}, "reservations"},
		{Limits{ReservationsPerIP: Unlimited}, "reservations_per_ip"},
		{Limits{ReservationTTL: time.Minute - 1}, "reservation_ttl"},
		{Limits{ReservationTTL: Unlimited}, "reservation_ttl"},
		{Limits{CircuitTime: 500 * time.Millisecond}, "circuit_time"},
		{Limits{CircuitTime: -time.Second}, "circuit_time"},
		{Limits{CircuitBytes: 4095}, "circuit_bytes"},
		{Limits{CircuitBytes: -2}, "circuit_bytes"},
		{
			Limits{-1, -2, -3, 1, -4, 5, 6},
			"reservations reservations_per_ip reservations_per_asn circuits_per_peer reservation_ttl circuit_time circuit_bytes",
		},
	} {
		var got []string
		if err := c.limits.Validate(); err != nil {
			for line := range strings.Lines(err.Error()) {
				got = append(got, strings.Fields(line)[1])
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%+v: complained about %q, want %q", c.limits, s, c.want)
		}
	}
}

func TestLimitsInWords(t *testing.T) {
	for _, c := range []struct {
		limits Limits
		want   string
	}{
		{Limits{}, "1024 reservations of 1 h (32 per IP), 64 circuits per peer, each circuit up to 1 h and 256 MiB each way"},
		{
			Limits{Reservations: 8, ReservationTTL: 90 * time.Minute, CircuitTime: 2 * time.Minute, CircuitBytes: 128 << 10},
			"8 reservations of 90 min (32 per IP), 64 circuits per peer, each circuit up to 2 min and 128 KiB each way",
		},
		{
			Limits{ReservationTTL: 90 * time.Second, CircuitTime: 1500 * time.Millisecond, CircuitBytes: 3 << 29},
			"1024 reservations of 1m30s (32 per IP), 64 circuits per peer, each circuit up to 1.5s and 1.5 GiB each way",
		},
		{
			Limits{CircuitBytes: Unlimited},
			"1024 reservations of 1 h (32 per IP), 64 circuits per peer, circuits of any length and size",
		},
		{
			Limits{CircuitTime: Unlimited},
			"1024 reservations of 1 h (32 per IP), 64 circuits per peer, circuits of any length and size",
		},
	} {
		if got := c.limits.String(); got != c.want {
			t.Errorf("%+v:\n got %s\nwant %s", c.limits, got, c.want)
		}
	}
	if got := shortBytes(1000); got != "1000 B" {
		t.Errorf("1000 bytes: got %q", got)
	}
}

func TestLimitsReachLibp2p(t *testing.T) {
	l := Limits{
		Reservations: 1, ReservationsPerIP: 2, ReservationsPerASN: 3, ReservationTTL: 4 * time.Minute,
		CircuitsPerPeer: 5, CircuitTime: 6 * time.Second, CircuitBytes: 7000,
	}
	rc := l.resources()
	got := []any{
		rc.MaxReservations, rc.MaxReservationsPerIP, rc.MaxReservationsPerASN, rc.ReservationTTL,
		rc.MaxCircuits, rc.Limit.Duration, rc.Limit.Data,
	}
	want := []any{1, 2, 3, 4 * time.Minute, 5, 6 * time.Second, int64(7000)}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, l := range []Limits{{CircuitTime: Unlimited}, {CircuitBytes: Unlimited}} {
		if rc := l.WithDefaults().resources(); rc.Limit != nil {
			t.Errorf("%+v: got limit %+v, want none", l, rc.Limit)
		}
	}
}

func TestParseMode(t *testing.T) {
	for s, want := range map[string]Mode{"auto": Auto, "on": On, "off": Off, "": "", "yes": "", "Auto": "", " on": ""} {
		got, err := ParseMode(s)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v, want %q", s, got, err, want)
		}
	}
}

func TestStatusJSON(t *testing.T) {
	data, err := json.Marshal(Status{Mode: Auto, Limits: Limits{}.WithDefaults()})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"mode":"auto"`, `"serving":false`, `"reservations":0`, `"circuit_time_ns":3600000000000`, `"circuit_bytes":268435456`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("got %s, want %s in it", data, want)
		}
	}
}
