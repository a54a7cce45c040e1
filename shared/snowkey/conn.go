package snowkey

import (
	"context"
	"database/sql/driver"

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
}

// A conn is a connection and the key that it logged in with.
type conn struct {
	snowflakeConn
	key     *keyfile.Key
	serving func() *keyfile.Key
}

// IsValid is asked when the connection is put back: one of an older key does not stay.
func (c *conn) IsValid() bool { return c.key.Equal(c.serving()) }

// ResetSession is asked when the connection is taken out: the key may have changed while it was
// idle.
func (c *conn) ResetSession(context.Context) error {
	if !c.IsValid() {
		return driver.ErrBadConn
	}
	return nil
}
