package snowkey

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/snowflakedb/gosnowflake/v2"
)

// The errors of the package, for use with [errors.Is]. If Snowflake or the driver gave the error, use [errors.As] with
// *gosnowflake.SnowflakeError for its number and text.
var (
	// ErrInvalidConfig: the Config or the data source name can never work. It is an error of Open, NewConnector and sql.Open.
	ErrInvalidConfig = errors.New("snowkey: invalid configuration")

	// ErrKeyRefused: Snowflake refused a login because of the key, mostly because its public key is not assigned to the user.
	// It is an error of Open, and of a query that needs a new login.
	ErrKeyRefused = errors.New("snowkey: Snowflake refuses the key")

	// ErrServingKeyRefused is an error of Connector.Health: new connections fail. It is also an ErrKeyRefused.
	ErrServingKeyRefused = errors.New("snowkey: Snowflake refuses the serving key, and new connections fail: assign its public key to the user, or put a key into the file that is assigned")

	// ErrCandidateRefused is an error of Connector.Health: the pool works with the serving key, and Snowflake does not
	// accept the new one. Do not remove the public key of the serving one before it does. It is also an ErrKeyRefused.
	ErrCandidateRefused = errors.New("snowkey: Snowflake does not accept the new key, and the serving key is kept: assign the public key of the new one to the user")

	// ErrSessionEnded: Snowflake has ended the session of a statement, and the pool could not run the statement on a new one.
	// Outside a transaction the statement may have run. In a transaction nothing is committed, and the transaction may be run
	// again, unless the statement was COMMIT.
	ErrSessionEnded = errors.New("snowkey: Snowflake has ended the session")

	// ErrClosed: the Connector is closed.
	ErrClosed = errors.New("snowkey: the pool is closed")

	// ErrCloseTimeout: Close gave up after ten seconds. The pool is closed all the same.
	ErrCloseTimeout = errors.New("snowkey: after ten seconds Close no longer waits for a log-out, or for a function given to WithEvents or WithSessionInit; remaining sessions end after some idle hours")
)

// A kindError is an error that [errors.Is] reports as its kind, too. It has the text of the error alone.
type kindError struct {
	error
	kind error
}

func (e kindError) Unwrap() error        { return e.error }
func (e kindError) Is(target error) bool { return target == e.kind }

// refused reports whether Snowflake refused a login because of its key: 390144 says so without a reason, 394300 to 394307
// with one.
func refused(err error) bool {
	e, ok := errors.AsType[*gosnowflake.SnowflakeError](err)
	return ok && (e.Number == 390144 || e.Number >= 394300 && e.Number <= 394307)
}

// misconfigured reports whether the driver refuses the configuration itself. The codes between these, 260005 to 260008, are
// about the network.
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

// A notExecutedError says that a statement has not run, because its session has ended. It wraps the driver's error. It is
// also a [driver.ErrBadConn], so that database/sql drops the connection and may use another one.
type notExecutedError struct{ error }

func (e notExecutedError) Unwrap() error        { return e.error }
func (e notExecutedError) Is(target error) bool { return target == driver.ErrBadConn }

// A finalError is like the error that it holds, but not a [driver.ErrBadConn], after which database/sql would send the
// statement again.
type finalError struct{ err error }

func (e finalError) Error() string      { return e.err.Error() }
func (e finalError) As(target any) bool { return errors.As(e.err, target) }
func (e finalError) Is(target error) bool {
	return target != driver.ErrBadConn && errors.Is(e.err, target)
}

// errBroken is the error of a connection after breakConn.
var errBroken = fmt.Errorf("snowkey: this connection is broken, as a transaction may still be open on it: take another one from the pool (%w)", driver.ErrBadConn)
