package snowkey

import (
	"context"
	"database/sql/driver"
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

// A conn is a connection and the key that it logged in with.
type conn struct {
	snowflakeConn
	key     *keyfile.Key
	tokens  *tokens
	pool    *pool
	maxIdle time.Duration

	state atomic.Int32
	dead  atomic.Bool // its session is over
	inTx  bool        // belongs to whoever uses the connection
}

// IsValid is asked when the connection is put back.
func (c *conn) IsValid() bool {
	if c.dead.Load() || !c.pool.serves(c) {
		return false
	}
	c.inTx = false
	c.state.Store(idle)
	// The key may have been switched in between, and the connection not yet idle when those that
	// were idle retired.
	return c.pool.serves(c) || !c.retire()
}

// ResetSession is asked when the connection is taken out.
func (c *conn) ResetSession(context.Context) error {
	if !c.state.CompareAndSwap(idle, inUse) || !c.pool.serves(c) || c.tokens.age() > c.maxIdle {
		return driver.ErrBadConn
	}
	return nil
}

// enter is called as a statement begins. database/sql does not announce each connection that it takes
// out: one that it was handed and never used comes back and goes out again without a word.
func (c *conn) enter() error {
	if c.state.CompareAndSwap(idle, inUse) || c.state.Load() == inUse {
		return nil
	}
	return driver.ErrBadConn // nothing was sent
}

// retire takes an idle connection out of use and logs it out. It reports whether it was idle: in any
// other state somebody else sees to it.
func (c *conn) retire() bool {
	if !c.state.CompareAndSwap(idle, retired) {
		return false
	}
	c.pool.logOut(c)
	return true
}

// Close is called by database/sql, on the way of a query as often as not: the connection is logged
// out in the background.
func (c *conn) Close() error {
	if c.state.Swap(retired) != retired {
		c.pool.logOut(c)
	}
	return nil
}

// judge marks the connection dead if err says that its session is over.
func (c *conn) judge(err error) error {
	if err != nil && ended(err) {
		c.dead.Store(true)
	}
	return err
}

// judgeStatement is judge for a statement, which another connection may run if this one did not: not
// within a transaction, whose earlier statements are gone with the session.
func (c *conn) judgeStatement(began reading, err error) error {
	if err == nil || !ended(err) {
		return err
	}
	c.dead.Store(true)
	if !c.inTx && c.tokens.refusedAtOnce(began) {
		return notRun{err}
	}
	return err
}

// judgeHarmless is judge for what may be done twice: a ping, the beginning of a transaction.
func (c *conn) judgeHarmless(err error) error {
	if err == nil || !ended(err) {
		return err
	}
	c.dead.Store(true)
	return notRun{err}
}

// QueryContext implements driver.QueryerContext.
func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	began := c.tokens.read()
	rows, err := c.snowflakeConn.QueryContext(ctx, query, args)
	return rows, c.judgeStatement(began, err)
}

// ExecContext implements driver.ExecerContext.
func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	began := c.tokens.read()
	result, err := c.snowflakeConn.ExecContext(ctx, query, args)
	return result, c.judgeStatement(began, err)
}

// QueryArrowStream is gosnowflake's, for those who reach it through sql.Conn.Raw.
func (c *conn) QueryArrowStream(ctx context.Context, query string, args ...driver.NamedValue) (gosnowflake.ArrowStreamLoader, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	loader, err := c.snowflakeConn.QueryArrowStream(ctx, query, args...)
	return loader, c.judge(err)
}

// Ping implements driver.Pinger.
func (c *conn) Ping(ctx context.Context) error {
	if err := c.enter(); err != nil {
		return err
	}
	return c.judgeHarmless(c.snowflakeConn.Ping(ctx))
}

// BeginTx implements driver.ConnBeginTx.
func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	begun, err := c.snowflakeConn.BeginTx(ctx, opts)
	if err != nil {
		return nil, c.judgeHarmless(err)
	}
	c.inTx = true
	return &tx{begun, c}, nil
}

// PrepareContext implements driver.ConnPrepareContext.
func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	prepared, err := c.snowflakeConn.PrepareContext(ctx, query)
	if err != nil {
		return nil, c.judgeHarmless(err)
	}
	inner, ok := prepared.(snowflakeStmt)
	if !ok {
		return prepared, nil // a later driver's: better unjudged than without what it offers
	}
	return &stmt{inner, c}, nil
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

// A stmt notices when its session is over.
type stmt struct {
	snowflakeStmt
	conn *conn
}

// ExecContext implements driver.StmtExecContext.
func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	began := s.conn.tokens.read()
	result, err := s.snowflakeStmt.ExecContext(ctx, args)
	return result, s.conn.judgeStatement(began, err)
}

// QueryContext implements driver.StmtQueryContext.
func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	began := s.conn.tokens.read()
	rows, err := s.snowflakeStmt.QueryContext(ctx, args)
	return rows, s.conn.judgeStatement(began, err)
}
