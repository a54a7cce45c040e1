// Package snowkeyprom exports the [snowkey.Stats] of a pool to Prometheus:
//
//	prometheus.MustRegister(snowkeyprom.NewCollector(connector, "warehouse"))
//
// It is a package of its own so that programs without Prometheus do not depend on it.
//
// # Rotation
//
// snowkey_pool_key_info has the fingerprint of the serving key, and of a candidate that does not serve yet.
// snowkey_pool_rotations_total counts changes. Alert on snowkey_pool_serving_key_refused, with which new connections fail,
// and on a snowkey_pool_candidate_failed that lasts.
//
// # What it never does
//
// It never exports a key, and it asks neither Snowflake nor the file: each scrape reads [snowkey.Connector.Stats]. It may
// be scraped from several goroutines, also after the pool has been closed.
package snowkeyprom

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/snowkey/snowkey/shared/snowkey"
)

// A metric is one number of the Stats.
type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*snowkey.Stats) float64
}

type collector struct {
	connector *snowkey.Connector
	metrics   []metric
	key       *prometheus.Desc
}

// NewCollector returns a collector of snowkey_pool_* metrics for connector. All have the label db_name, like those of
// collectors.NewDBStatsCollector, which counts what database/sql knows of the same pool. Register both, with the same name.
// Registration fails if there is another collector with that name.
func NewCollector(connector *snowkey.Connector, dbName string) prometheus.Collector {
	labels := prometheus.Labels{"db_name": dbName}
	desc := func(name, help string, variable ...string) *prometheus.Desc {
		return prometheus.NewDesc("snowkey_pool_"+name, help, variable, labels)
	}
	counter := func(name, help string, value func(*snowkey.Stats) int64) metric {
		return metric{desc(name, help), prometheus.CounterValue, func(s *snowkey.Stats) float64 { return float64(value(s)) }}
	}
	gauge := func(name, help string, value func(*snowkey.Stats) int) metric {
		return metric{desc(name, help), prometheus.GaugeValue, func(s *snowkey.Stats) float64 { return float64(value(s)) }}
	}
	return &collector{
		connector: connector,
		key:       desc("key_info", "The keys of the pool: 1 for the serving key and for a candidate.", "role", "fingerprint"),
		metrics: []metric{
			counter("rotations_total", "Changes of the serving key.", func(s *snowkey.Stats) int64 { return s.Rotations }),
			counter("logins_total", "Logins that succeeded.", func(s *snowkey.Stats) int64 { return s.Logins }),
			counter("failed_logins_total", "Logins that failed, including the refused ones.", func(s *snowkey.Stats) int64 { return s.FailedLogins }),
			counter("refused_logins_total", "Logins that Snowflake refused because of the key.", func(s *snowkey.Stats) int64 { return s.RefusedLogins }),
			counter("replaced_sessions_total", "Sessions that Snowflake had ended, and for which a statement got a new one without an error.", func(s *snowkey.Stats) int64 { return s.ReplacedSessions }),
			gauge("open_connections", "Connections that database/sql has.", func(s *snowkey.Stats) int { return s.OpenConnections }),
			gauge("spare_sessions", "Sessions that are logged in and wait for a connection.", func(s *snowkey.Stats) int { return s.SpareSessions }),
			gauge("logging_out_sessions", "Sessions that log out in the background.", func(s *snowkey.Stats) int { return s.LoggingOutSessions }),
			gauge("async_sessions", "Sessions without a connection, kept for asynchronous statements.", func(s *snowkey.Stats) int { return s.AsyncSessions }),
			gauge("serving_key_refused", "1 if Snowflake refused the serving key at the last login.", func(s *snowkey.Stats) int { return boolean(s.ServingErr != nil) }),
			gauge("candidate_failed", "1 if the last login with the candidate failed.", func(s *snowkey.Stats) int { return boolean(s.CandidateErr != nil) }),
		},
	}
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.key
	for _, m := range c.metrics {
		ch <- m.desc
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.connector.Stats()
	for _, m := range c.metrics {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(&s))
	}
	ch <- prometheus.MustNewConstMetric(c.key, prometheus.GaugeValue, 1, "serving", s.ServingFingerprint)
	if s.CandidateFingerprint != "" {
		ch <- prometheus.MustNewConstMetric(c.key, prometheus.GaugeValue, 1, "candidate", s.CandidateFingerprint)
	}
}
