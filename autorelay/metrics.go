package autorelay

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are this room's figures (docs/metrics.md). The nil *metrics counts
// nothing.
type metrics struct {
	registerer prometheus.Registerer
	collectors []prometheus.Collector
	events     *prometheus.CounterVec
	reserveDur prometheus.Histogram
}

const namespace, subsystem = "causeway", "autorelay"

func newMetrics(a *AutoRelay) (*metrics, error) {
	if a.cfg.Registerer == nil {
		return nil, nil
	}
	m := &metrics{
		registerer: a.cfg.Registerer,
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "events_total",
			Help: "Transitions of relays, by kind and reason.",
		}, []string{"kind", "reason"}),
		reserveDur: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "reserve_duration_seconds",
			Help:    "How long dialling a relay and reserving on it took, when it succeeded.",
			Buckets: prometheus.ExponentialBuckets(0.01, 2, 11), // 10 ms to 10 s
		}),
	}
	gauge := func(name, help string, f func(Status) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: name, Help: help,
		}, func() float64 { return f(a.Status()) })
	}
	m.collectors = []prometheus.Collector{
		m.events, m.reserveDur,
		gauge("reservations", "Reservations held, advertised or not.", func(s Status) float64 {
			return float64(s.count(func(r RelayStatus) bool { return r.State == Reserved || r.State == Draining }))
		}),
		gauge("advertised_relays", "Relays whose circuit addresses are advertised.", func(s Status) float64 {
			return float64(s.count(func(r RelayStatus) bool { return r.Advertised }))
		}),
		gauge("candidates", "Relays known that hold no reservation for us.", func(s Status) float64 {
			return float64(s.count(func(r RelayStatus) bool { return r.State != Reserved && r.State != Draining }))
		}),
		gauge("addresses", "Circuit addresses advertised.", func(s Status) float64 { return float64(len(s.Addrs)) }),
		gauge("without_address_seconds", "For how long there has been no circuit address although one is wanted; 0 if there is one.", func(s Status) float64 {
			if s.Without.IsZero() {
				return 0
			}
			return time.Since(s.Without).Seconds()
		}),
	}
	// Every reason is there from the start, so that a rate over it is 0 and
	// not nothing.
	for _, kind := range []Kind{Failed, RefreshFailed, Lost} {
		for _, why := range reasons {
			m.events.WithLabelValues(string(kind), string(why))
		}
	}
	for i, c := range m.collectors {
		if err := m.registerer.Register(c); err != nil {
			// Those of the same name belong to somebody else.
			m.collectors = m.collectors[:i]
			m.unregister()
			return nil, fmt.Errorf("autorelay: metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) unregister() {
	if m == nil {
		return
	}
	for _, c := range m.collectors {
		m.registerer.Unregister(c)
	}
}

func (m *metrics) count(e Event) {
	if m == nil {
		return
	}
	m.events.WithLabelValues(string(e.Kind), string(e.Reason)).Inc()
	if e.Kind == ReservedOn {
		m.reserveDur.Observe(e.Took.Seconds())
	}
}

func (s Status) count(ok func(RelayStatus) bool) (n int) {
	for _, r := range s.Relays {
		if ok(r) {
			n++
		}
	}
	return n
}
