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
	"strings"
	"sync"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/refresh"
)

// Metrics are the counts of one process. Those of keys that have names carry them in the label "key".
type Metrics struct {
	mu          sync.Mutex
	refreshes   family
	refusals    family
	publishes   family
	reads       family
	lastSuccess family
	stored      family
	published   family
	interval    family
	build       family
}

// The outcomes that are no class of error.
const (
	ok      = "ok"
	refused = "refused"
)

// A Build says which program this is.
type Build struct{ Version, Revision string }

// New makes the counts of the keys with these names, all zero: a rate needs the zero before the first.
func New(b Build, names ...string) *Metrics {
	const counter, gauge = "counter", "gauge"
	m := &Metrics{
		refreshes: family{name: "snowkey_refreshes_total", kind: counter,
			help: "Refreshes from the source, by outcome: ok or the class of the error."},
		refusals: family{name: "snowkey_refusals_total", kind: counter,
			help: "Refreshes that found a key and did not publish it, by reason: the class of the error."},
		publishes: family{name: "snowkey_publishes_total", kind: counter,
			help: "Times that key files were written, or that another key was served."},
		reads: family{name: "snowkey_reads_total", kind: counter,
			help: "Connections to the sockets that serve the key, by outcome: ok or refused; health checks count. 0 without --serve."},
		lastSuccess: family{name: "snowkey_last_success_timestamp_seconds", kind: gauge,
			help: "When a refresh last succeeded, in seconds since the epoch; 0 before the first."},
		stored: family{name: "snowkey_key_stored_timestamp_seconds", kind: gauge,
			help: "When the published key was stored in SSM, in seconds since the epoch; 0 before the first, and for SECRET_KEY."},
		published: family{name: "snowkey_key_published_timestamp_seconds", kind: gauge,
			help: "When the published key was first written or served, in seconds since the epoch; 0 before the first."},
		interval: family{name: "snowkey_interval_seconds", kind: gauge,
			help: "The time between refreshes: --interval, or longer while SSM throttles; 0 before the first refresh."},
		build: family{name: "snowkey_build_info", kind: gauge,
			help: "Always 1; the labels say which build this is."},
	}
	m.build.at("goversion", runtime.Version(), "revision", b.Revision, "version", b.Version).value = 1
	for _, name := range names {
		m.addKey(name)
	}
	return m
}

func (m *Metrics) addKey(name string) {
	m.refreshes.at("key", name, "outcome", ok)
	for _, class := range keyfile.ErrorClasses {
		m.refreshes.at("key", name, "outcome", string(class))
	}
	for _, class := range failure.KeyRefusals {
		m.refusals.at("key", name, "reason", string(class))
	}
	for _, outcome := range []string{ok, refused} {
		m.reads.at("key", name, "outcome", outcome)
	}
	for _, f := range []*family{&m.publishes, &m.lastSuccess, &m.stored, &m.published, &m.interval} {
		f.at("key", name)
	}
}

// Observe counts one refresh.
func (m *Metrics) Observe(o refresh.Outcome) {
	m.mu.Lock()
	defer m.mu.Unlock()
	outcome := ok
	if o.Err != nil {
		outcome = string(failure.Class(o.Err))
	}
	m.refreshes.at("key", o.Key, "outcome", outcome).value++
	if failure.KeyRefused(o.Err) {
		m.refusals.at("key", o.Key, "reason", outcome).value++
	}
	if o.Published {
		m.publishes.at("key", o.Key).value++
	}
	m.lastSuccess.at("key", o.Key).value = seconds(o.Status.CheckedAt)
	m.stored.at("key", o.Key).value = seconds(o.Status.StoredAt)
	m.published.at("key", o.Key).value = seconds(o.Status.PublishedAt)
	m.interval.at("key", o.Key).value = o.Interval.Seconds()
}

// ObserveRead counts a connection to a socket that serves a key.
func (m *Metrics) ObserveRead(key string, err error) {
	outcome := ok
	if err != nil {
		outcome = refused
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads.at("key", key, "outcome", outcome).value++
}

// String is all of them in Prometheus's text format.
func (m *Metrics) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var text strings.Builder
	for _, f := range []*family{
		&m.refreshes, &m.refusals, &m.publishes, &m.reads, &m.lastSuccess, &m.stored, &m.published, &m.interval, &m.build,
	} {
		f.write(&text)
	}
	return text.String()
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
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, m.String())
	})
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
