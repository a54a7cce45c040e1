// Package snowkey is database/sql for Snowflake with a key that changes. [Open] takes the place of sql.Open,
// and its [sql.DB] follows the key file for as long as the program runs:
//
//	db, err := snowkey.Open(ctx, "/run/snowflake/rsa_key.pem", gosnowflake.Config{
//		Account: "myorg-myaccount",
//		User:    "ETL",
//	})
//
// The driver below is [gosnowflake]. Tools that want a data source name use the driver "snowkey"; see [Driver].
//
// # Rotation
//
// A new key in the file is a candidate. The pool logs in with it while every query goes on over connections
// of the serving key. If Snowflake refuses the candidate, because its public key is not assigned yet, the
// serving key keeps serving, and the candidate is tried again with growing backoff. If Snowflake accepts it,
// the pool logs in a spare session for each connection that has a session, and only then makes the candidate
// the serving key. Connections take the spare sessions, and the sessions of the old key log out as their
// connections become idle. A transaction, a sql.Conn or rows in use finish on the old key. If logins fail in
// the middle of this, nothing changes. A session with an asynchronous Exec is kept until that has ended.
//
// # Sessions that end
//
// If Snowflake has ended a session and the statement has not run, the statement runs on a new session. The
// caller gets the error if the statement may have run, is in a transaction, or is a later statement on a
// sql.Conn. Nothing runs twice: the pool sees on the wire, with [net/http/httptrace], which requests the
// driver has sent for a statement. With a Config.Transporter that does not report to it, no statement is sent
// again. A bulk insert whose values go through a stage is several statements, and is not sent again either.
//
// # Session state
//
// The session below a connection may be replaced whenever the connection is idle in the pool: after a
// rotation, after a long idle time, and when Snowflake has ended it. USE, ALTER SESSION, session variables
// and temporary tables are gone then. They last for a transaction and for a sql.Conn, until its Close. For
// state that every session should have, use the Config's Warehouse, Role, Database, Schema and Params, or
// [WithSessionInit]; for a temporary table take a sql.Conn.
//
// # Wrappers
//
// Libraries over a sql.DB, such as sqlx and gorm, take the pool as it is; internal/suite/wrappers has gorm's dialect.
//
// Tracing wrappers around the connections work if they pass driver.SessionResetter on, as otelsql, sqlmw and
// instrumentedsql do; internal/suite/wrappers has an example with OpenTelemetry. If a wrapper hides
// driver.Validator, an idle connection keeps its session of the old key until it is used again. If a wrapper
// hides io.Closer of the connector, call [Connector.Close] after db.Close.
//
// # gosnowflake 1 and 2 in one program
//
// Both register the database/sql driver "snowflake", and the second one panics. That happens for instance
// with golang-migrate, whose Snowflake driver imports gosnowflake 1. Start the program with the environment
// variable GOSNOWFLAKE_SKIP_REGISTRATION=true: then gosnowflake 2 does not register, "snowflake" is
// gosnowflake 1, and this package works, as it does not need the name. (GOSNOWFLAKE_SKIP_REGISTERATION, so
// spelled, is the variable of gosnowflake 1.)
//
// # What it never does
//
// It never puts the key into a data source name; it never writes a file; it never logs without [WithLogger];
// and without [WithQuietDriver] it leaves the driver's logger alone, which is one for the whole program.
package snowkey

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/shared/keywatch"
)

// Open returns a pool that logs in with the key at path, a file or a socket of --serve, in any form that
// [keyfile.Parse] reads, and follows it until the pool is closed.
//
// It waits for a valid key that Snowflake does not refuse. ctx bounds that wait, and the error then says what
// was wrong with the file or what Snowflake answered. If the login fails for another reason, or there is no
// answer within five seconds, Open returns the pool, and queries report the error, as with sql.Open.
//
// cfg is copied. Its Account, Host and User may have any form that the package identity reads. Its Authenticator is empty
// or AuthTypeJwt, and its PrivateKey and TokenAccessor are empty: they are set here.
func Open(ctx context.Context, path string, cfg gosnowflake.Config, opts ...Option) (*sql.DB, error) {
	connector, err := NewConnector(ctx, path, cfg, opts...)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// A Connector logs in with the serving key. It is a [driver.Connector] for [sql.OpenDB], and the pool's Close closes
// it. Its methods may be called from any goroutine.
type Connector struct {
	path    string
	cfg     gosnowflake.Config
	options options
	watch   *keywatch.Watcher
	trigger *trigger
	pool    *pool
	stats   stats
	events  *events
	stop    context.CancelFunc // ends follow and the delivery of events

	queue          loginQueue
	network        network
	candidateSlots chan struct{}               // a slot for each login with a candidate
	asyncSlots     chan struct{}               // a slot for each asynchronous statement
	accepted       atomic.Pointer[keyfile.Key] // by Snowflake, in a login for a connection, before it serves
	acceptance     chan struct{}               // has a value after accepted has changed
	refusal        atomic.Pointer[refusal]

	loginsCtx    context.Context // bounds logins and asynchronous statements; Close cancels it
	cancelLogins context.CancelFunc

	references func(change int) // of a nameConnector, counts what needs this Connector; may be nil
}

// retain notes one more use of the Connector, besides its connections.
func (c *Connector) retain() {
	if c.references != nil {
		c.references(+1)
	}
}

// release ends a use of the Connector, or a connection.
func (c *Connector) release() {
	if c.references != nil {
		c.references(-1)
	}
}

// NewConnector is [Open] for callers of [sql.OpenDB], of a wrapper around the connector, or of [Connector.Stats].
func NewConnector(ctx context.Context, path string, cfg gosnowflake.Config, opts ...Option) (*Connector, error) {
	if err := checkConfig(&cfg); err != nil {
		return nil, err
	}
	o := defaultOptions()
	for _, opt := range opts {
		opt(&o)
	}
	watch, err := keywatch.New(ctx, path, append(o.watch, keywatch.WithLogger(o.log))...)
	if err != nil {
		return nil, fmt.Errorf("snowkey: %w", err)
	}
	c := &Connector{
		path: path, cfg: cfg, options: o, watch: watch,
		trigger: newTrigger(path), pool: newPool(o.spareTTL), events: newEvents(o.event),
		candidateSlots: make(chan struct{}, candidateLogins),
		asyncSlots:     make(chan struct{}, maxAsync),
		acceptance:     make(chan struct{}, 1),
	}
	c.cfg.Params = maps.Clone(cfg.Params)
	c.loginsCtx, c.cancelLogins = context.WithCancel(context.Background())
	following, stop := context.WithCancel(context.Background())
	c.stop = stop
	c.pool.run(func() { c.events.deliver(following) })
	if err := c.start(ctx); err != nil {
		c.cancelLogins() // the caller does not wait for logins any more
		return nil, errors.Join(fmt.Errorf("snowkey: %w", err), c.Close())
	}
	c.pool.run(func() { c.follow(following) })
	return c, nil
}

// checkConfig refuses a configuration that asks for another login than with the key in the file, and reads its address.
func checkConfig(cfg *gosnowflake.Config) error {
	switch {
	case cfg.Authenticator != gosnowflake.AuthTypeSnowflake && cfg.Authenticator != gosnowflake.AuthTypeJwt:
		return fmt.Errorf("snowkey: Config.Authenticator is %s: leave it empty, as logins use the key in the file", cfg.Authenticator)
	case cfg.PrivateKey != nil:
		return errors.New("snowkey: Config.PrivateKey is set: leave it empty, as logins use the key in the file")
	case cfg.TokenAccessor != nil:
		return errors.New("snowkey: Config.TokenAccessor is set: leave it empty, as each session has its own")
	}
	return readAddress(cfg)
}

// Connect returns a connection over a spare session, or logs in. It implements [driver.Connector].
func (c *Connector) Connect(ctx context.Context) (driver.Conn, error) {
	s, err := c.acquireSession(ctx)
	if err != nil {
		return nil, err
	}
	conn := newConn(c, s)
	c.pool.add(conn)
	conn.closeIfIdle() // the serving key may have changed before the pool knew of the connection
	return conn, nil
}

// Driver implements [driver.Connector].
func (c *Connector) Driver() driver.Driver { return Driver{} }

// Close stops following the file, logs out the spare sessions, and waits for that, ten seconds at most. The
// pool's Close calls it. It may be called more than once.
func (c *Connector) Close() error {
	c.stop()
	c.watch.Close()
	return c.pool.close(c.cancelLogins)
}

// Fingerprint returns the fingerprint of the key that a connection logged in with, as DESC USER prints it.
// connection is a *[sql.Conn], or what its Raw gives; wrappers with a method Raw() driver.Conn are unwrapped.
// A connection without a session logs in first, which takes a minute at most.
func Fingerprint(connection any) (fingerprint string, err error) {
	switch c := connection.(type) {
	case *sql.Conn:
		err := c.Raw(func(raw any) error {
			fingerprint, err = Fingerprint(raw)
			return err
		})
		return fingerprint, err
	case *conn:
		ctx, cancel := context.WithTimeout(context.Background(), loginTimeout)
		defer cancel()
		return c.fingerprint(ctx)
	case interface{ Raw() driver.Conn }:
		return Fingerprint(c.Raw())
	}
	return "", fmt.Errorf("snowkey: a %T is not a connection of this package: pass a *sql.Conn of its pool", connection)
}
