package admin

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// MetricsServer answers Prometheus over TCP.
type MetricsServer struct {
	http   *http.Server
	addr   net.Addr
	served chan struct{}
}

// ServeMetrics answers GET /metrics on a TCP address like 127.0.0.1:9464. There
// is no authentication: keep it on loopback, or behind something that has.
func ServeMetrics(addr string, g prometheus.Gatherer) (*MetricsServer, error) {
	l, err := net.Listen("tcp", addr) //nolint:noctx // binding does not block
	if err != nil {
		return nil, fmt.Errorf("metrics on %s: %w", addr, plain(err))
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(g, promhttp.HandlerOpts{}))
	s := &MetricsServer{
		http: &http.Server{
			Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10,
		},
		addr: l.Addr(), served: make(chan struct{}),
	}
	go func() {
		defer close(s.served)
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics server failed", "err", err)
		}
	}()
	return s, nil
}

// Addr is the address it listens on.
func (s *MetricsServer) Addr() net.Addr { return s.addr }

// Close stops answering.
func (s *MetricsServer) Close() error {
	err := s.http.Close()
	<-s.served
	return err
}
