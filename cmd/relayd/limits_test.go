package main

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/causeway-p2p/causeway/internal/cli"
	"github.com/causeway-p2p/causeway/relay"
)

// parseLimits reads limits from a command line.
func parseLimits(args ...string) (relay.Limits, error) {
	l := relay.Limits{}.WithDefaults()
	fs := pflag.NewFlagSet("relayd", pflag.ContinueOnError)
	addLimits(fs, &l)
	err := fs.Parse(args)
	return l, err
}

func TestLimitFlags(t *testing.T) {
	for _, c := range []struct {
		args string
		want func(*relay.Limits)
	}{
		{"", func(*relay.Limits) {}},
		{"--bandwidth 100MB", func(l *relay.Limits) { l.Bandwidth = 100_000_000 }},
		{"--bandwidth 12500000 --rate 1MiB --burst 4MiB", func(l *relay.Limits) { l.Bandwidth, l.Rate, l.Burst = 12_500_000, 1<<20, 4<<20 }},
		{"--bandwidth 100MB/s", func(l *relay.Limits) { l.Bandwidth = 100_000_000 }},
		{"--bandwidth unlimited --rate 0", func(*relay.Limits) {}},
		{"--circuit-time 0 --circuit-bytes 0", func(l *relay.Limits) { l.CircuitTime, l.CircuitBytes = relay.Unlimited, relay.Unlimited }},
		{"--circuit-time -1ns --circuit-bytes -1", func(l *relay.Limits) { l.CircuitTime, l.CircuitBytes = relay.Unlimited, relay.Unlimited }},
		{"--circuit-time 2h --circuit-bytes 1GB", func(l *relay.Limits) { l.CircuitTime, l.CircuitBytes = 2*time.Hour, 1e9 }},
		{"--requests-per-peer 0 --requests-per-ip unlimited --files-percent -1", func(l *relay.Limits) { l.RequestsPerPeer, l.RequestsPerIP, l.Files = -1, -1, -1 }},
		{"--memory auto", func(*relay.Limits) {}},
		{"--memory 0", func(l *relay.Limits) { l.Memory = relay.Unlimited }},
		{"--memory 512MiB", func(l *relay.Limits) { l.Memory = 512 << 20 }},
		{"--max-circuits 7 --max-reservations-per-subnet 8 --max-circuits-per-peer 9", func(l *relay.Limits) {
			l.Circuits, l.ReservationsPerSubnet, l.CircuitsPerPeer = 7, 8, 9
		}},
		{"--hole-punch-only --monthly-bytes 1TB", func(l *relay.Limits) { l.HolePunchOnly, l.MonthlyBytes = true, 1e12 }},
	} {
		want := relay.Limits{}.WithDefaults()
		c.want(&want)
		got, err := parseLimits(strings.Fields(c.args)...)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v, want %+v", c.args, got, err, want)
		}
		// What is written is read as the same.
		var again relay.Limits
		for i, l := range limitsOf(&again) {
			if err := l.Set(limitsOf(&got)[i].String()); err != nil {
				t.Errorf("%s: %s: %v", c.args, l.name, err)
			}
		}
		if !reflect.DeepEqual(again, got) {
			t.Errorf("%s: written and read: got %+v, want %+v", c.args, again, got)
		}
	}
}

func TestBadLimitFlags(t *testing.T) {
	for args, want := range map[string]string{
		"--bandwidth fast":        `"fast" is not a number of bytes like 12500000 or 100MB`,
		"--bandwidth 10Mbit":      `"Mbit" is no unit`,
		"--burst 1MB/s":           `"1MB/s" is not a number of bytes`,
		"--max-reservations 0":    "there must be a limit",
		"--max-circuits many":     `"many" is not a number`,
		"--circuit-time forever":  `"forever" is not a time like 30m or 2h`,
		"--circuit-bytes -5":      `"-5" is not a number of bytes`,
		"--hole-punch-only=maybe": `"maybe" is not one of true, false`,
		"--reservation-ttl auto":  `"auto" is not a time`,
	} {
		if _, err := parseLimits(strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", args, err, want)
		}
	}
}

// TestEveryLimitHasAFlag holds that the lists here have all that package relay
// has, under its names.
func TestEveryLimitHasAFlag(t *testing.T) {
	check := func(v any, list []limit, besides ...string) {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]any
		if err := json.Unmarshal(b, &fields); err != nil {
			t.Fatal(err)
		}
		for name := range fields {
			name = strings.TrimSuffix(name, "_ns")
			if !slices.Contains(besides, name) && !slices.ContainsFunc(list, func(l limit) bool { return l.name == name }) {
				t.Errorf("%T has %s, which cannot be set", v, name)
			}
		}
	}
	check(relay.Limits{}, limitsOf(new(relay.Limits)), "classes")
	check(relay.Class{}, classLimits(new(relay.Class)), "name")
}

func TestClasses(t *testing.T) {
	got, err := classesOf([]cli.Table{
		{Name: "member", Values: map[string]string{"circuit_bytes": "10GB", "circuit-time": "2h", "rate": "0", "max-circuits-per-peer": "8"}},
		{Name: "owner"},
	})
	want := []relay.Class{{Name: "member", CircuitBytes: 1e10, CircuitTime: 2 * time.Hour, CircuitsPerPeer: 8}, {Name: "owner"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, c := range []struct {
		table cli.Table
		want  string
	}{
		{cli.Table{Name: "anonymous"}, "class anonymous is that of strangers"},
		{cli.Table{Name: "a", Values: map[string]string{"speed": "1"}}, `class a: "speed" is no limit: there are reservations, `},
		{cli.Table{Name: "a", Values: map[string]string{"rate": "fast"}}, `class a: rate: "fast" is not a number of bytes`},
	} {
		if _, err := classesOf([]cli.Table{c.table}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, want %s", c.table, err, c.want)
		}
	}
}

func TestChanges(t *testing.T) {
	from := relay.Limits{Classes: []relay.Class{{Name: "a"}, {Name: "b", Rate: 1e6}, {Name: "c"}}}.WithDefaults()
	to := relay.Limits{
		Bandwidth: 1e8, CircuitTime: relay.Unlimited,
		Classes: []relay.Class{{Name: "b", Rate: 2e6}, {Name: "a"}, {Name: "d"}},
	}.WithDefaults()
	got := strings.Join(changes(from, to), ", ")
	want := "bandwidth unlimited → 100 MB/s, circuit-time 1h → unlimited, b.rate 1 MB/s → 2 MB/s, class d is new, class c is gone"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := changes(to, to); got != nil {
		t.Errorf("no change: got %q", got)
	}
	swapped := to
	swapped.Classes = []relay.Class{to.Classes[1], to.Classes[0], to.Classes[2]}
	if got := changes(to, swapped); len(got) != 1 || got[0] != "the classes are in another order of trust" {
		t.Errorf("another order: got %q", got)
	}
}

func FuzzLimit(f *testing.F) {
	for _, s := range []string{"0", "-1", "unlimited", "auto", "100MB", "2h", "true", "1h0m0.5s", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var l, back relay.Limits
		for i, a := range limitsOf(&l) {
			if a.Set(text) != nil {
				continue
			}
			b := limitsOf(&back)[i]
			if err := b.Set(a.String()); err != nil || a.get() != b.get() {
				t.Errorf("%s: %q is %d, written as %q and read as %d, %v", a.name, text, a.get(), a, b.get(), err)
			}
		}
	})
}
