// Package metrics counts what the sidecar does. It serves the counts, liveness and readiness over HTTP, for
// Prometheus, and writes them into the log, for CloudWatch; both are off by default.
//
// It never shows a secret, takes no input, and has no more than a few connections open.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/snowkey/snowkey/shared/keyfile"
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
	refreshes   *prometheus.CounterVec
	refusals    *prometheus.CounterVec
	publishes   prometheus.Counter
	reads       *prometheus.CounterVec
	lastSuccess prometheus.Gauge
	stored      prometheus.Gauge
	published   prometheus.Gauge
	interval    prometheus.Gauge
}

// The outcomes that are no class of error.
const (
	ok      = "ok"
	refused = "refused"
)

// A Build says which program this is.
type Build struct{ Version, Revision string }

// New makes the counts, all zero. Those of keys that have names carry them in the label "key".
func New(b Build, names ...string) *Metrics {
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
		Help:        "Always 1; the labels say which build this is.",
		ConstLabels: prometheus.Labels{"version": b.Version, "revision": b.Revision, "goversion": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(build)
	return m
}

func newCounts(registerer prometheus.Registerer) counts {
	c := counts{
		refreshes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "snowkey_refreshes_total",
			Help: "Refreshes from the source, by outcome: ok or the class of the error.",
		}, []string{"outcome"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "snowkey_refusals_total",
			Help: "Refreshes that found a key and did not publish it, by reason: the class of the error.",
		}, []string{"reason"}),
		publishes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "snowkey_publishes_total",
			Help: "Times that key files were written, or that another key was served.",
		}),
		reads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "snowkey_reads_total",
			Help: "Connections to the sockets that serve the key, by outcome: ok or refused; health checks count. 0 without --serve.",
		}, []string{"outcome"}),
		lastSuccess: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "snowkey_last_success_timestamp_seconds",
			Help: "When a refresh last succeeded, in seconds since the epoch; 0 before the first.",
		}),
		stored: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "snowkey_key_stored_timestamp_seconds",
			Help: "When the published key was stored in SSM, in seconds since the epoch; 0 before the first, and for SECRET_KEY.",
		}),
		published: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "snowkey_key_published_timestamp_seconds",
			Help: "When the published key was first written or served, in seconds since the epoch; 0 before the first.",
		}),
		interval: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "snowkey_interval_seconds",
			Help: "The time between refreshes: --interval, or longer while SSM throttles; 0 before the first refresh.",
		}),
	}
	registerer.MustRegister(c.refreshes, c.refusals, c.publishes, c.reads, c.lastSuccess, c.stored, c.published, c.interval)
	// A rate needs the zero before the first.
	for _, outcome := range []string{ok, refused} {
		c.reads.WithLabelValues(outcome)
	}
	c.refreshes.WithLabelValues(ok)
	for _, class := range keyfile.ErrorClasses {
		c.refreshes.WithLabelValues(string(class))
	}
	for _, class := range failure.KeyRefusals {
		c.refusals.WithLabelValues(string(class))
	}
	return c
}

// Observe counts one refresh.
func (m *Metrics) Observe(o refresh.Outcome) {
	c := m.keys[o.Key]
	outcome := ok
	if o.Err != nil {
		outcome = string(failure.Class(o.Err))
	}
	c.refreshes.WithLabelValues(outcome).Inc()
	if failure.KeyRefused(o.Err) {
		c.refusals.WithLabelValues(outcome).Inc()
	}
	if o.Published {
		c.publishes.Inc()
	}
	c.lastSuccess.Set(seconds(o.Status.CheckedAt))
	c.stored.Set(seconds(o.Status.StoredAt))
	c.published.Set(seconds(o.Status.PublishedAt))
	c.interval.Set(o.Interval.Seconds())
}

// ObserveRead counts a connection to a socket that serves a key.
func (m *Metrics) ObserveRead(key string, err error) {
	outcome := ok
	if err != nil {
		outcome = refused
	}
	m.keys[key].reads.WithLabelValues(outcome).Inc()
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// The bounds of a connection. It is for one request, which has to be there soon and whose answer has to be read soon.
const (
	maxConnections = 32
	headersWithin  = time.Second
	answerWithin   = 3 * time.Second // more than readyWithin
	maxHeaders     = 8 << 10
	readyFor       = time.Second
	notReadyFor    = 100 * time.Millisecond
	readyWithin    = 2 * time.Second // for another call that reads the keys
)

// Serve answers on listener until ctx ends; ready says whether a valid key is published.
func (m *Metrics) Serve(ctx context.Context, listener net.Listener, ready func() error) error {
	ready = cached(ready)
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
		ReadHeaderTimeout: headersWithin,
		ReadTimeout:       headersWithin, // nothing here reads a body
		WriteTimeout:      answerWithin,
		MaxHeaderBytes:    maxHeaders,
		ErrorLog:          log.New(io.Discard, "", 0), // clients would write our log
	}
	server.SetKeepAlivesEnabled(false)
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(bound(listener)); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

var errHangs = fmt.Errorf("the key files could not be read within %v; the volume hangs, or there is no processor time", readyWithin)

// cached keeps an answer of ready for a moment, since ready reads the keys and clients may send requests without end. While the
// volume hangs, one call waits for it, and the others return errHangs.
func cached(ready func() error) func() error {
	turn := make(chan struct{}, 1)
	var until time.Time
	var last error
	return func() error {
		select {
		case turn <- struct{}{}:
		case <-time.After(readyWithin):
			return errHangs
		}
		defer func() { <-turn }()
		if time.Now().Before(until) {
			return last
		}
		last = ready()
		until = time.Now().Add(readyFor)
		if last != nil {
			until = time.Now().Add(notReadyFor)
		}
		return last
	}
}
