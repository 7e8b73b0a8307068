package relay

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/causeway-p2p/causeway/testnet"
)

// TestMetrics: each is documented and each that is documented is there, and
// they say what happened.
func TestMetrics(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		reg := prometheus.NewRegistry()
		r := run(t, start(t, n.Host("relay")), Config{Mode: On, Registerer: reg, Limits: Limits{Reservations: 1}})
		reserved, caller := r.peers(t, n, "")
		r.mustReserve(t, reserved) // a refresh
		if err := r.dial(t, caller, reserved); err != nil {
			t.Fatal(err)
		}
		if err := echoes(t, caller, reserved, 10_000); err != nil {
			t.Error(err)
		}
		if _, status := r.reserve(t, start(t, n.Host("late"))); status != pbv2.Status_RESERVATION_REFUSED {
			t.Errorf("got %v, want no room", status)
		}
		r.Kick(caller.ID())
		r.running.Wait()

		all, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		got := make(map[string]float64)
		for _, f := range all {
			names = append(names, f.GetName())
			for _, m := range f.GetMetric() {
				key := strings.TrimPrefix(f.GetName(), "causeway_relay_")
				for _, l := range m.GetLabel() {
					key += " " + l.GetValue()
				}
				got[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
		for key, want := range map[string]float64{
			"reservations": 1, "circuits": 0, "serving": 1, "overloaded": 0,
			"reservations_made_total new": 1, "reservations_made_total refreshed": 1,
			"refusals_total reserve full": 1, "refusals_total connect no-reservation": 0,
			"circuits_ended_total kicked": 1, "circuits_ended_total closed": 0,
			"circuit_setup_duration_seconds": 1, "circuit_duration_seconds": 1, "reservations_ended_total expired": 0,
		} {
			if v, ok := got[key]; !ok || v != want {
				t.Errorf("%s: got %v (there: %v), want %v", key, v, ok, want)
			}
		}
		if got["relayed_bytes_total"] < 20_000 {
			t.Errorf("relayed bytes: got %v, want 20000 and more", got["relayed_bytes_total"])
		}

		page, err := os.ReadFile("../docs/metrics.md")
		if err != nil {
			t.Fatal(err)
		}
		var documented []string
		for _, m := range regexp.MustCompile("`(causeway_relay_[a-z_]+)`").FindAllStringSubmatch(string(page), -1) {
			if !slices.Contains(documented, m[1]) {
				documented = append(documented, m[1])
			}
		}
		slices.Sort(names)
		slices.Sort(documented)
		if !slices.Equal(names, documented) {
			t.Errorf("docs/metrics.md has\n%s\nthe registry\n%s", strings.Join(documented, "\n"), strings.Join(names, "\n"))
		}
	})
}
