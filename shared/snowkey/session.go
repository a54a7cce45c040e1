package snowkey

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// A session is one login: the driver's connection, the key that it logged in with, and its tokens.
type session struct {
	snowflakeConn
	key    *keyfile.Key
	tokens *tokens
	muted  *atomic.Bool // the driver's log leaves this session out; see WithQuietDriver

	traced bool // its transport reports to net/http/httptrace

	// If Snowflake refused the serving key, so that the session has a newer one: the key that it refused.
	newerThan *keyfile.Key

	asyncRunning int // asynchronous statements; guarded by pool.mu
}

// fits reports whether the session may be used while key is the serving one.
func (s *session) fits(key *keyfile.Key) bool {
	return same(s.key, key) || s.newerThan != nil && same(s.newerThan, key)
}

// tokens holds the tokens of one session for the driver.
type tokens struct {
	mu      sync.Mutex
	session string
	master  string
	id      int64
	issued  time.Time

	renewing sync.Mutex
}

// GetTokens implements [gosnowflake.TokenAccessor].
func (t *tokens) GetTokens() (session, master string, id int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.session, t.master, t.id
}

// SetTokens implements [gosnowflake.TokenAccessor].
func (t *tokens) SetTokens(session, master string, id int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.session, t.master, t.id = session, master, id
	t.issued = time.Now()
}

// Lock implements [gosnowflake.TokenAccessor]. The driver holds it while it renews the tokens.
func (t *tokens) Lock() error {
	t.renewing.Lock()
	return nil
}

// Unlock implements [gosnowflake.TokenAccessor].
func (t *tokens) Unlock() { t.renewing.Unlock() }

// age is the time since Snowflake issued the tokens.
func (t *tokens) age() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Since(t.issued)
}

// isMaster reports whether an Authorization header carries the master token. A token that is neither the
// master nor the session token was the session token before another goroutine renewed it.
func (t *tokens) isMaster(authorization string) bool {
	token, ok := strings.CutPrefix(authorization, `Snowflake Token="`)
	if !ok {
		return false
	}
	token = strings.TrimSuffix(token, `"`)
	t.mu.Lock()
	defer t.mu.Unlock()
	return token == t.master && token != t.session
}
