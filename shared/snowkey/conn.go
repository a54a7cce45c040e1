package snowkey

import (
	"context"
	"database/sql/driver"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// snowflakeConn is all that gosnowflake's connection offers, to database/sql and through
// sql.Conn.Raw. What is not listed here would be lost by wrapping.
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

// Where a connection is, as far as database/sql lets it know.
const (
	inUse   int32 = iota // with somebody, or on the way there
	idle                 // in the pool
	retired              // no longer to be used: logged out, or about to be
)

// A session is a login: a connection of the driver, the key that it logged in with, its tokens, and
// whether the driver keeps silent about it.
type session struct {
	snowflakeConn
	key     *keyfile.Key
	tokens  *tokens
	silence *atomic.Bool
}

// A conn is a connection as database/sql has it. Its session is replaced, at most, when the first
// statement after it was taken out finds the session ended: nobody has seen anything of that one.
type conn struct {
	connector *Connector
	session   atomic.Pointer[session]
	state     atomic.Int32
	dead      atomic.Bool // the session is over

	// These belong to whoever uses the connection.
	fresh bool // no statement has run since it was taken out
	inTx  bool
}

func newConn(c *Connector, s *session) *conn {
	conn := &conn{connector: c, fresh: true}
	conn.session.Store(s)
	return conn
}

// IsValid is asked when the connection is put back.
func (c *conn) IsValid() bool {
	pool := c.connector.pool
	if c.dead.Load() || !pool.serves(c) {
		return false
	}
	c.inTx = false
	c.state.Store(idle)
	// The key may have been switched in between, and the connection not yet idle when those that
	// were idle retired.
	if pool.serves(c) {
		return true
	}
	c.retire()
	return false
}

// ResetSession is asked when the connection is taken out.
func (c *conn) ResetSession(context.Context) error {
	if !c.state.CompareAndSwap(idle, inUse) || !c.connector.pool.serves(c) || c.expired() {
		return driver.ErrBadConn
	}
	c.fresh = true
	return nil
}

func (c *conn) expired() bool { return c.session.Load().tokens.age() > c.connector.options.maxIdle }

// enter is called as a statement begins. database/sql does not announce each connection that it takes
// out: one that it was handed and never used comes back and goes out again without a word.
func (c *conn) enter() error {
	if c.state.Load() == inUse || c.state.CompareAndSwap(idle, inUse) {
		return nil
	}
	return driver.ErrBadConn // nothing was sent
}

// retire takes an idle connection out of use and logs it out. One in any other state is somebody
// else's to see to.
func (c *conn) retire() {
	if c.state.CompareAndSwap(idle, retired) {
		c.connector.pool.remove(c)
	}
}

// Close is called by database/sql, on the way of a query as often as not: the session is logged out in
// the background.
func (c *conn) Close() error {
	if c.state.Swap(retired) != retired {
		c.connector.pool.remove(c)
	}
	return nil
}

// renew gives the connection another session: not one that was set aside, which may have ended in the
// same way.
func (c *conn) renew(ctx context.Context) bool {
	s, err := c.connector.loginServing(ctx)
	if err != nil {
		return false
	}
	c.connector.pool.logOut(c.session.Swap(s))
	c.dead.Store(false)
	return true
}

// mostRenewals bounds how many sessions in a row may end before a statement gets to them.
const mostRenewals = 3

// A kind of statement tells how often the driver looks at its tokens before it sends one of it.
type kind int

const (
	harmless   kind = 0 // a ping, the beginning of a transaction: it may run twice
	statement  kind = 2
	arrowQuery kind = 1
)

// send sends a statement. One that was refused because its session is over, and has not run, goes to
// a new session if it was the first since the connection was taken out; otherwise database/sql may
// send it to another connection. Within a transaction neither will do: what came before is gone.
func send[T any](ctx context.Context, c *conn, of kind, do func(context.Context, *session) (T, error)) (T, error) {
	if err := c.enter(); err != nil {
		var none T
		return none, err
	}
	ids := interceptQueryID(ctx)
	for renewals := 0; ; renewals++ {
		s := c.session.Load()
		began := s.tokens.read()
		result, err := do(ids.attempt(ctx), s)
		if err == nil {
			c.connector.compare(s.tokens, began, of)
		}
		if err == nil || !ended(err) {
			c.fresh = false
			ids.settle(true)
			return result, err
		}
		c.over(s)
		if c.inTx || of != harmless && !c.connector.neverRan(s.tokens, began, of) {
			ids.settle(true)
			return result, err
		}
		if !c.fresh || renewals == mostRenewals || !c.renew(ctx) {
			ids.settle(false)
			return result, notRun{err}
		}
	}
}

// over marks the session as over. That it cannot be logged out is no news then.
func (c *conn) over(s *session) {
	c.dead.Store(true)
	s.silence.Store(true)
}

// judge marks the session as over if err says so.
func (c *conn) judge(err error) error {
	if err != nil && ended(err) {
		c.over(c.session.Load())
	}
	return err
}

// QueryContext implements driver.QueryerContext.
func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return send(ctx, c, statement, func(ctx context.Context, s *session) (driver.Rows, error) { return s.QueryContext(ctx, query, args) })
}

// ExecContext implements driver.ExecerContext.
func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return send(ctx, c, statement, func(ctx context.Context, s *session) (driver.Result, error) { return s.ExecContext(ctx, query, args) })
}

// QueryArrowStream is gosnowflake's, for those who reach it through sql.Conn.Raw.
func (c *conn) QueryArrowStream(ctx context.Context, query string, args ...driver.NamedValue) (gosnowflake.ArrowStreamLoader, error) {
	return send(ctx, c, arrowQuery, func(ctx context.Context, s *session) (gosnowflake.ArrowStreamLoader, error) {
		return s.QueryArrowStream(ctx, query, args...)
	})
}

// Ping implements driver.Pinger.
func (c *conn) Ping(ctx context.Context) error {
	_, err := send(ctx, c, harmless, func(ctx context.Context, s *session) (struct{}, error) { return struct{}{}, s.Ping(ctx) })
	return err
}

// BeginTx implements driver.ConnBeginTx.
func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	begun, err := send(ctx, c, harmless, func(ctx context.Context, s *session) (driver.Tx, error) { return s.BeginTx(ctx, opts) })
	if err != nil {
		return nil, err
	}
	c.inTx = true
	return &tx{begun, c}, nil
}

// Begin implements driver.Conn; database/sql calls BeginTx.
func (c *conn) Begin() (driver.Tx, error) { return c.BeginTx(context.Background(), driver.TxOptions{}) }

// PrepareContext implements driver.ConnPrepareContext. Nothing is sent before the statement is used.
func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	st := &stmt{conn: c, query: query}
	if err := st.prepare(ctx, c.session.Load()); err != nil {
		return nil, err
	}
	return st, nil
}

// Prepare implements driver.Conn; database/sql calls PrepareContext.
func (c *conn) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}

// CheckNamedValue implements driver.NamedValueChecker.
func (c *conn) CheckNamedValue(v *driver.NamedValue) error {
	return c.session.Load().CheckNamedValue(v)
}

// GetQueryStatus implements gosnowflake.SnowflakeConnection.
func (c *conn) GetQueryStatus(ctx context.Context, queryID string) (*gosnowflake.SnowflakeQueryStatus, error) {
	status, err := c.session.Load().GetQueryStatus(ctx, queryID)
	return status, c.judge(err)
}

// AddTelemetryData implements gosnowflake.SnowflakeConnection.
func (c *conn) AddTelemetryData(ctx context.Context, at time.Time, data map[string]string) error {
	return c.session.Load().AddTelemetryData(ctx, at, data)
}

// A tx notices when its session is over.
type tx struct {
	driver.Tx
	conn *conn
}

// Commit implements driver.Tx. Whether a commit that fails has taken place is not known, so it is
// never tried again.
func (t *tx) Commit() error {
	t.conn.inTx = false
	return t.conn.judge(t.Tx.Commit())
}

// Rollback implements driver.Tx.
func (t *tx) Rollback() error {
	t.conn.inTx = false
	return t.conn.judge(t.Tx.Rollback())
}

// snowflakeStmt is all that gosnowflake's statement offers.
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
		return fmt.Errorf("snowkey: gosnowflake's %T lacks a method that this package passes on", prepared)
	}
	st.snowflakeStmt, st.session = inner, s
	return nil
}

// ExecContext implements driver.StmtExecContext.
func (st *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return send(ctx, st.conn, statement, func(ctx context.Context, s *session) (driver.Result, error) {
		if err := st.prepare(ctx, s); err != nil {
			return nil, err
		}
		return st.snowflakeStmt.ExecContext(ctx, args)
	})
}

// QueryContext implements driver.StmtQueryContext.
func (st *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return send(ctx, st.conn, statement, func(ctx context.Context, s *session) (driver.Rows, error) {
		if err := st.prepare(ctx, s); err != nil {
			return nil, err
		}
		return st.snowflakeStmt.QueryContext(ctx, args)
	})
}
