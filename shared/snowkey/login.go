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

// loginTimeout bounds a login, whoever waits for it. The driver's own limit is five minutes.
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
	c.reportRevoked(serving, err)
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

// login opens a session with key. When ctx ends the login goes on without its caller: Snowflake may have
// opened the session already, and who cuts the login off can neither use it nor log it out.
func (c *Connector) login(ctx context.Context, key *keyfile.Key, silent bool) (*session, error) {
	type outcome struct {
		session *session
		err     error
	}
	done := make(chan outcome)
	started := c.pool.run(func() {
		own, cancel := context.WithTimeout(c.logins, loginTimeout)
		defer cancel()
		s, err := c.open(own, key, silent)
		select {
		case done <- outcome{s, err}:
		case <-ctx.Done():
			if err == nil {
				c.pool.welcome(s)
			}
		}
	})
	if !started {
		return nil, errClosed
	}
	select {
	case o := <-done:
		return o.session, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// open is the driver's login.
func (c *Connector) open(ctx context.Context, key *keyfile.Key, silent bool) (*session, error) {
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

// misconfigured reports whether the driver refuses the configuration itself. Of its codes for that, 260005
// to 260008 are about a network.
func misconfigured(err error) bool {
	e, ok := errors.AsType[*gosnowflake.SnowflakeError](err)
	return ok && (e.Number >= 260000 && e.Number <= 260004 || e.Number >= 260009 && e.Number <= 260021)
}

var errNoNewerKey = errors.New("there is no newer key that is accepted")

// rescue is for a serving key that Snowflake no longer accepts: the newest key in the file is tried at
// once, and the sidecar is asked to look for a newer one. The session serves the query that asked; the
// key serves once it is prepared as any other, for there may be sessions of the old one that are good.
func (c *Connector) rescue(ctx context.Context, revoked *keyfile.Key) (*session, error) {
	if serving := c.pool.serving(); !same(serving, revoked) {
		return c.login(ctx, serving, refusalNews)
	}
	newest := c.newest()
	if same(newest, revoked) || c.counts.refusedLately(newest) {
		c.look()
		return nil, errNoNewerKey
	}
	s, err := c.login(ctx, newest, refusalExpected)
	if refused(err) {
		c.counts.refusedAt.Store(&timedKey{newest, time.Now()})
	}
	c.look()
	if err == nil {
		select {
		case c.accepted <- struct{}{}: // follow need not wait any longer
		default:
		}
	}
	return s, err
}

// look has the sidecar look for a newer key, and the file looked at.
func (c *Connector) look() {
	c.refresh.ask()
	c.watch.Check()
}

// newest is the key in the file as it is now.
func (c *Connector) newest() *keyfile.Key {
	if key, err := keyfile.Read(c.path); err == nil {
		return key
	}
	return c.watch.Key()
}
