// Package snowkey is database/sql for Snowflake with a key that changes: Open takes the place of
// sql.Open, and the *sql.DB it gives follows the key file for as long as the program runs.
//
//	db, err := snowkey.Open(ctx, "/run/snowflake/rsa_key.der", gosnowflake.Config{
//		Account: "myorg-myaccount",
//		User:    "ETL",
//	})
//
// New logins use the newest valid key. A connection that was opened with an older one finishes what
// it is doing and leaves the pool as it becomes idle.
//
// It never builds a DSN, which would carry the key, never writes a file, and never logs unless given
// a logger.
package snowkey

import (
	"context"
	"crypto/rsa"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"log/slog"
	"maps"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/shared/keywatch"
)

// An Option changes how Open and NewConnector work.
type Option func(*options)

type options struct{ watch []keywatch.Option }

// WithLogger has new keys and problems with the key file logged.
func WithLogger(l *slog.Logger) Option {
	return func(o *options) { o.watch = append(o.watch, keywatch.WithLogger(l)) }
}

// Open gives a pool that logs in with the key in the file at path (any format that the sidecar
// writes) and follows it. It waits until a first valid key is there; ctx bounds only that wait.
//
// cfg is copied. Its Authenticator and PrivateKey are set here. Close the pool to stop following.
func Open(ctx context.Context, path string, cfg gosnowflake.Config, opts ...Option) (*sql.DB, error) {
	connector, err := NewConnector(ctx, path, cfg, opts...)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// A Connector logs in with the newest key of a file. It is a driver.Connector for sql.OpenDB, and
// the pool's Close closes it.
type Connector struct {
	watch *keywatch.Watcher
	cfg   gosnowflake.Config
}

// NewConnector is Open for those who want to call sql.OpenDB themselves.
func NewConnector(ctx context.Context, path string, cfg gosnowflake.Config, opts ...Option) (*Connector, error) {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	watch, err := keywatch.New(ctx, path, o.watch...)
	if err != nil {
		return nil, fmt.Errorf("snowkey: %w", err)
	}
	cfg.Params = maps.Clone(cfg.Params)
	return &Connector{watch: watch, cfg: cfg}, nil
}

// Connect logs in. It implements driver.Connector.
func (c *Connector) Connect(ctx context.Context) (driver.Conn, error) {
	key := c.watch.Key()
	opened, err := gosnowflake.NewConnector(gosnowflake.SnowflakeDriver{}, c.login(key.RSA())).Connect(ctx)
	if err != nil {
		return nil, err
	}
	inner, ok := opened.(snowflakeConn)
	if !ok {
		_ = opened.Close()
		return nil, fmt.Errorf("snowkey: gosnowflake's %T lacks a method that this package passes on", opened)
	}
	return &conn{snowflakeConn: inner, key: key, serving: c.watch.Key}, nil
}

// login is a configuration of its own for each login: the driver writes into what it is given.
func (c *Connector) login(key *rsa.PrivateKey) gosnowflake.Config {
	cfg := c.cfg
	cfg.Params = maps.Clone(c.cfg.Params)
	cfg.Authenticator = gosnowflake.AuthTypeJwt
	cfg.PrivateKey = key
	return cfg
}

// Driver implements driver.Connector.
func (c *Connector) Driver() driver.Driver { return gosnowflake.SnowflakeDriver{} }

// Fingerprint is that of the key for the next login, as DESC USER prints it.
func (c *Connector) Fingerprint() string { return c.watch.Key().Fingerprint() }

// Close stops following the file. The pool's Close calls it.
func (c *Connector) Close() error {
	c.watch.Close()
	return nil
}

// Fingerprint tells with which key a connection logged in, as DESC USER prints it.
func Fingerprint(c *sql.Conn) (string, error) {
	var fingerprint string
	err := c.Raw(func(raw any) error {
		ours, ok := raw.(*conn)
		if !ok {
			return fmt.Errorf("snowkey: a connection of type %T is not from this package", raw)
		}
		fingerprint = ours.key.Fingerprint()
		return nil
	})
	return fingerprint, err
}
