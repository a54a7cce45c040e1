package snowkey

import (
	"context"
	"database/sql/driver"

	"github.com/snowflakedb/gosnowflake/v2"
)

// BeginTx implements [driver.ConnBeginTx]. If it fails and the transaction may have begun, the connection is
// broken: see breakConn.
func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	ctx = withoutAsync(ctx)
	begun, err := send(ctx, c, true, func(ctx context.Context, s *session) (driver.Tx, error) {
		if callersChannel(ctx) != nil {
			// The driver keeps the context for COMMIT, where it would send on a channel that it has closed.
			ctx = gosnowflake.WithQueryIDChan(ctx, nil)
		}
		return s.BeginTx(ctx, opts)
	})
	if err != nil {
		if c.sent {
			c.breakConn()
		}
		return nil, err
	}
	c.inTx = true
	return &tx{begun, c}, nil
}

// Begin implements [driver.Conn]; database/sql calls BeginTx.
func (c *conn) Begin() (driver.Tx, error) { return c.BeginTx(context.Background(), driver.TxOptions{}) }

// A tx breaks its connection if COMMIT or ROLLBACK fails: the transaction may still be open.
type tx struct {
	driver.Tx
	conn *conn
}

// Commit implements [driver.Tx]. A commit that fails may have taken place, so it is never sent again.
func (t *tx) Commit() error { return t.end(t.Tx.Commit()) }

// Rollback implements [driver.Tx].
func (t *tx) Rollback() error { return t.end(t.Tx.Rollback()) }

// end handles the error of both. database/sql also rolls back after the context has ended, for which the driver sends
// nothing.
func (t *tx) end(err error) error {
	t.conn.inTx = false
	if err == nil {
		return nil
	}
	err = t.conn.noteError(err)
	t.conn.breakConn()
	return err
}
