package snowkey

import (
	"database/sql/driver"
	"errors"
	"sync"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"
)

// ended reports whether Snowflake says that the session is over, in one of its ways.
func ended(err error) bool {
	e, ok := errors.AsType[*gosnowflake.SnowflakeError](err)
	if !ok {
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

// notRun is an ended session's refusal of a statement that has not run. It is the driver's error in
// every respect, and database/sql may try another connection.
type notRun struct{ error }

func (e notRun) Unwrap() error        { return e.error }
func (e notRun) Is(target error) bool { return target == driver.ErrBadConn }

// tokens holds the tokens of one session for the driver, and counts how the driver uses them: that
// shows how far a statement got, which an error does not.
type tokens struct {
	mu             sync.Mutex
	session        string
	master         string
	id             int64
	set            time.Time
	uses, renewals int

	renewing sync.Mutex
}

// GetTokens implements gosnowflake.TokenAccessor. The driver calls it twice as a statement begins and
// once for each request about it: sending it, asking for its progress, asking for its results.
func (t *tokens) GetTokens() (session, master string, id int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.uses++
	return t.session, t.master, t.id
}

// SetTokens implements gosnowflake.TokenAccessor.
func (t *tokens) SetTokens(session, master string, id int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.session, t.master, t.id = session, master, id
	t.set = time.Now()
}

// Lock implements gosnowflake.TokenAccessor. The driver holds it while it renews the tokens.
func (t *tokens) Lock() error {
	t.renewing.Lock()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.renewals++
	return nil
}

// Unlock implements gosnowflake.TokenAccessor.
func (t *tokens) Unlock() { t.renewing.Unlock() }

// age is how long ago Snowflake gave the tokens.
func (t *tokens) age() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Since(t.set)
}

// A reading is the count at the beginning of a statement.
type reading struct {
	uses, renewals int
	at             time.Time
}

func (t *tokens) read() reading {
	t.mu.Lock()
	defer t.mu.Unlock()
	return reading{t.uses, t.renewals, time.Now()}
}

const (
	// usesOfOneRequest is what a statement takes whose first request is its last.
	usesOfOneRequest = 3
	// usesOfARenewal is what a renewal takes.
	usesOfARenewal = 2
	// retryAfter is the driver's shortest pause before it sends a request again. That is the one
	// thing that the tokens do not show, and the answer to the first one may have been lost.
	retryAfter = time.Second
)

// refusedAtOnce reports whether the statement that began at r was sent in one request and that was
// refused: nothing has run. In doubt it says no.
func (t *tokens) refusedAtOnce(r reading) bool {
	if time.Since(r.at) >= retryAfter {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	uses, renewals := t.uses-r.uses, t.renewals-r.renewals
	return renewals == 0 && uses == usesOfOneRequest ||
		renewals == 1 && uses == usesOfOneRequest+usesOfARenewal // refused as expired, and not renewed
}
