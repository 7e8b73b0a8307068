package relay

import (
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/causeway-p2p/causeway/auth"
)

// meter are this room's figures (docs/metrics.md). The nil *meter counts
// nothing.
type meter struct {
	registerer prometheus.Registerer
	collectors []prometheus.Collector

	reservationsMade *prometheus.CounterVec
	reservationsOver *prometheus.CounterVec
	refusals         *prometheus.CounterVec
	circuitsOver     *prometheus.CounterVec
	tokensRefused    *prometheus.CounterVec
	setup            prometheus.Histogram
	lasted           prometheus.Histogram
}

const namespace, subsystem = "causeway", "relay"

func newMeter(r *Relay, reg prometheus.Registerer) (*meter, error) {
	if reg == nil {
		return nil, nil
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}, f)
	}
	m := &meter{
		registerer:       reg,
		reservationsMade: counter("reservations_made_total", "Reservations given, by whether they are new or refreshed.", "kind"),
		reservationsOver: counter("reservations_ended_total", "Reservations that have ended, by reason.", "reason"),
		refusals:         counter("refusals_total", "Requests refused, by what was asked and reason.", "asked", "reason"),
		circuitsOver:     counter("circuits_ended_total", "Circuits that have ended, by reason.", "reason"),
		tokensRefused:    counter("tokens_refused_total", "Tokens refused, by reason.", "reason"),
		setup: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "circuit_setup_duration_seconds",
			Help:    "From a request for a circuit to the destination's consent.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 15), // 1 ms to 16 s
		}),
		lasted: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "circuit_duration_seconds",
			Help:    "How long circuits have lasted.",
			Buckets: prometheus.ExponentialBuckets(0.1, 4, 10), // 0.1 s to 7 h
		}),
	}
	m.collectors = []prometheus.Collector{
		m.reservationsMade, m.reservationsOver, m.refusals, m.circuitsOver, m.tokensRefused, m.setup, m.lasted,
		gauge("reservations", "Reservations held.", func() float64 { return float64(r.table.reservations()) }),
		gauge("circuits", "Circuits open or being opened.", func() float64 { return float64(r.table.openCircuits()) }),
		gauge("serving", "1 while the relay takes requests.", func() float64 {
			if s := r.Status(); s.Serving && !s.Draining {
				return 1
			}
			return 0
		}),
		gauge("overloaded", "1 while new work is refused to save memory or file descriptors.", func() float64 {
			if r.guard.why() != "" {
				return 1
			}
			return 0
		}),
		gauge("waiting_for_bandwidth", "Directions of circuits that wait for the bandwidth cap.", func() float64 { return float64(r.fair.Waiting()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "relayed_bytes_total", Help: "Bytes relayed, both directions together.",
		}, func() float64 { return float64(r.bytes.Load()) }),
	}
	// Every reason is there from the start, so that a rate over it is 0 and
	// not nothing.
	for _, asked := range []string{kindReserve, kindConnect} {
		for _, why := range refusals {
			m.refusals.WithLabelValues(asked, string(why))
		}
	}
	for _, why := range ends {
		m.circuitsOver.WithLabelValues(string(why))
	}
	for _, why := range []Reason{Expired, PeerGone, Denied, Kicked, Stopping} {
		m.reservationsOver.WithLabelValues(string(why))
	}
	for _, why := range auth.Reasons {
		m.tokensRefused.WithLabelValues(string(why))
	}
	for i, c := range m.collectors {
		if err := reg.Register(c); err != nil {
			// Those of the same name belong to somebody else.
			m.collectors = m.collectors[:i]
			m.unregister()
			return nil, fmt.Errorf("relay: metrics: %w", err)
		}
	}
	return m, nil
}

func (m *meter) unregister() {
	if m == nil {
		return
	}
	for _, c := range m.collectors {
		m.registerer.Unregister(c)
	}
}

func (m *meter) reserved(fresh bool) {
	if m == nil {
		return
	}
	kind := "refreshed"
	if fresh {
		kind = "new"
	}
	m.reservationsMade.WithLabelValues(kind).Inc()
}

func (m *meter) released(why Reason) {
	if m != nil {
		m.reservationsOver.WithLabelValues(string(why)).Inc()
	}
}

func (m *meter) refused(asked string, why Reason) {
	if m != nil {
		m.refusals.WithLabelValues(asked, string(why)).Inc()
	}
}

func (m *meter) tokenRefused(_ peer.ID, why auth.Reason) {
	if m != nil {
		m.tokensRefused.WithLabelValues(string(why)).Inc()
	}
}

func (m *meter) opened(took time.Duration) {
	if m != nil {
		m.setup.Observe(took.Seconds())
	}
}

func (m *meter) closed(why Reason, lasted time.Duration) {
	if m == nil {
		return
	}
	m.circuitsOver.WithLabelValues(string(why)).Inc()
	m.lasted.Observe(lasted.Seconds())
}
