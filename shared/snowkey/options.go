package snowkey

import (
	"context"
	"database/sql/driver"
	"log/slog"
	"time"

	"github.com/snowkey/snowkey/shared/keywatch"
)

// An Option changes how [Open] and [NewConnector] work.
type Option func(*options)

type options struct {
	watch       []keywatch.Option
	maxIdle     time.Duration
	jitter      time.Duration
	spareTTL    time.Duration
	sessionInit func(context.Context, driver.Conn) error
	quietDriver bool
	log         *slog.Logger
	event       func(Event)
}

const (
	// DefaultMaxIdle is how long after Snowflake issued its last token an idle session may be used again.
	// Snowflake's master tokens are valid for four hours.
	DefaultMaxIdle = 3*time.Hour + 45*time.Minute

	// DefaultJitter bounds the random time between a change of the key file and the first login with the new
	// key.
	DefaultJitter = 3 * time.Second

	// defaultSpareTTL is how long a spare session waits for a connection.
	defaultSpareTTL = time.Minute
)

func defaultOptions() options {
	return options{
		maxIdle: DefaultMaxIdle, jitter: DefaultJitter, spareTTL: defaultSpareTTL,
		log: slog.New(slog.DiscardHandler),
	}
}

// WithLogger logs the events of the key, and problems with its file, to l.
func WithLogger(l *slog.Logger) Option {
	return func(o *options) {
		if l != nil {
			o.log = l
		}
	}
}

// WithEvents calls f at each [Event], in order, from one goroutine. Queries and rotations do not wait for f.
// Close does, so f must not call it. If f does not return, the oldest events beyond 1,000 are dropped.
func WithEvents(f func(Event)) Option { return func(o *options) { o.event = f } }

// WithPollInterval sets the time between two polls of the key file; [keywatch.DefaultPollInterval] without it.
// [Open] fails if it is not positive. File events are handled at once.
func WithPollInterval(d time.Duration) Option {
	return func(o *options) { o.watch = append(o.watch, keywatch.WithPollInterval(d)) }
}

// WithMaxIdle sets how long after Snowflake issued its last token an idle session may be used again. An older
// one is replaced by a new login. Set it lower for an account whose sessions end sooner. Zero or less means
// [DefaultMaxIdle].
func WithMaxIdle(d time.Duration) Option {
	return func(o *options) {
		o.maxIdle = d
		if d <= 0 {
			o.maxIdle = DefaultMaxIdle
		}
	}
}

// WithJitter sets the longest random time between a change of the key file and the first login with the new
// key, so that tasks which see one change do not log in at once. Zero means none; [DefaultJitter] without it.
// A connection for which Snowflake refuses the serving key tries the new one at once.
func WithJitter(d time.Duration) Option { return func(o *options) { o.jitter = d } }

// WithSessionInit runs f on every session after its login and before its use, spare sessions included, for
// instance for ALTER SESSION or USE statements. ctx bounds the login as a whole, to a minute. conn is the
// driver's connection and must not be kept. If f fails, the session is logged out and f's error goes to the
// caller that needed the session; [Open] fails with it, and a new key does not become the serving one.
func WithSessionInit(f func(ctx context.Context, conn driver.Conn) error) Option {
	return func(o *options) { o.sessionInit = f }
}

// WithQuietDriver leaves two kinds of lines out of gosnowflake's log, which the pool expects: those about a
// new key that Snowflake does not accept yet, and those about the log-out of a session that has ended. The driver has one
// logger for the whole program: this option replaces that logger by one that passes on all other lines.
func WithQuietDriver() Option { return func(o *options) { o.quietDriver = true } }
