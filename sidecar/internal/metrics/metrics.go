// Package metrics counts what the sidecar does and serves the counts, liveness and readiness over
// HTTP. It is off unless an address is set, serves no secret, and takes no input.
package metrics

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/refresh"
)

// Metrics are the counts of one process.
type Metrics struct {
	registry *prometheus.Registry
	keys     map[string]counts // by the key's name
}

// counts are those of one key.
type counts struct {
	looks       *prometheus.CounterVec
	publishes   prometheus.Counter
	lastSuccess prometheus.Gauge
	published   prometheus.Gauge
}

// New makes the counts, all zero. Those of keys that have names carry them in the label "key".
func New(version string, names ...string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), keys: map[string]counts{}}
	for _, name := range names {
		registerer := prometheus.Registerer(m.registry)
		if name != "" {
			registerer = prometheus.WrapRegistererWith(prometheus.Labels{"key": name}, registerer)
		}
		m.keys[name] = newCounts(registerer)
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "snowkey_build_info",
		Help:        "Always 1; the label says which build this is.",
		ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister(build)
	return m
}

func newCounts(registerer prometheus.Registerer) counts {
	c := counts{
		looks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "snowkey_looks_total",
			Help: "Looks at the source, by outcome: ok or the class of the error.",
		}, []string{"outcome"}),
		publishes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "snowkey_publishes_total",
			Help: "Times that key files were written.",
		}),
		lastSuccess: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "snowkey_last_success_timestamp_seconds",
			Help: "When a look last succeeded, in seconds since the epoch; 0 before the first.",
		}),
		published: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "snowkey_key_published_timestamp_seconds",
			Help: "When the key on disk was first written, in seconds since the epoch; 0 before the first.",
		}),
	}
	registerer.MustRegister(c.looks, c.publishes, c.lastSuccess, c.published)
	return c
}

// Observe counts one look.
func (m *Metrics) Observe(o refresh.Outcome) {
	c := m.keys[o.Key]
	outcome := "ok"
	if o.Err != nil {
		outcome = string(failure.Class(o.Err))
	}
	c.looks.WithLabelValues(outcome).Inc()
	if o.Published {
		c.publishes.Inc()
	}
	if t := o.Status.CheckedAt; !t.IsZero() {
		c.lastSuccess.Set(float64(t.UnixMilli()) / 1000)
	}
	if t := o.Status.PublishedAt; !t.IsZero() {
		c.published.Set(float64(t.UnixMilli()) / 1000)
	}
}

// Serve answers on listener until ctx ends; ready says whether a valid key is on disk.
func (m *Metrics) Serve(ctx context.Context, listener net.Listener, ready func() error) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	server := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    8 << 10,
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
