package direct

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type meter struct {
	attempts *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	guesses  prometheus.Counter
}

func newMeter(reg prometheus.Registerer) (*meter, error) {
	m := &meter{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "causeway_direct_attempts_total",
			Help: "Attempts at a direct connection to a peer with a relayed one, by how they ended and by the kinds of the two NATs.",
		}, []string{"outcome", "ours", "theirs"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "causeway_direct_seconds",
			Help:    "Time from the beginning of an attempt to the direct connection.",
			Buckets: []float64{.05, .1, .2, .3, .5, 1, 2, 5, 10, 20},
		}, []string{"outcome"}),
	}
	m.guesses = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "causeway_direct_guess_packets_total",
		Help: "Packets sent to guess the ports of a symmetric NAT, or to have ours guessed.",
	})
	for _, o := range outcomes {
		m.attempts.WithLabelValues(string(o), "unknown", "unknown")
		if o.Direct() {
			m.seconds.WithLabelValues(string(o))
		}
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.attempts, m.seconds, m.guesses} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("direct: metrics: %w", err)
		}
	}
	return m, nil
}

func (m *meter) ended(e Event) {
	m.attempts.WithLabelValues(string(e.Outcome), e.Ours, e.Theirs).Inc()
	m.guesses.Add(float64(e.Guesses))
	if e.Outcome.Direct() {
		m.seconds.WithLabelValues(string(e.Outcome)).Observe(e.Took.Seconds())
	}
}
