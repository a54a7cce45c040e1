package snowkey

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"
)

// snowflakeConn is all that gosnowflake's connection offers to database/sql and through [sql.Conn.Raw]. A
// method that is missing here would be lost by wrapping.
type snowflakeConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.NamedValueChecker
	driver.Pinger
	gosnowflake.SnowflakeConnection
	QueryArrowStream(ctx context.Context, query string, bindings ...driver.NamedValue) (gosnowflake.ArrowStreamLoader, error)
}

type connState int

const (
	connIdle   connState = iota // in the pool, with a session
	connInUse                   // out of the pool, with a session
	connEmpty                   // without a session: its next statement logs in
	connBroken                  // out of the pool, and its session was ended: see breakConn
	connClosed                  // by database/sql
)

// A conn is a connection of database/sql. It outlives its session, which is replaced between two uses of the connection, or
// when the first statement of a use finds that Snowflake has ended it. In both cases no caller has seen the session.
//
// A caller and a change of the serving key use a conn at the same time, so the mutex guards state and session. Nothing
// waits for Snowflake while it is held.
type conn struct {
	connector *Connector

	mu      sync.Mutex
	state   connState
	session *session // the last one there was; never nil

	// Only the caller that has the connection uses these.
	ended   bool   // Snowflake has ended the session
	fresh   bool   // no statement has run since the connection was taken out of the pool
	inTx    bool   // in a transaction
	sent    bool   // set by send for BeginTx: the statement was sent, or may have been
	queryID string // set by send for execAsync: the statement's ID
}

func newConn(c *Connector, s *session) *conn {
	// Idle, since database/sql may put a new connection into the pool at once without announcing it.
	return &conn{connector: c, session: s, state: connIdle, fresh: true}
}

func (c *conn) currentSession() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}

// usable reports whether the session may serve another use of the connection. It is called with mu held.
func (c *conn) usable() bool {
	s := c.session
	return !c.ended && s.fits(c.connector.pool.serving()) && s.tokens.age() <= c.connector.options.maxTokenAge
}

// IsValid implements [driver.Validator]: database/sql calls it when the connection is put back.
func (c *conn) IsValid() bool {
	c.inTx = false
	c.mu.Lock()
	switch c.state {
	case connInUse:
		c.state = connIdle
	case connBroken:
		c.state = connEmpty
	}
	stale := c.emptyIf(connIdle, !c.usable())
	open := c.state != connClosed
	c.mu.Unlock()
	c.connector.pool.discard(stale)
	return open
}

// ResetSession implements [driver.SessionResetter]: database/sql calls it when the connection is taken out.
// Under a wrapper that hides [driver.Validator], this is the first call after the connection was idle.
func (c *conn) ResetSession(context.Context) error {
	c.inTx, c.fresh = false, true
	c.mu.Lock()
	switch c.state {
	case connClosed:
		c.mu.Unlock()
		return driver.ErrBadConn
	case connIdle:
		c.state = connInUse
	case connBroken:
		c.state = connEmpty
	}
	stale := c.emptyIf(connInUse, !c.usable())
	c.mu.Unlock()
	c.connector.pool.discard(stale)
	return nil
}

// closeIfIdle takes the session from an idle connection if its key no longer serves. In any other state the connection does
// so itself, later.
func (c *conn) closeIfIdle() {
	c.mu.Lock()
	stale := c.emptyIf(connIdle, !c.session.fits(c.connector.pool.serving()))
	c.mu.Unlock()
	c.connector.pool.discard(stale)
}

func (c *conn) currentState() connState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// emptyIf takes the session from a connection in the state from, if cond holds, and returns it. It is called
// with mu held.
func (c *conn) emptyIf(from connState, cond bool) *session {
	if c.state != from || !cond {
		return nil
	}
	c.state = connEmpty
	return c.session
}

// ready makes sure that the connection is in use and has a session. Each statement calls it, as database/sql
// does not announce every connection that it takes out.
func (c *conn) ready(ctx context.Context) error {
	c.mu.Lock()
	if c.state == connIdle {
		c.state, c.fresh = connInUse, true
	}
	stale := c.emptyIf(connInUse, c.fresh && !c.usable())
	state := c.state
	c.mu.Unlock()
	c.connector.pool.discard(stale)
	switch state {
	case connInUse:
		return nil
	case connBroken:
		return errBroken
	case connClosed:
		return driver.ErrBadConn // nothing was sent
	}
	s, err := c.connector.acquireSession(ctx)
	if err != nil {
		return err
	}
	return c.use(s)
}

// use gives the connection a new session.
func (c *conn) use(s *session) error {
	c.mu.Lock()
	if c.state == connClosed {
		c.mu.Unlock()
		c.connector.pool.discard(s)
		return driver.ErrBadConn
	}
	c.state, c.session = connInUse, s
	c.mu.Unlock()
	c.ended, c.fresh = false, true
	return nil
}

// breakConn ends the session, because a transaction may still be open on it. Later statements of this caller
// fail; otherwise they would run in that transaction, and be rolled back with it.
func (c *conn) breakConn() {
	c.mu.Lock()
	s := c.emptyIf(connInUse, true)
	if s != nil {
		c.state = connBroken
	}
	c.mu.Unlock()
	c.connector.pool.discard(s)
}

// Close implements [driver.Conn].
func (c *conn) Close() error {
	c.connector.pool.remove(c)
	c.mu.Lock()
	s, state := c.session, c.state
	had := state == connIdle || state == connInUse
	c.state = connClosed
	c.mu.Unlock()
	if had {
		c.connector.pool.discard(s)
	}
	if state != connClosed {
		c.connector.release()
	}
	return nil
}

// maxHeals bounds how many sessions in a row may end before a statement gets to them.
const maxHeals = 3

// send sends a statement. If its session has ended and the statement has not run, send repeats it on a new
// session if it is the first of a use of the connection; otherwise it returns a [driver.ErrBadConn], so that
// database/sql may take another connection. In a transaction it returns the error: the earlier statements
// are lost. An idempotent statement is repeated even if it may have run.
func send[T any](ctx context.Context, c *conn, idempotent bool, do func(context.Context, *session) (T, error)) (T, error) {
	ids := forwardQueryIDs(ctx)
	if ids == nil {
		return sendAndHeal(ctx, c, idempotent, nil, do)
	}
	defer func() {
		ids.end()
		c.queryID = ids.id
	}()
	result, err := sendAndHeal(ctx, c, idempotent, ids, do)
	if errors.Is(err, driver.ErrBadConn) {
		err = finalError{err} // the caller's channel is closed: database/sql must not send the statement again
	}
	return result, err
}

func sendAndHeal[T any](ctx context.Context, c *conn, idempotent bool, ids *queryIDs, do func(context.Context, *session) (T, error)) (T, error) {
	c.sent = false
	if err := c.ready(ctx); err != nil {
		var none T
		return none, err
	}
	for heals := 0; ; heals++ {
		s := c.currentSession()
		wire := newWireTrace(s.tokens)
		result, err := do(ids.attempt(wire.context(ctx)), s)
		c.sent = wire.sent() || !s.traced
		if !sessionEnded(err) {
			c.fresh = false
			return result, wire.explain(c.noteError(err))
		}
		err = kindError{err, ErrSessionEnded}
		c.markEnded()
		if c.inTx || !idempotent && !wire.notExecuted() {
			c.fresh = false
			return result, err
		}
		if !c.fresh || heals == maxHeals {
			return result, notExecutedError{err}
		}
		if healErr := c.heal(ctx); healErr != nil {
			return result, c.notHealed(err, healErr, ids == nil)
		}
	}
}

// heal gives the connection a new session in place of one that has ended. It does not take a spare one,
// which may have ended in the same way.
func (c *conn) heal(ctx context.Context) error {
	s, err := c.connector.login(ctx)
	if err != nil {
		return err
	}
	old := c.currentSession()
	if err := c.use(s); err != nil {
		return err
	}
	c.connector.pool.discard(old)
	c.connector.stats.replaced()
	return nil
}

// notHealed returns the error of a statement that has not run, because its session has ended and a login fails. If another
// connection of the pool has a session, the error lets database/sql use that one, if it may. Otherwise database/sql would
// only try to log in again.
func (c *conn) notHealed(ended, login error, mayTryAnother bool) error {
	if mayTryAnother && c.connector.pool.hasIdleSession(c) {
		return notExecutedError{ended}
	}
	return fmt.Errorf("snowkey: the session has ended (%w), and a new login failed: %w", ended, login)
}

// markEnded records that Snowflake has ended the session, and mutes the driver's log about its log-out.
func (c *conn) markEnded() {
	c.ended = true
	c.currentSession().muted.Store(true)
}

// noteError records that Snowflake has ended the session if err says so. It returns err, or an [ErrSessionEnded] with it.
func (c *conn) noteError(err error) error {
	ended := sessionEnded(err)
	if ended || sessionMayHaveEnded(err) {
		c.markEnded()
	}
	if ended {
		return kindError{err, ErrSessionEnded}
	}
	return err
}

// QueryContext implements [driver.QueryerContext].
func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return send(ctx, c, fetchesByID(ctx), func(ctx context.Context, s *session) (driver.Rows, error) {
		return s.QueryContext(ctx, query, args)
	})
}

// ExecContext implements [driver.ExecerContext].
func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.exec(ctx, func(ctx context.Context, s *session) (driver.Result, error) {
		return s.ExecContext(ctx, query, args)
	})
}

func (c *conn) exec(ctx context.Context, do func(context.Context, *session) (driver.Result, error)) (driver.Result, error) {
	if !isAsync(ctx) {
		return send(ctx, c, false, do)
	}
	return c.execAsync(ctx, do)
}

// QueryArrowStream is gosnowflake's own, for callers of [sql.Conn.Raw].
func (c *conn) QueryArrowStream(ctx context.Context, query string, args ...driver.NamedValue) (gosnowflake.ArrowStreamLoader, error) {
	return send(ctx, c, false, func(ctx context.Context, s *session) (gosnowflake.ArrowStreamLoader, error) {
		return s.QueryArrowStream(ctx, query, args...)
	})
}

// Ping implements [driver.Pinger].
func (c *conn) Ping(ctx context.Context) error {
	ctx = withoutAsync(ctx)
	_, err := send(ctx, c, true, func(ctx context.Context, s *session) (struct{}, error) { return struct{}{}, s.Ping(ctx) })
	return err
}

// PrepareContext implements [driver.ConnPrepareContext]. The driver sends nothing before the statement is
// used.
func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	st := &stmt{conn: c, query: query}
	if err := st.prepare(ctx, c.currentSession()); err != nil {
		return nil, err
	}
	return st, nil
}

// Prepare implements [driver.Conn]; database/sql calls PrepareContext.
func (c *conn) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}

// CheckNamedValue implements [driver.NamedValueChecker].
func (c *conn) CheckNamedValue(v *driver.NamedValue) error {
	return c.currentSession().CheckNamedValue(v)
}

// GetQueryStatus implements [gosnowflake.SnowflakeConnection].
func (c *conn) GetQueryStatus(ctx context.Context, queryID string) (*gosnowflake.SnowflakeQueryStatus, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	status, err := c.currentSession().GetQueryStatus(ctx, queryID)
	return status, c.noteError(err)
}

// AddTelemetryData implements [gosnowflake.SnowflakeConnection].
func (c *conn) AddTelemetryData(ctx context.Context, at time.Time, data map[string]string) error {
	return c.currentSession().AddTelemetryData(ctx, at, data)
}

// fingerprint is that of the key that the connection's session logged in with.
func (c *conn) fingerprint(ctx context.Context) (string, error) {
	if err := c.ready(ctx); err != nil {
		return "", err
	}
	return c.currentSession().key.Fingerprint(), nil
}

// snowflakeStmt is all that gosnowflake's prepared statement offers.
type snowflakeStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
	gosnowflake.SnowflakeStmt
}

// A stmt is a prepared statement that follows its connection to another session.
type stmt struct {
	snowflakeStmt
	conn    *conn
	session *session // that it is prepared on
	query   string
}

func (st *stmt) prepare(ctx context.Context, s *session) error {
	if st.session == s {
		return nil
	}
	prepared, err := s.PrepareContext(ctx, st.query)
	if err != nil {
		return err
	}
	inner, ok := prepared.(snowflakeStmt)
	if !ok {
		return fmt.Errorf("snowkey: gosnowflake's %T lacks a method that this package passes on: update snowkey", prepared)
	}
	st.snowflakeStmt, st.session = inner, s
	return nil
}

// ExecContext implements [driver.StmtExecContext].
func (st *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return st.conn.exec(ctx, func(ctx context.Context, s *session) (driver.Result, error) {
		if err := st.prepare(ctx, s); err != nil {
			return nil, err
		}
		return st.snowflakeStmt.ExecContext(ctx, args)
	})
}

// QueryContext implements [driver.StmtQueryContext].
func (st *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return send(ctx, st.conn, fetchesByID(ctx), func(ctx context.Context, s *session) (driver.Rows, error) {
		if err := st.prepare(ctx, s); err != nil {
			return nil, err
		}
		return st.snowflakeStmt.QueryContext(ctx, args)
	})
}

// Exec implements [driver.Stmt]; database/sql calls ExecContext.
func (st *stmt) Exec(args []driver.Value) (driver.Result, error) {
	return st.ExecContext(context.Background(), namedValues(args))
}

// Query implements [driver.Stmt]; database/sql calls QueryContext.
func (st *stmt) Query(args []driver.Value) (driver.Rows, error) {
	return st.QueryContext(context.Background(), namedValues(args))
}

func namedValues(args []driver.Value) []driver.NamedValue {
	named := make([]driver.NamedValue, len(args))
	for i, v := range args {
		named[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return named
}
