package wrappers

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"testing"

	"github.com/XSAM/otelsql"
	"github.com/luna-duclos/instrumentedsql"
	"github.com/ngrok/sqlmw"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/snowkey"
)

// A pool is a sql.DB of snowkey, perhaps under a wrapper.
type pool struct {
	*sql.DB
	account   *account
	connector *snowkey.Connector // nil if a data source name opened the pool
	close     func() error
}

// wrappers are the ways to open a pool: without a wrapper, with each library around the connector, its
// connections or the driver, and with wrappers of our own that pass on less than the libraries do.
var wrappers = []struct {
	name string
	open func(*account) *pool
}{
	{"none", overConnector(func(c *snowkey.Connector) *sql.DB { return sql.OpenDB(c) })},
	{"otelsql.OpenDB", overConnector(func(c *snowkey.Connector) *sql.DB { return otelsql.OpenDB(c) })},
	{"sqlmw around connections", overConnector(func(c *snowkey.Connector) *sql.DB {
		return sql.OpenDB(closer{wrappingConnector{c, func(conn driver.Conn) (driver.Conn, error) {
			return sqlmw.Driver(opened{conn}, sqlmw.NullInterceptor{}).Open("")
		}}})
	})},
	{"instrumentedsql around connections", overConnector(func(c *snowkey.Connector) *sql.DB {
		return sql.OpenDB(closer{wrappingConnector{c, func(conn driver.Conn) (driver.Conn, error) {
			return instrumentedsql.WrapDriver(opened{conn}).Open("")
		}}})
	})},
	{"connections without Validator", overConnector(func(c *snowkey.Connector) *sql.DB {
		return sql.OpenDB(closer{wrappingConnector{c, withoutValidator}})
	})},
	{"connector without Closer", func(a *account) *pool {
		p := overConnector(func(c *snowkey.Connector) *sql.DB {
			return sql.OpenDB(wrappingConnector{c, func(conn driver.Conn) (driver.Conn, error) { return conn, nil }})
		})(a)
		p.close = func() error {
			if err := p.Close(); err != nil {
				return err
			}
			return p.connector.Close() // as the documentation says
		}
		return p
	}},
	{"sql.Open", byName("snowkey", sql.Open)},
	{"otelsql.Open", byName("snowkey", func(name, source string) (*sql.DB, error) { return otelsql.Open(name, source) })},
	{"otelsql.WrapDriver", byName(registered("snowkey-otelsql", otelsql.WrapDriver(snowkey.Driver{})), sql.Open)},
	{"sqlmw.Driver", byName(registered("snowkey-sqlmw", sqlmw.Driver(snowkey.Driver{}, sqlmw.NullInterceptor{})), sql.Open)},
	{"instrumentedsql.WrapDriver", byName(registered("snowkey-instrumentedsql", instrumentedsql.WrapDriver(snowkey.Driver{})), sql.Open)},
}

func overConnector(open func(*snowkey.Connector) *sql.DB) func(*account) *pool {
	return func(a *account) *pool {
		c := a.connector()
		p := &pool{DB: open(c), account: a, connector: c}
		p.close = p.Close
		return p
	}
}

func byName(name string, open func(name, source string) (*sql.DB, error)) func(*account) *pool {
	return func(a *account) *pool {
		a.t.Helper()
		db, err := open(name, a.dataSourceName())
		if err != nil {
			a.t.Fatal(err)
		}
		return &pool{DB: db, account: a, close: db.Close}
	}
}

func registered(name string, d driver.Driver) string {
	sql.Register(name, d)
	return name
}

// A wrappingConnector wraps each connection. It hides that its connector is an io.Closer.
type wrappingConnector struct {
	driver.Connector
	wrap func(driver.Conn) (driver.Conn, error)
}

func (c wrappingConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return c.wrap(conn)
}

// A closer passes Close on.
type closer struct{ wrappingConnector }

func (c closer) Close() error { return c.Connector.(*snowkey.Connector).Close() }

// An opened driver returns the connection that it holds: sqlmw and instrumentedsql wrap what a driver opens.
type opened struct{ conn driver.Conn }

func (d opened) Open(string) (driver.Conn, error) { return d.conn, nil }

// passed are the methods of a connection that withoutValidator passes on.
type passed interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.NamedValueChecker
	driver.Pinger
	driver.SessionResetter
}

// withoutValidator hides driver.Validator, so that a connection does not learn when it is put back.
func withoutValidator(conn driver.Conn) (driver.Conn, error) {
	return struct{ passed }{conn.(passed)}, nil
}

// open opens a pool with all its connections. database/sql keeps them when they are idle.
func open(t *testing.T, a *account, with func(*account) *pool) *pool {
	t.Helper()
	p := with(a)
	t.Cleanup(func() { p.close() })
	p.SetMaxIdleConns(connections)
	p.onEachConnection(t, func(conn *sql.Conn) { mustExec(t, conn, "SELECT 'first'") })
	return p
}

// connections is the size of the pools.
const connections = 4

// onEachConnection takes all connections out of the pool, calls f for each, and puts them back.
func (p *pool) onEachConnection(t *testing.T, f func(*sql.Conn)) {
	t.Helper()
	for range connections {
		conn, err := p.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		}()
		f(conn)
	}
}

// rotate publishes a key and waits until it serves. A pool without a connector to ask shows that by a query.
func (p *pool) rotate(t *testing.T, key int) {
	t.Helper()
	if p.connector != nil {
		p.account.rotate(p.connector, key)
		return
	}
	p.account.assign(2, key)
	p.account.publish(key)
	const probe = "SELECT 'does the new key serve?'"
	testenv.Eventually(t, "a query runs on the new key", func() bool {
		mustExec(t, p, probe)
		ran := p.account.executions(probe)
		return ran[len(ran)-1].Fingerprint == testkey.Key(key).Fingerprint()
	})
}

func TestPool_FollowsRotation(t *testing.T) {
	for _, wrapper := range wrappers {
		t.Run(wrapper.name, func(t *testing.T) {
			t.Parallel()
			a := newAccount(t)
			p := open(t, a, wrapper.open)
			prepared, err := p.PrepareContext(t.Context(), "SELECT ?")
			if err != nil {
				t.Fatal(err)
			}
			defer prepared.Close()
			tx, err := p.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback()
			mustExec(t, tx, "SELECT 'in the transaction'")

			p.rotate(t, 1)

			const rounds = 5
			p.onEachConnection(t, func(conn *sql.Conn) {
				for range rounds {
					mustExec(t, conn, "SELECT 'after the rotation'")
				}
			})
			a.expectOnKey("SELECT 'after the rotation'", rounds*connections, 1)

			var bound string
			if err := prepared.QueryRowContext(t.Context(), "a value").Scan(&bound); err != nil || bound != "a value" {
				t.Errorf("the prepared statement: %q, %v", bound, err)
			}
			a.expectOnKey("SELECT ?", 1, 1)

			// The transaction has begun on the old key, and ends there.
			mustExec(t, tx, "SELECT 'in the transaction'")
			if err := tx.Commit(); err != nil {
				t.Error(err)
			}
			a.expectOnKey("SELECT 'in the transaction'", 2, 0)
			a.expectOnKey("COMMIT", 1, 0)
		})
	}
}

// ends are the ways in which Snowflake ends a session.
var ends = []localsnowflake.Code{
	localsnowflake.SessionGone,
	localsnowflake.SessionExpired, // the driver renews it
	localsnowflake.MasterTokenExpired,
}

func TestPool_ReplacesEndedSessions(t *testing.T) {
	for _, wrapper := range wrappers {
		t.Run(wrapper.name, func(t *testing.T) {
			t.Parallel()
			for _, end := range ends {
				t.Run(end.String(), func(t *testing.T) {
					a := newAccount(t)
					p := open(t, a, wrapper.open)

					a.snowflake.EndSessions(end)
					mustExec(t, p, "SELECT 'after the end'")
					a.expectOnKey("SELECT 'after the end'", 1, 0)

					a.snowflake.EndSessions(end)
					p.onEachConnection(t, func(conn *sql.Conn) { mustExec(t, conn, "SELECT 'on each connection'") })
					a.expectOnKey("SELECT 'on each connection'", connections, 0)
				})
			}
		})
	}
}
