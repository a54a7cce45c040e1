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
	inUse  int32 = iota // with somebody, or on the way there
	idle                // in the pool
	empty               // in the pool, and its session was logged out: whoever takes it gets another
	closed              // by database/sql
)

// A session is a login: a connection of the driver, the key that it logged in with, its tokens, and
// whether the driver keeps silent about it.
type session struct {
	snowflakeConn
	key     *keyfile.Key
	tokens  *tokens
	silence *atomic.Bool
	async   atomic.Bool // an asynchronous statement was sent: it may still be running
}

// A conn is a connection as database/sql has it. It outlives its session: that is replaced while nobody
// uses the connection, or when the first statement after it was taken out finds the session ended, since
// nobody has seen anything of it then.
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
	conn.state.Store(idle) // database/sql may put it into the pool at once, without a word
	return conn
}

// IsValid is asked when the connection is put back.
func (c *conn) IsValid() bool {
	c.inTx = false
	// Idle first: when the key is switched at this moment, one of the two sees the other.
	if c.state.CompareAndSwap(inUse, idle) && !c.usable() {
		c.retire()
	}
	return c.state.Load() != closed
}

// ResetSession is asked when the connection is taken out. It never reports a bad connection, of which
// database/sql bears only so many: a connection that gets no session here gets one, or the error, with
// its first statement.
func (c *conn) ResetSession(ctx context.Context) error {
	_ = c.ready(ctx)
	c.fresh = true
	return nil
}

func (c *conn) usable() bool {
	s := c.session.Load()
	return !c.dead.Load() && c.connector.pool.serves(c) && s.tokens.age() <= c.connector.options.maxIdle
}

// ready sees to it that the connection is in use and has a session that is fit for it. database/sql does
// not announce each connection that it takes out, so that each statement calls it, too.
func (c *conn) ready(ctx context.Context) error {
	switch {
	case c.state.Load() == inUse:
		return nil
	case c.state.CompareAndSwap(idle, inUse):
		if c.usable() {
			return nil
		}
		c.connector.pool.discard([]*session{c.session.Load()})
	case c.state.CompareAndSwap(empty, inUse):
	default:
		return driver.ErrBadConn // nothing was sent
	}
	s, err := c.connector.session(ctx)
	if err != nil {
		c.state.CompareAndSwap(inUse, empty)
		return err
	}
	c.replace(s)
	return nil
}

func (c *conn) replace(s *session) {
	c.session.Store(s)
	c.dead.Store(false)
}

// retire logs out the session of an idle connection. One in any other state is somebody else's to see to.
func (c *conn) retire() {
	if c.state.CompareAndSwap(idle, empty) {
		c.connector.pool.discard([]*session{c.session.Load()})
	}
}

// Close is called by database/sql, on the way of a query as often as not: the session is logged out in
// the background.
func (c *conn) Close() error {
	pool := c.connector.pool
	pool.remove(c)
	if before := c.state.Swap(closed); before != empty && before != closed {
		pool.discard([]*session{c.session.Load()})
	}
	return nil
}

// relogin gives the connection another session in place of one that has ended: not one that was set
// aside, which may have ended in the same way.
func (c *conn) relogin(ctx context.Context) bool {
	s, err := c.connector.loginServing(ctx)
	if err != nil {
		return false
	}
	old := c.session.Load()
	c.replace(s)
	c.connector.pool.discard([]*session{old})
	return true
}

// mostRelogins bounds how many sessions in a row may end before a statement gets to them.
const mostRelogins = 3

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
	if err := c.ready(ctx); err != nil {
		var none T
		return none, err
	}
	if fetchesByID(ctx) {
		of = harmless
	}
	ids := interceptQueryID(ctx)
	for relogins := 0; ; relogins++ {
		s := c.session.Load()
		began := s.tokens.read()
		result, err := do(ids.attempt(ctx), s)
		if err == nil {
			c.connector.compare(s.tokens, began, of)
			// Rows keep their connection until they are read; a result does not.
			if _, isResult := any(result).(driver.Result); isResult && asynchronous(ctx) {
				s.async.Store(true)
			}
		}
		if err == nil || !ended(err) {
			c.fresh = false
			ids.settle(true)
			return result, c.judge(err)
		}
		c.over(s)
		if c.inTx || of != harmless && !c.connector.neverRan(s.tokens, began, of) {
			ids.settle(true)
			return result, err
		}
		if !c.fresh || relogins == mostRelogins || !c.relogin(ctx) {
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
	if err != nil && (ended(err) || mayHaveEnded(err)) {
		c.over(c.session.Load())
	}
	return err
}

// fetchesByID reports whether no statement is sent at all, in gosnowflake.WithFetchResultByID.
func fetchesByID(ctx context.Context) bool {
	return ctx.Value(gosnowflake.ContextKey("SF_FETCH_RESULT_BY_ID")) != nil
}

// asynchronous reports whether a statement is sent in gosnowflake.WithAsyncMode.
func asynchronous(ctx context.Context) bool {
	on, _ := ctx.Value(gosnowflake.ContextKey("ASYNC_MODE_QUERY")).(bool)
	return on
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
		c.dead.Store(true) // it may have begun
		return nil, err
	}
	c.inTx = true
	return &tx{begun, c}, nil
}

// Begin implements driver.Conn; database/sql calls BeginTx.
func (c *conn) Begin() (driver.Tx, error) { return c.BeginTx(context.Background(), driver.TxOptions{}) }

// PrepareContext implements driver.ConnPrepareContext. Nothing is sent before the statement is used.
func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if err := c.ready(ctx); err != nil {
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
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
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
func (t *tx) Commit() error { return t.end(t.Tx.Commit()) }

// Rollback implements driver.Tx. One that fails has database/sql drop the connection, also from a
// sql.Conn.
func (t *tx) Rollback() error {
	if err := t.end(t.Tx.Rollback()); err != nil {
		return notRun{err}
	}
	return nil
}

// end takes care that nobody gets a session whose transaction may still be open: database/sql also rolls
// back when the context has ended, and then the driver sends nothing.
func (t *tx) end(err error) error {
	t.conn.inTx = false
	if err != nil {
		t.conn.dead.Store(true)
	}
	return t.conn.judge(err)
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
