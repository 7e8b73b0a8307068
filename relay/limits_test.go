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
		Reservations: 1024, ReservationsPerIP: 32, ReservationsPerSubnet: 128, ReservationsPerASN: 256, ReservationTTL: time.Hour,
		Circuits: 16384, CircuitsPerIP: 1024, RequestsPerPeer: 120, RequestsPerIP: 1200, Files: 90,
		CircuitsPerPeer: 64, CircuitTime: time.Hour, CircuitBytes: 256 << 20,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := got.Validate(); err != nil {
		t.Errorf("the defaults are not valid: %v", err)
	}
	// What is set stays.
	set := Limits{
		Reservations: 1, ReservationsPerIP: 2, ReservationsPerSubnet: 8, ReservationsPerASN: 3, ReservationTTL: 4 * time.Minute,
		Circuits: 9, CircuitsPerIP: 8, Bandwidth: 1 << 20, RequestsPerPeer: 10, RequestsPerIP: Unlimited, Memory: 1 << 30, Files: 11,
		CircuitsPerPeer: 5, CircuitTime: 6 * time.Second, CircuitBytes: 7000, Rate: 1 << 16, Burst: 1 << 17, MonthlyBytes: 1 << 40,
		HolePunchOnly: true, Classes: []Class{{Name: "member"}},
	}
	if got := set.WithDefaults(); !reflect.DeepEqual(got, set) {
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
		{Limits{Bandwidth: 1, Rate: 2, Burst: 3, MonthlyBytes: -1}, "bandwidth rate burst monthly_bytes"},
		{Limits{Burst: 1 << 20}, "burst"},
		{Limits{RequestsPerPeer: -2, Memory: 1, Files: 101}, "requests_per_peer memory files_percent"},
		{Limits{Classes: []Class{{Name: "member"}, {Name: "owner", CircuitTime: time.Hour, CircuitBytes: 4096, Rate: 1024, Burst: 1024}}}, ""},
		{Limits{Classes: []Class{{Name: "Mem ber"}}}, "name"},
		{Limits{Classes: []Class{{Name: "member"}, {Name: "member"}, {Name: Anonymous}}}, "member anonymous"},
		{Limits{Classes: []Class{{Name: "a", CircuitTime: 1, CircuitBytes: 1, Rate: -1, Burst: 5}}}, "a: a: a: a:"},
		{
			Limits{Reservations: -1, ReservationsPerIP: -2, ReservationsPerASN: -3, ReservationTTL: 1, CircuitsPerPeer: -4, CircuitTime: 5, CircuitBytes: 6},
			"reservations reservations_per_ip reservations_per_asn circuits_per_peer circuit_bytes reservation_ttl circuit_time",
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
			Limits{CircuitTime: Unlimited, CircuitBytes: Unlimited},
			"1024 reservations of 1 h (32 per IP), 64 circuits per peer, circuits of any length and size",
		},
		{
			Limits{CircuitTime: Unlimited, Bandwidth: 125e6},
			"1024 reservations of 1 h (32 per IP), 64 circuits per peer, each circuit up to 256 MiB each way, 125 MB/s in all",
		},
		{
			Limits{CircuitBytes: Unlimited},
			"1024 reservations of 1 h (32 per IP), 64 circuits per peer, each circuit up to 1 h",
		},
		{
			Limits{HolePunchOnly: true},
			"1024 reservations of 1 h (32 per IP), 64 circuits per peer, circuits for hole punching only",
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
