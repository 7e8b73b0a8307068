package autorelay

import (
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// documented are the metrics of this package, as docs/metrics.md has them.
var documented = []string{
	"causeway_autorelay_addresses",
	"causeway_autorelay_advertised_relays",
	"causeway_autorelay_candidates",
	"causeway_autorelay_events_total",
	"causeway_autorelay_reservations",
	"causeway_autorelay_reserve_duration_seconds",
	"causeway_autorelay_without_address_seconds",
}

// names lists what a registry has.
func names(t *testing.T, reg *prometheus.Registry) (list []string) {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		list = append(list, m.GetName())
	}
	return list
}

// value is that of a gauge, or the sum of all counters of that name with the
// labels given.
func value(t *testing.T, reg *prometheus.Registry, name string, labels ...string) (sum float64) {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if m.GetName() != "causeway_autorelay_"+name {
			continue
		}
	next:
		for _, one := range m.GetMetric() {
			for _, l := range one.GetLabel() {
				if len(labels) > 0 && !slices.Contains(labels, l.GetValue()) {
					continue next
				}
			}
			sum += one.GetGauge().GetValue() + one.GetCounter().GetValue() + float64(one.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

func TestMetricNames(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		reg := prometheus.NewRegistry()
		cfg := full()
		cfg.Registerer = reg
		n := w.node(cfg)
		if got := names(t, reg); !slices.Equal(got, documented) {
			t.Errorf("metrics: got %q, want %q", got, documented)
		}
		_, err := New(Config{Host: n.host, Registerer: reg})
		if err == nil {
			t.Error("a second AutoRelay with the same registry: got no error")
		}
		if got := names(t, reg); !slices.Equal(got, documented) {
			t.Errorf("metrics after the second was refused: got %q, want %q", got, documented)
		}
		n.stop()
		if got := names(t, reg); len(got) != 0 {
			t.Errorf("metrics after Run has ended: got %q, want none", got)
		}
		if _, err := New(Config{Host: n.host, Registerer: reg}); err != nil {
			t.Errorf("another one after that: %v", err)
		}
	})
	page, err := os.ReadFile("../docs/metrics.md")
	if os.IsNotExist(err) {
		t.Skip("docs/metrics.md is not there yet")
	}
	if err != nil {
		t.Fatal(err)
	}
	got := regexp.MustCompile(`\bcauseway_autorelay_[a-z_]+`).FindAllString(string(page), -1)
	slices.Sort(got)
	if got = slices.Compact(got); !slices.Equal(got, documented) {
		t.Errorf("docs/metrics.md: got %q, want %q", got, documented)
	}
}

func TestMetricValues(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		reg := prometheus.NewRegistry()
		cfg := full()
		cfg.Registerer = reg
		n := w.node(cfg)
		check := func(when, name string, want float64, labels ...string) {
			t.Helper()
			if got := value(t, reg, name, labels...); got != want {
				t.Errorf("%s: %s%v: got %v, want %v", when, name, labels, got, want)
			}
		}
		time.Sleep(90 * time.Second)
		check("at first", "reservations", 0)
		if got := value(t, reg, "without_address_seconds"); got < 89 || got > 91 {
			t.Errorf("without_address_seconds after 90 s: got %v", got)
		}
		relays := w.relays(5)
		n.add(relays[:4]...)
		n.complete(3, 2)
		check("complete", "reservations", 3)
		check("complete", "advertised_relays", 2)
		check("complete", "candidates", 1)
		check("complete", "addresses", 2)
		check("complete", "without_address_seconds", 0)
		check("complete", "events_total", 3, string(ReservedOn), "")
		check("complete", "events_total", 4, string(Found), "")
		check("complete", "reserve_duration_seconds", 3)
		check("complete", "events_total", 0, string(Lost), string(ProbesMissed))
		for _, r := range relays[:4] {
			r.box.Kill()
		}
		n.within(4*time.Second, "nothing", func() bool { return !n.advertised() && n.held() == 0 })
		time.Sleep(time.Minute)
		check("all dead", "events_total", 3, string(Lost), string(ProbesMissed))
		check("all dead", "candidates", 4)
		if got := value(t, reg, "without_address_seconds"); got < 59 || got > 62 {
			t.Errorf("without_address_seconds a minute after all died: got %v", got)
		}
		n.Want(false)
		time.Sleep(time.Second)
		check("not wanted", "without_address_seconds", 0)
		n.Want(true)
		n.add(relays[4])
		n.within(2*time.Second, "one", n.advertised)
		check("one again", "without_address_seconds", 0)
	})
}

// TestNotWantedIsNotWithout: nobody misses what is not wanted, from the start.
func TestNotWantedIsNotWithout(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		n := w.node(full())
		time.Sleep(time.Second)
		if n.Status().Without.IsZero() {
			t.Error("wanted and none: got Without zero")
		}
		n.Want(false)
		time.Sleep(time.Second)
		if s := n.Status(); !s.Without.IsZero() {
			t.Errorf("not wanted: got without since %v, want zero", s.Without)
		}
	})
}
