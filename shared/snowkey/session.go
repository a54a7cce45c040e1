package snowkey

import (
	"database/sql/driver"
	"errors"
	"reflect"
	"runtime"
	"strings"
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

// mayHaveEnded reports whether the driver could not learn what became of a query, without a word why: that
// the session is over is one reason. The connection gets another one then, which costs a login.
func mayHaveEnded(err error) bool {
	e, ok := errors.AsType[*gosnowflake.SnowflakeError](err)
	return ok && e.Number == gosnowflake.ErrQueryStatus && e.QueryID == ""
}

// notRun is an ended session's refusal of a statement that has not run. It is the driver's error in
// every respect, and database/sql may try another connection.
type notRun struct{ error }

func (e notRun) Unwrap() error        { return e.error }
func (e notRun) Is(target error) bool { return target == driver.ErrBadConn }

// tokens holds the tokens of one session for the driver, and counts how the driver uses them: that
// shows how far a statement got, which an error does not.
type tokens struct {
	mu      sync.Mutex
	session string
	master  string
	id      int64
	set     time.Time
	counts  tokenCounts

	renewing sync.Mutex
}

type tokenCounts struct {
	uses     int // of GetTokens
	renewals int // begun
	renewed  int // of these, so far as they brought new tokens

	elsewhere int // renewals that were not for the statement being sent
}

// GetTokens implements gosnowflake.TokenAccessor. The driver calls it as a statement begins, as often as
// its kind says, once for each request about it (sending it, asking for its progress, asking for its results), and twice
// for a renewal.
func (t *tokens) GetTokens() (session, master string, id int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.uses++
	return t.session, t.master, t.id
}

// SetTokens implements gosnowflake.TokenAccessor.
func (t *tokens) SetTokens(session, master string, id int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.session, t.master, t.id = session, master, id
	t.set = time.Now()
	t.counts.renewed++
}

// Lock implements gosnowflake.TokenAccessor. The driver holds it while it renews the tokens.
func (t *tokens) Lock() error {
	t.renewing.Lock()
	own := withinSend()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.renewals++
	if !own {
		t.counts.elsewhere++
	}
	return nil
}

// withinSend reports whether a statement is being sent by this goroutine. A heartbeat or an asynchronous
// statement renews tokens in a goroutine of its own, while the counts of another statement are taken.
// A renewal is rare, so that looking at the stack costs nothing that matters.
func withinSend() bool {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		frame, more := frames.Next()
		if strings.HasPrefix(frame.Function, sendName) {
			return true
		}
		if !more {
			return false
		}
	}
}

// sendName is how the instances of send begin in a stack.
var sendName = reflect.TypeFor[tokens]().PkgPath() + ".send["

// Unlock implements gosnowflake.TokenAccessor.
func (t *tokens) Unlock() { t.renewing.Unlock() }

// age is how long ago Snowflake gave the tokens.
func (t *tokens) age() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Since(t.set)
}

// A reading is the counts at the beginning of a statement.
type reading struct {
	tokenCounts
	at time.Time
}

func (t *tokens) read() reading {
	t.mu.Lock()
	defer t.mu.Unlock()
	return reading{t.counts, time.Now()}
}

const (
	usesToSend  = 1
	usesToRenew = 2
	// retryAfter is the driver's shortest pause before it sends a request again of its own accord.
	// That is the one thing that the tokens do not show, and the answer to the first may have been
	// lost.
	retryAfter = time.Second
)

// compare looks whether a statement that began at r and succeeded used the tokens as often as it must
// have. If not, the program was built with a driver that counts in another way than is known here, and
// nothing that it was refused is sent again.
func (c *Connector) compare(t *tokens, r reading, of kind) {
	if of == harmless || t.since(r).uses >= int(of)+usesToSend || c.strangeDriver.Swap(true) {
		return
	}
	c.options.log.Warn("this version of gosnowflake uses its tokens in an unknown way: " +
		"statements that are refused because their session has ended are not sent again; update snowkey")
}

func (t *tokens) since(r reading) tokenCounts {
	t.mu.Lock()
	defer t.mu.Unlock()
	return tokenCounts{
		uses:      t.counts.uses - r.uses,
		renewals:  t.counts.renewals - r.renewals,
		renewed:   t.counts.renewed - r.renewed,
		elsewhere: t.counts.elsewhere - r.elsewhere,
	}
}

// neverRan is tokens.neverRan for as long as the driver is one that is known.
func (c *Connector) neverRan(t *tokens, r reading, of kind) bool {
	return !c.strangeDriver.Load() && t.neverRan(r, of)
}

// neverRan reports whether each request that sent the statement that began at r was refused for its
// session, so that nothing has run. In doubt it says no.
//
// Snowflake can refuse a request because its token has expired. The driver then renews the tokens and
// sends the statement again, any number of times, until it is refused for good or a renewal fails.
// Had one request been accepted, at least one more would have asked how the statement is doing before
// the session's end could show, and the uses would not come out even.
func (t *tokens) neverRan(r reading, of kind) bool {
	if time.Since(r.at) >= retryAfter {
		return false
	}
	did := t.since(r)
	if did.elsewhere > 0 {
		return false
	}
	expired := int(of) + did.renewed*(usesToSend+usesToRenew)
	switch did.renewals - did.renewed {
	case 0:
		return did.uses == expired+usesToSend // refused for good
	case 1:
		return did.uses == expired+usesToSend+usesToRenew // refused as expired, and not renewed
	default:
		return false
	}
}
