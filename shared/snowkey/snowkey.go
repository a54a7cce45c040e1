// Package snowkey gives programs a [sql.DB] for Snowflake whose key changes while they run. [Open] takes the place of
// sql.Open, and the pool follows the key file for as long as the program runs:
//
//	db, err := snowkey.Open(ctx, "/run/snowflake/rsa_key.pem", gosnowflake.Config{
//		Account: "myorg-myaccount",
//		User:    "ETL",
//	})
//
// The driver below is [gosnowflake]. Programs that open a database by a data source name use the driver "snowkey": see
// [Driver]. Use [NewConnector] instead of Open to watch the pool with [Connector.Health] and [Connector.Stats], or to put a
// wrapper around it.
//
// # Rotation
//
// A new key in the file is a candidate. The pool logs in with it while every query goes on over connections of the serving
// key, the one that logins used until then.
//
//   - If Snowflake refuses the candidate, because its public key is not assigned to the user yet, the serving key keeps
//     serving, and the pool tries the candidate again, with a backoff of up to 30 seconds.
//   - If Snowflake accepts it, the pool logs in a spare session for each connection that has a session, and only then makes
//     the candidate the serving key. Connections take the spare sessions, and the sessions of the old key log out as their
//     connections become idle.
//   - If a login fails in the middle of this, nothing changes, and the pool tries again.
//
// So a rotation fails no query, and no query waits for a login. A transaction, a sql.Conn or rows in use finish on the old
// key. A session with an asynchronous Exec is kept until that has ended.
//
// # Sessions that end
//
// If Snowflake has ended a session and the statement has not run, the statement runs on a new session. The caller gets
// [ErrSessionEnded] if the statement may have run, is in a transaction, or is a later statement on a sql.Conn.
//
// No statement runs twice: the pool sees on the wire, with [net/http/httptrace], which requests the driver has sent for it.
// With a Config.Transporter that does not report to httptrace, no statement is sent again. Nor is a bulk insert whose
// values go through a stage: it is several statements.
//
// # Session state
//
// The session below a connection may be replaced whenever the connection is idle in the pool: after a rotation, after a
// long idle time, and when Snowflake has ended it. The effects of USE and ALTER SESSION, session variables and temporary
// tables are then gone. They last for a transaction, and for a sql.Conn until its Close. For state that every session needs,
// use the Config's Warehouse, Role, Database, Schema and Params, or [WithSessionInit]. For a temporary table, use a
// sql.Conn.
//
// # Errors
//
// For use with [errors.Is]:
//
//   - of [Open] and [NewConnector]: [ErrInvalidConfig]; [ErrKeyRefused]; if there is no key, the errors of
//     [keyfile.Read], such as fs.ErrNotExist and [keyfile.ErrNotKey]; and the cause of the context that ended
//   - of queries: [ErrKeyRefused], [ErrSessionEnded], and what the driver returns
//   - of [Connector.Health]: [ErrServingKeyRefused], [ErrCandidateRefused]
//   - of Close: [ErrCloseTimeout]; and after it, [ErrClosed]
//
// Snowflake's answer is a *gosnowflake.SnowflakeError. Use [errors.As] for it, since other errors wrap it.
//
// # Concurrency
//
// A sql.DB and a [Connector] may be used from several goroutines. They have goroutines of their own, which end with Close.
// The functions of [WithEvents] and [WithSessionInit] run in these.
//
// # Wrappers
//
// Libraries over a sql.DB, such as sqlx and gorm, take the pool as it is. Wrappers around the connections, for tracing or
// metrics, take the [Connector], or wrap the [Driver]. The examples of this package show the pattern of both, and the
// examples in internal/suite/wrappers use otelsql, sqlx and gorm themselves.
//
// A wrapper works if it passes on driver.SessionResetter, as otelsql, sqlmw and instrumentedsql do. Under one that hides
// driver.Validator, an idle connection keeps its session of the old key until its next use. Under one that hides io.Closer of
// the connector, call [Connector.Close] after db.Close.
//
// # gosnowflake 1 and 2 in one program
//
// Both register the database/sql driver "snowflake", and the second one panics. That happens for instance with
// golang-migrate, whose Snowflake driver imports gosnowflake 1. Start the program with the environment variable
// GOSNOWFLAKE_SKIP_REGISTRATION=true: gosnowflake 2 then does not register, "snowflake" is gosnowflake 1, and this package
// works, as it does not need that name. (The variable of gosnowflake 1 has another spelling:
// GOSNOWFLAKE_SKIP_REGISTERATION.)
//
// # What it never does
//
// It never puts the key into a data source name. It never writes a file. It never logs without [WithLogger]. Without
// [WithQuietDriver] it leaves the driver's logger alone, which the whole program shares.
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

// Open returns a pool that logs in with the key at path, and follows the key until the pool is closed. path is a file, or a
// socket of the sidecar's --serve, in any form that [keyfile.Parse] reads. Keep the pool for as long as the program runs.
//
// Open waits for a valid key that Snowflake does not refuse. ctx bounds only this wait, and not the pool's life. When ctx
// ends, the error wraps ctx's cause and what was missing: the error of [keyfile.Read] if there is no valid key,
// [ErrKeyRefused] if Snowflake refuses it.
//
// If a login fails for another reason than the key, or Snowflake does not answer within five seconds, Open returns the
// pool, and queries return the error, as with sql.Open. Open fails at once with [ErrInvalidConfig], and if the function of
// [WithSessionInit] fails.
//
// cfg is copied. Its Account, Host and User may have any form that Snowflake's drivers read. An Account or Host may also be
// copied from a browser. Leave its Authenticator empty (or AuthTypeJwt), and its PrivateKey and TokenAccessor empty: the pool
// sets them for each login.
func Open(ctx context.Context, path string, cfg gosnowflake.Config, opts ...Option) (*sql.DB, error) {
	connector, err := NewConnector(ctx, path, cfg, opts...)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// A Connector logs in with the serving key. It is a [driver.Connector] for [sql.OpenDB], and the pool's Close closes it.
// [NewConnector] makes it; the zero Connector is not usable.
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

// retain counts one more use of the Connector, besides its connections.
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

// NewConnector is [Open] for a caller that needs the [Connector]: for [Connector.Health] and [Connector.Stats], or for a
// wrapper around it. It waits and fails as Open does. The caller passes the Connector to [sql.OpenDB], or closes it.
func NewConnector(ctx context.Context, path string, cfg gosnowflake.Config, opts ...Option) (*Connector, error) {
	if err := checkConfig(&cfg); err != nil {
		return nil, kindError{err, ErrInvalidConfig}
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

// checkConfig refuses a configuration for another kind of login than with the key in the file. It also normalizes the
// address.
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

// Connect implements [driver.Connector]: database/sql calls it. It returns a connection over a spare session, or logs in.
// Its errors are [ErrKeyRefused], [ErrClosed], the error of the function of [WithSessionInit], ctx's, and the driver's.
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

// Close stops following the file, logs out the spare sessions, and waits for that. After ten seconds it stops waiting and
// returns [ErrCloseTimeout], its only error. The pool's Close calls it. It may be called several times.
func (c *Connector) Close() error {
	c.stop()
	c.watch.Close()
	return c.pool.close(c.cancelLogins)
}

// Fingerprint returns the fingerprint of the key that a connection logged in with, as DESC USER prints it. connection is a
// *[sql.Conn], or what its Raw gives. Wrappers with a method Raw() driver.Conn are unwrapped. A connection without a session
// logs in first, which takes at most a minute and has the errors of [Connector.Connect]. The only other error is that
// connection is not one of this package.
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
