package snowkey

import (
	"context"
	"database/sql/driver"
	"log/slog"
	"time"

	"github.com/snowkey/snowkey/shared/keywatch"
)

// An Option changes how [Open] and [NewConnector] work. Without options the pool has the defaults that each option names.
type Option func(*options)

type options struct {
	watch       []keywatch.Option
	maxTokenAge time.Duration
	jitter      time.Duration
	spareTTL    time.Duration
	sessionInit func(context.Context, driver.Conn) error
	quietDriver bool
	log         *slog.Logger
	event       func(Event)
}

// DefaultMaxTokenAge is the default of [WithMaxTokenAge]. Snowflake's master tokens are valid for four hours.
const DefaultMaxTokenAge = 3*time.Hour + 45*time.Minute

// DefaultJitter is the default of [WithJitter].
const DefaultJitter = 3 * time.Second

// defaultSpareTTL is how long a spare session waits for a connection.
const defaultSpareTTL = time.Minute

func defaultOptions() options {
	return options{
		maxTokenAge: DefaultMaxTokenAge, jitter: DefaultJitter, spareTTL: defaultSpareTTL,
		log: slog.New(slog.DiscardHandler),
	}
}

// WithLogger logs each [Event], and problems with the key file, to l. The default, also for nil, is not to log.
func WithLogger(l *slog.Logger) Option {
	return func(o *options) {
		if l != nil {
			o.log = l
		}
	}
}

// WithEvents calls f for each [Event], in order, from one goroutine. Queries and rotations do not wait for f. Close does, so
// f must not call it. At most 1,000 events wait for f; then the oldest are dropped. The default is no function.
func WithEvents(f func(Event)) Option { return func(o *options) { o.event = f } }

// WithPollInterval sets the time between two polls of the key file. The default is [keywatch.DefaultPollInterval], five
// seconds. [Open] fails if d is not positive. File events are handled at once, whatever the interval.
func WithPollInterval(d time.Duration) Option {
	return func(o *options) { o.watch = append(o.watch, keywatch.WithPollInterval(d)) }
}

// WithMaxTokenAge sets how long after Snowflake issued its last token an idle session may be used again. A new login replaces
// an older session. Set d lower for an account whose sessions end sooner. The default, also for zero or less, is
// [DefaultMaxTokenAge], 3h45m.
func WithMaxTokenAge(d time.Duration) Option {
	return func(o *options) {
		o.maxTokenAge = d
		if d <= 0 {
			o.maxTokenAge = DefaultMaxTokenAge
		}
	}
}

// WithJitter sets the longest random time between a change of the key file and the first login with the new key, so that
// tasks which see the same change do not all log in at once. The default is [DefaultJitter], three seconds; zero or less
// means none. If Snowflake refuses the serving key to a connection, that connection tries the new key at once.
func WithJitter(d time.Duration) Option { return func(o *options) { o.jitter = d } }

// WithSessionInit runs f on every session after its login and before its use, spare sessions included, for instance for
// ALTER SESSION or USE statements. Several sessions may run f at the same time. ctx bounds the login as a whole, to one
// minute. conn is gosnowflake's connection: f must not keep it. The default is no function.
//
// If f fails, the session is logged out, and the caller that needed it gets an error that wraps f's. [Open] fails with it,
// and a new key does not become the serving key.
func WithSessionInit(f func(ctx context.Context, conn driver.Conn) error) Option {
	return func(o *options) { o.sessionInit = f }
}

// WithQuietDriver leaves out of gosnowflake's log what is no problem for the pool: that Snowflake does not accept a new key
// yet, and that a session which has ended cannot log out. The driver has one logger for the whole program. This option
// replaces it by one that passes on all other lines. The default is to leave the driver's logger alone.
func WithQuietDriver() Option { return func(o *options) { o.quietDriver = true } }
