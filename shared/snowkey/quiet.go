package snowkey

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/snowflakedb/gosnowflake/v2"
)

// mutedKey is the context key of a switch that mutes the driver's log.
type mutedKey struct{}

var wrapLogger sync.Once

// quietContext returns a context whose lines the driver's logger leaves out while muted is true. The driver has
// one logger for the whole program, which is wrapped once; a connection keeps the context that it was
// opened with. A logger that the program sets afterwards gets all lines.
func quietContext(ctx context.Context, muted *atomic.Bool) context.Context {
	wrapLogger.Do(func() { _ = gosnowflake.SetLogger(quietLogger{gosnowflake.GetLogger()}) })
	return context.WithValue(ctx, mutedKey{}, muted)
}

type quietLogger struct{ gosnowflake.SFLogger }

// WithContext implements [gosnowflake.SFLogger].
func (l quietLogger) WithContext(ctx context.Context) gosnowflake.LogEntry {
	if ctx != nil { // the driver has none for the rows of an asynchronous query
		if muted, ok := ctx.Value(mutedKey{}).(*atomic.Bool); ok && muted.Load() {
			return noLog{}
		}
	}
	return l.SFLogger.WithContext(ctx)
}

// SetHandler implements [gosnowflake.SFSlogLogger] for a logger that does.
func (l quietLogger) SetHandler(h slog.Handler) error {
	if inner, ok := l.SFLogger.(gosnowflake.SFSlogLogger); ok {
		return inner.SetHandler(h)
	}
	return errors.New("snowkey: this logger takes no slog.Handler: set one before Open")
}

type noLog struct{}

func (noLog) Tracef(string, ...any) {}
func (noLog) Debugf(string, ...any) {}
func (noLog) Infof(string, ...any)  {}
func (noLog) Warnf(string, ...any)  {}
func (noLog) Errorf(string, ...any) {}
func (noLog) Fatalf(string, ...any) {}
func (noLog) Trace(string)          {}
func (noLog) Debug(string)          {}
func (noLog) Info(string)           {}
func (noLog) Warn(string)           {}
func (noLog) Error(string)          {}
func (noLog) Fatal(string)          {}
