package metrics

import (
	"context"
	"log/slog"
	"time"

	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/refresh"
)

// namespace in CloudWatch.
const namespace = "Snowkey"

// Embedded writes each look as one line of log that CloudWatch Logs reads as metrics (its embedded metric
// format): on Fargate nothing scrapes, and awslogs takes every line there anyway. A nil Embedded writes
// nothing.
//
// Time since something is written as a number, not as a time: that is what an alarm compares. Since a success
// of this process it is counted as it passes, so that a clock that is set does not change it.
type Embedded struct {
	service   string
	log       *slog.Logger
	began     time.Time
	succeeded map[string]time.Time // by the key's name
}

// NewEmbedded writes for a service, the metrics' dimension; for "" it is nil.
func NewEmbedded(service string, log *slog.Logger) *Embedded {
	if service == "" {
		return nil
	}
	return &Embedded{service: service, log: log, began: time.Now(), succeeded: map[string]time.Time{}}
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

// Observe writes one look.
func (e *Embedded) Observe(o refresh.Outcome) {
	if e == nil {
		return
	}
	now := time.Now()
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
	add("LooksSucceeded", "Count", oneIf(o.Err == nil))
	add("LooksFailed", "Count", oneIf(o.Err != nil))
	add("KeysPublished", "Count", oneIf(o.Published))
	add("KeysRefused", "Count", oneIf(refused(o)))
	add("IntervalMinutes", "None", o.Interval.Minutes())
	add("MinutesSinceSuccess", "None", e.sinceSuccess(o, now).Minutes())
	if stored := o.Status.StoredAt; !stored.IsZero() {
		add("KeyAgeDays", "None", max(0, now.Sub(stored).Hours()/24))
	}
	if o.Err != nil {
		values = append(values, slog.String("class", string(failure.Class(o.Err))))
	}
	aws := directive{now.UnixMilli(), []metricSet{{namespace, dimensions, metrics}}}
	e.log.LogAttrs(context.Background(), slog.LevelInfo, "metrics", append(values, slog.Any("_aws", aws))...)
}

// sinceSuccess is the time since the last look that succeeded: of this process, or else of a predecessor, whose
// clock may have been another, or else since the start.
func (e *Embedded) sinceSuccess(o refresh.Outcome, now time.Time) time.Duration {
	if o.Err == nil {
		e.succeeded[o.Key] = now
	}
	if at, ok := e.succeeded[o.Key]; ok {
		return now.Sub(at)
	}
	if left := o.Status.CheckedAt; !left.IsZero() {
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
