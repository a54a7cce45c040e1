// Package snowkey is database/sql for Snowflake with a key that changes: Open takes the place of
// sql.Open, and the *sql.DB it gives follows the key file for as long as the program runs.
//
//	db, err := snowkey.Open(ctx, "/run/snowflake/rsa_key.der", gosnowflake.Config{
//		Account: "myorg-myaccount",
//		User:    "ETL",
//	})
//
// # A rotation
//
// A key that appears in the file is a candidate. It is logged in with while every query goes on over
// connections of the serving key. When Snowflake refuses it, because its public key is not assigned
// yet, the serving key goes on serving, new connections included, and the candidate is tried again
// with growing pauses. When Snowflake accepts it, as many connections as are open are logged in and
// set aside, and only then does the candidate become the serving key: queries take the sessions set
// aside, and those of the old key are logged out as they become idle. What is under way on an old
// session, a transaction for instance, finishes there. A session on which an asynchronous statement was
// sent is kept for some hours more. If logins fail in the middle of this, nothing is switched.
//
// # A pool that heals
//
// A session that Snowflake has ended leaves the pool. When a statement was refused because of it,
// before it ran, it runs on another session; when it may have run, or was not the first of its
// transaction or sql.Conn, the error comes to the caller. Nothing is run twice. In doubt a statement
// counts as one that may have run: when its refusal took a second or more, when the bindings of a bulk
// insert go through a stage, and while an asynchronous statement runs on the same session.
//
// # What it never does
//
// It never builds a DSN, which would carry the key, never writes a file, and never logs unless given
// a logger. What gosnowflake itself logs is gosnowflake's, but for its complaints about a candidate
// that is refused: these are expected and are left out.
package snowkey

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync/atomic"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/shared/keywatch"
)

// An Option changes how Open and NewConnector work.
type Option func(*options)

type options struct {
	watch   []keywatch.Option
	maxIdle time.Duration
	keep    time.Duration // how long sessions that were set aside are kept for queries that do not come
	log     *slog.Logger
	event   func(Event)
}

// DefaultMaxIdle is how long after its last token a session counts as good without a query. Snowflake's
// master tokens are valid for four hours.
const DefaultMaxIdle = 3*time.Hour + 45*time.Minute

// WithLogger has the events of the key, and problems with its file, logged.
func WithLogger(l *slog.Logger) Option {
	return func(o *options) {
		if l != nil {
			o.log = l
		}
	}
}

// WithEvents has f called at each Event, in order, from one goroutine. Nothing waits for f but the next
// Event and Close, which f therefore must not call itself.
func WithEvents(f func(Event)) Option { return func(o *options) { o.event = f } }

// WithPollInterval sets how often the key file is looked at when no file event says to;
// keywatch.DefaultPollInterval without it.
func WithPollInterval(d time.Duration) Option {
	return func(o *options) { o.watch = append(o.watch, keywatch.WithPollInterval(d)) }
}

// WithMaxIdle sets how long after Snowflake last gave it a token a session is used without asking;
// DefaultMaxIdle without it. Set it lower for an account whose sessions end sooner.
func WithMaxIdle(d time.Duration) Option { return func(o *options) { o.maxIdle = d } }

// Open gives a pool that logs in with the key in the file at path (any format that the sidecar
// writes) and follows it. Close the pool to stop following.
//
// It waits until there is a valid key and Snowflake does not refuse it; ctx bounds only that wait,
// and the error then says what was wrong with the file or what Snowflake said. For a Snowflake that
// cannot be asked Open waits five seconds: then queries report that, as with sql.Open.
//
// cfg is copied. Its Authenticator, PrivateKey and TokenAccessor are set here.
func Open(ctx context.Context, path string, cfg gosnowflake.Config, opts ...Option) (*sql.DB, error) {
	connector, err := NewConnector(ctx, path, cfg, opts...)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// A Connector logs in with the serving key. It is a driver.Connector for sql.OpenDB, and the pool's
// Close closes it. Its methods may be called from any goroutine.
type Connector struct {
	path    string
	cfg     gosnowflake.Config
	options options
	watch   *keywatch.Watcher
	pool    *pool
	counts  counts
	refresh *refresher
	stop    context.CancelFunc

	logins    context.Context // of every login: it goes on when its caller has gone
	cutLogins context.CancelFunc
	accepted  chan struct{} // a query has found the candidate accepted
	events    *events

	strangeDriver atomic.Bool // see compare
}

// NewConnector is Open for those who want to call sql.OpenDB themselves, or to read Stats.
func NewConnector(ctx context.Context, path string, cfg gosnowflake.Config, opts ...Option) (*Connector, error) {
	c := &Connector{
		path: path, cfg: cfg, refresh: newRefresher(path),
		options:  options{maxIdle: DefaultMaxIdle, keep: keepSetAside, log: slog.New(slog.DiscardHandler)},
		accepted: make(chan struct{}, 1),
	}
	for _, opt := range opts {
		opt(&c.options)
	}
	c.cfg.Params = maps.Clone(cfg.Params)
	c.events = newEvents(c.options.event)
	watch, err := keywatch.New(ctx, path, append(c.options.watch, keywatch.WithLogger(c.options.log))...)
	if err != nil {
		return nil, fmt.Errorf("snowkey: %w", err)
	}
	c.watch = watch
	c.pool = newPool(c.options)
	c.logins, c.cutLogins = context.WithCancel(context.Background())
	following, stop := context.WithCancel(context.Background())
	c.stop = stop
	c.pool.run(func() { c.events.deliver(following) })
	if err := c.start(ctx); err != nil {
		c.cutLogins() // who called does not wait for them either
		return nil, errors.Join(fmt.Errorf("snowkey: %w", err), c.Close())
	}
	c.pool.run(func() { c.follow(following) })
	return c, nil
}

// Connect gives a connection over a session that was set aside, or logs in. It implements
// driver.Connector.
func (c *Connector) Connect(ctx context.Context) (driver.Conn, error) {
	s, err := c.session(ctx)
	if err != nil {
		return nil, err
	}
	conn := c.pool.add(newConn(c, s))
	if !c.pool.serves(conn) { // the key was switched before the pool knew of this one
		conn.retire()
	}
	return conn, nil
}

// Driver implements driver.Connector.
func (c *Connector) Driver() driver.Driver { return gosnowflake.SnowflakeDriver{} }

// Close stops following the file, logs out what was set aside, and waits for it, ten seconds at most. The
// pool's Close calls it.
func (c *Connector) Close() error {
	c.stop()
	c.watch.Close()
	return c.pool.close(c.cutLogins)
}

// Fingerprint tells with which key a connection logged in, as DESC USER prints it.
func Fingerprint(c *sql.Conn) (string, error) {
	var fingerprint string
	err := c.Raw(func(raw any) error {
		ours, ok := raw.(*conn)
		if !ok {
			return fmt.Errorf("snowkey: a connection of type %T is not from this package", raw)
		}
		fingerprint = ours.session.Load().key.Fingerprint()
		return nil
	})
	return fingerprint, err
}
