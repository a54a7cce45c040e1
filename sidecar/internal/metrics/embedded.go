package metrics

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/refresh"
)

// namespace in CloudWatch.
const namespace = "Snowkey"

// silence is the longest time without a line. An alarm takes a longer one for a task that is gone, and throttling makes
// the time between refreshes as long as twelve hours. It is longer than the default interval, so that a healthy task
// writes one line for each refresh.
const silence = 6 * time.Minute

// Embedded writes each refresh as one line of log that CloudWatch Logs reads as metrics (its embedded metric
// format): on Fargate nothing scrapes, and awslogs takes every line there anyway. It also writes between refreshes
// that are far apart. A nil Embedded writes nothing.
//
// Time since something is written as a number, not as a time: that is what an alarm compares. Since a success
// of this process it is counted as it passes, so that a clock that is set does not change it.
type Embedded struct {
	service string
	log     *slog.Logger
	began   time.Time

	mu   sync.Mutex
	keys map[string]seen // by the key's name
}

// seen is what is known of a key.
type seen struct {
	succeeded time.Time       // zero before the first success of this process
	last      refresh.Outcome // of the last refresh
	refused   int             // reads at sockets since the last line
	written   time.Time       // the last line
}

// NewEmbedded writes for a service, the metrics' dimension; for "" it is nil.
func NewEmbedded(service string, log *slog.Logger) *Embedded {
	if service == "" {
		return nil
	}
	return &Embedded{service: service, log: log, began: time.Now(), keys: map[string]seen{}}
}

// The directive, as AWS's specification names its members.
type (
	directive struct {
		Timestamp         int64
		CloudWatchMetrics []metricSet
	}
	metricSet struct {
		Namespace  string
		Dimensions [][]string
		Metrics    []metric
	}
	metric struct{ Name, Unit string }
)

// Observe writes one refresh.
func (e *Embedded) Observe(o refresh.Outcome) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	k := e.keys[o.Key]
	k.last, k.written = o, now
	if o.Err == nil {
		k.succeeded = now
	}
	e.write(k, now, true)
	k.refused = 0
	e.keys[o.Key] = k
}

// ObserveRead counts a connection to a socket that serves a key.
func (e *Embedded) ObserveRead(key string, err error) {
	if e == nil || err == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if k, refreshed := e.keys[key]; refreshed { // before, there is nothing to read
		k.refused++
		e.keys[key] = k
	}
}

// Run writes between refreshes that are far apart, until ctx ends.
func (e *Embedded) Run(ctx context.Context) {
	if e == nil {
		return
	}
	next := time.Now().Add(silence)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(next)):
		}
		next = e.between(time.Now())
	}
}

// between writes a line for each key that was refreshed before, but has had no line for long. It returns when the next
// line is due.
func (e *Embedded) between(now time.Time) (next time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	next = now.Add(silence)
	for name, k := range e.keys {
		if now.Sub(k.written) >= silence {
			k.written = now
			e.write(k, now, false)
			k.refused = 0
			e.keys[name] = k
		}
		if again := k.written.Add(silence); again.Before(next) {
			next = again
		}
	}
	return next
}

// write writes what is known of a key, and counts its last refresh if refreshed is set.
func (e *Embedded) write(k seen, now time.Time, refreshed bool) {
	o := k.last
	values := []slog.Attr{slog.String("Service", e.service)}
	dimensions := [][]string{{"Service"}}
	if o.Key != "" { // CloudWatch does not add up by itself: an alarm on the service is on all of its keys
		values = append(values, slog.String("Key", o.Key))
		dimensions = append(dimensions, []string{"Service", "Key"})
	}
	var metrics []metric
	add := func(name, unit string, value float64) {
		metrics = append(metrics, metric{name, unit})
		values = append(values, slog.Float64(name, value))
	}
	add("RefreshesSucceeded", "Count", oneIf(refreshed && o.Err == nil))
	add("RefreshesFailed", "Count", oneIf(refreshed && o.Err != nil))
	add("KeysPublished", "Count", oneIf(refreshed && o.Published))
	add("KeysRefused", "Count", oneIf(refreshed && failure.KeyRefused(o.Err)))
	add("ReadsRefused", "Count", float64(k.refused))
	since := e.sinceSuccess(k, now)
	add("IntervalMinutes", "None", o.Interval.Minutes())
	add("MinutesSinceSuccess", "None", since.Minutes())
	add("MinutesLate", "None", max(0, since-o.Interval).Minutes())
	if stored := o.Status.StoredAt; !stored.IsZero() {
		add("KeyAgeDays", "None", max(0, now.Sub(stored).Hours()/24))
	}
	if refreshed && o.Err != nil {
		values = append(values, slog.String("class", string(failure.Class(o.Err))))
	}
	aws := directive{now.UnixMilli(), []metricSet{{namespace, dimensions, metrics}}}
	e.log.LogAttrs(context.Background(), slog.LevelInfo, "metrics", append(values, slog.Any("_aws", aws))...)
}

// sinceSuccess is the time since the last refresh that succeeded: of this process, or else of a predecessor, whose
// clock may have been another, or else since the start.
func (e *Embedded) sinceSuccess(k seen, now time.Time) time.Duration {
	if !k.succeeded.IsZero() {
		return now.Sub(k.succeeded)
	}
	if left := k.last.Status.CheckedAt; !left.IsZero() {
		return max(0, now.Sub(left))
	}
	return now.Sub(e.began)
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
