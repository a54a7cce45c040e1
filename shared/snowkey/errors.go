package snowkey

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/snowflakedb/gosnowflake/v2"
)

// refused reports whether Snowflake refused the key, and not something else about the login: 390144 says so
// without a reason, 394300 to 394307 with one.
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

// sessionEnded reports whether Snowflake answered a statement with the end of its session. If a context ended
// before the answer, an error of Snowflake is its answer to the driver's attempt to cancel the statement.
func sessionEnded(err error) bool {
	e, ok := errors.AsType[*gosnowflake.SnowflakeError](err)
	if !ok || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return false
	}
	switch e.Number {
	case 390104, // session token invalid
		390111,                 // session gone
		390112,                 // session token expired, and not renewed
		390113, 390114, 390115, // master token not found, expired, invalid
		390195: // session token of another kind
		return true
	}
	return false
}

// sessionMayHaveEnded reports whether the driver could not learn the status of a query and does not say why.
// An ended session is one possible reason.
func sessionMayHaveEnded(err error) bool {
	e, ok := errors.AsType[*gosnowflake.SnowflakeError](err)
	return ok && e.Number == gosnowflake.ErrQueryStatus && e.QueryID == ""
}

// A notExecutedError is the refusal of a statement that has not run, because its session has ended. It
// unwraps to the driver's error. It is also a [driver.ErrBadConn], so that database/sql drops the connection
// and may use another one.
type notExecutedError struct{ error }

func (e notExecutedError) Unwrap() error        { return e.error }
func (e notExecutedError) Is(target error) bool { return target == driver.ErrBadConn }

// A finalError is not a [driver.ErrBadConn], unlike the error that it holds.
type finalError struct{ err error }

func (e finalError) Error() string { return e.err.Error() }

// As gives access to the driver's error.
func (e finalError) As(target any) bool { return errors.As(e.err, target) }

// errBroken is the error of a connection after breakConn.
var errBroken = fmt.Errorf("snowkey: this connection is broken, as a transaction may still be open on it: take another one from the pool (%w)", driver.ErrBadConn)
