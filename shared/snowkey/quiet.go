package snowkey

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/snowflakedb/gosnowflake/v2"
)

// gosnowflake has one logger for the whole program, and its default writes an error for each login
// that is refused and each log-out from a session that has ended. Of a candidate the one is expected, in
// a pool that heals the other, so these lines are left out: they are known by their context.
type quietKey struct{}

var hush sync.Once

// quiet gives a context whose lines gosnowflake's logger leaves out for as long as the switch is on; a
// connection keeps the context that it was opened with. The logger, whichever it is, is wrapped the first
// time; a program that sets another one afterwards gets all lines.
func quiet(ctx context.Context) (context.Context, *atomic.Bool) {
	hush.Do(func() { _ = gosnowflake.SetLogger(quietLogger{gosnowflake.GetLogger()}) })
	on := new(atomic.Bool)
	return context.WithValue(ctx, quietKey{}, on), on
}

type quietLogger struct{ gosnowflake.SFLogger }

// WithContext implements gosnowflake.SFLogger.
func (l quietLogger) WithContext(ctx context.Context) gosnowflake.LogEntry {
	if ctx != nil { // the driver has none for the rows of an asynchronous query
		if on, ok := ctx.Value(quietKey{}).(*atomic.Bool); ok && on.Load() {
			return silence{}
		}
	}
	return l.SFLogger.WithContext(ctx)
}

// SetHandler implements gosnowflake.SFSlogLogger for a logger that does.
func (l quietLogger) SetHandler(h slog.Handler) error {
	if inner, ok := l.SFLogger.(gosnowflake.SFSlogLogger); ok {
		return inner.SetHandler(h)
	}
	return errors.New("this logger takes no slog.Handler")
}

type silence struct{}

func (silence) Tracef(string, ...any) {}
func (silence) Debugf(string, ...any) {}
func (silence) Infof(string, ...any)  {}
func (silence) Warnf(string, ...any)  {}
func (silence) Errorf(string, ...any) {}
func (silence) Fatalf(string, ...any) {}
func (silence) Trace(string)          {}
func (silence) Debug(string)          {}
func (silence) Info(string)           {}
func (silence) Warn(string)           {}
func (silence) Error(string)          {}
func (silence) Fatal(string)          {}
