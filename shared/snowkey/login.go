package snowkey

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// loginTimeout bounds a login that no caller's context bounds. The driver's own limit is five minutes.
const loginTimeout = time.Minute

// session gives a session that was set aside, or logs in with the serving key.
func (c *Connector) session(ctx context.Context) (*session, error) {
	if s := c.pool.take(); s != nil {
		return s, nil
	}
	return c.loginServing(ctx)
}

// loginServing logs in with the serving key, or with a newer one if that is no longer accepted.
func (c *Connector) loginServing(ctx context.Context) (*session, error) {
	serving := c.pool.serving()
	s, err := c.login(ctx, serving, refusalNews)
	if !refused(err) {
		return s, err
	}
	s, rescueErr := c.rescue(ctx, serving)
	if rescueErr != nil {
		return nil, err // about the serving key: what went wrong first
	}
	return s, nil
}

// What the driver may say about a refused login.
const (
	refusalNews     = false
	refusalExpected = true
)

// login opens a session with key.
func (c *Connector) login(ctx context.Context, key *keyfile.Key, silent bool) (*session, error) {
	ctx, silence := quiet(ctx)
	silence.Store(silent)
	defer silence.Store(false)
	tokens := new(tokens)
	cfg := c.cfg
	cfg.Params = maps.Clone(c.cfg.Params) // the driver writes into what it is given
	cfg.Authenticator = gosnowflake.AuthTypeJwt
	cfg.PrivateKey = key.RSA()
	cfg.TokenAccessor = tokens
	opened, err := gosnowflake.NewConnector(gosnowflake.SnowflakeDriver{}, cfg).Connect(ctx)
	if err != nil {
		if refused(err) {
			c.counts.refusals.Add(1)
		}
		return nil, err
	}
	c.counts.logins.Add(1)
	inner, ok := opened.(snowflakeConn)
	if !ok {
		_ = opened.Close()
		return nil, fmt.Errorf("snowkey: gosnowflake's %T lacks a method that this package passes on", opened)
	}
	return &session{snowflakeConn: inner, key: key, tokens: tokens, silence: silence}, nil
}

// refused reports whether Snowflake refused the key, and not something else about the login: 390144
// says so without a reason, 394300 to 394307 with one.
func refused(err error) bool {
	e, ok := errors.AsType[*gosnowflake.SnowflakeError](err)
	return ok && (e.Number == 390144 || e.Number >= 394300 && e.Number <= 394307)
}

// rescue is for a serving key that Snowflake no longer accepts: the newest key in the file is tried at
// once, and the sidecar is asked to look for a newer one.
func (c *Connector) rescue(ctx context.Context, tried *keyfile.Key) (*session, error) {
	const most = 3 // keys can change faster than logins take
	for range most {
		newest := c.newest(tried)
		if newest.Fingerprint() == tried.Fingerprint() {
			break
		}
		s, err := c.login(ctx, newest, refusalNews)
		if err == nil {
			c.adopt(newest, nil, 0)
			return s, nil
		}
		if !refused(err) {
			return nil, err
		}
		tried = newest
	}
	c.refresh.ask()
	c.watch.Check()
	return nil, errors.New("there is no newer key that is accepted")
}

// newest is the key in the file as it is now, or one that somebody else has found to serve.
func (c *Connector) newest(tried *keyfile.Key) *keyfile.Key {
	if serving := c.pool.serving(); serving.Fingerprint() != tried.Fingerprint() {
		return serving
	}
	if key, err := keyfile.Read(c.path); err == nil {
		return key
	}
	return c.watch.Key()
}
