package snowkey

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// loginTimeout bounds a login, whether or not a caller still waits for it. The driver's own limit is five minutes.
const loginTimeout = time.Minute

// acquireSession takes a spare session, or logs in.
func (c *Connector) acquireSession(ctx context.Context) (*session, error) {
	if s := c.pool.takeSpare(); s != nil {
		return s, nil
	}
	return c.login(ctx)
}

// A loginQueue runs at most one login for each waiting caller, so never more logins than database/sql may open connections.
// If a caller stops waiting, its login goes on, since Snowflake may have opened the session already. The next caller then
// waits for that login.
type loginQueue struct {
	mu       sync.Mutex
	waiting  []*loginCaller
	inFlight int
}

type loginCaller struct {
	since  time.Time
	result chan loginResult // of capacity 1
}

type loginResult struct {
	session *session
	err     error
}

// add adds a caller and reports whether a login has to be started for it.
func (q *loginQueue) add() (caller *loginCaller, start bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	caller = &loginCaller{since: time.Now(), result: make(chan loginResult, 1)}
	q.waiting = append(q.waiting, caller)
	return caller, q.startOne()
}

// startOne is called with mu held. It reports whether one more login is needed, and counts it.
func (q *loginQueue) startOne() bool {
	if q.inFlight >= len(q.waiting) {
		return false
	}
	q.inFlight++
	return true
}

// remove removes a caller that stops waiting. It reports false if the caller has been given a result.
func (q *loginQueue) remove(caller *loginCaller) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, w := range q.waiting {
		if w == caller {
			q.waiting = append(q.waiting[:i], q.waiting[i+1:]...)
			return true
		}
	}
	return false
}

// finish gives the result of a login that began at the given time to a caller. A failure goes only to a caller that was
// there when the login began: for a later one, Snowflake may work again. It reports whether a caller took the result, and
// whether another login has to be started.
func (q *loginQueue) finish(began time.Time, r loginResult) (taken, start bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.inFlight--
	if len(q.waiting) > 0 && (r.err == nil || !q.waiting[0].since.After(began)) {
		q.waiting[0].result <- r
		q.waiting = q.waiting[1:]
		taken = true
	}
	return taken, q.startOne()
}

// login returns a session of the serving key, or of a newer key if Snowflake refuses that one.
func (c *Connector) login(ctx context.Context) (*session, error) {
	caller, start := c.queue.add()
	if start {
		c.startLogin()
	}
	select {
	case r := <-caller.result:
		return r.session, r.err
	case <-ctx.Done():
	}
	if !c.queue.remove(caller) {
		if r := <-caller.result; r.err == nil {
			c.pool.addSpare(r.session)
		}
	}
	return nil, c.network.explain(ctx.Err())
}

// startLogin runs a login for the queue.
func (c *Connector) startLogin() {
	began := time.Now()
	started := c.pool.run(func() {
		ctx, cancel := context.WithTimeout(c.loginsCtx, loginTimeout)
		defer cancel()
		s, err := c.loginServing(ctx)
		c.finishLogin(began, loginResult{s, err})
	})
	if !started {
		c.finishLogin(began, loginResult{err: ErrClosed})
	}
}

func (c *Connector) finishLogin(began time.Time, r loginResult) {
	taken, start := c.queue.finish(began, r)
	if !taken && r.session != nil {
		c.pool.addSpare(r.session)
	}
	if start {
		c.startLogin()
	}
}

// loginServing logs in with the serving key, or with the newest key if Snowflake refuses the serving one.
func (c *Connector) loginServing(ctx context.Context) (*session, error) {
	serving := c.pool.serving()
	s, err := c.open(ctx, serving, false)
	if !refused(err) {
		if err == nil {
			c.servingAccepted(serving)
		}
		return s, err
	}
	c.reportServingRefused(serving, err)
	if current := c.pool.serving(); !same(current, serving) {
		return c.open(ctx, current, false)
	}
	if s := c.loginNewest(ctx, serving); s != nil {
		return s, nil
	}
	return nil, err // about the serving key: that is what went wrong first
}

// loginNewest logs in with the newest key in the file, because Snowflake refuses the serving one, and asks
// the sidecar for a newer one. It returns nil if there is no newer key that Snowflake accepts. The session
// serves one caller; follow makes the key the serving one, since sessions of the old key may still work.
func (c *Connector) loginNewest(ctx context.Context, revoked *keyfile.Key) *session {
	defer c.refreshKey()
	newest := c.newest(ctx)
	if same(newest, revoked) || c.refusedLately(newest) {
		return nil
	}
	s, err := c.open(ctx, newest, true)
	if refused(err) {
		c.refusal.Store(&refusal{newest, time.Now()})
	}
	if err != nil {
		return nil
	}
	s.newerThan = revoked
	c.accepted.Store(newest)
	select {
	case c.acceptance <- struct{}{}: // follow need not wait any longer
	default:
	}
	return s
}

// A refusal keeps many callers from trying the same key again and again.
type refusal struct {
	key *keyfile.Key
	at  time.Time
}

func (c *Connector) refusedLately(key *keyfile.Key) bool {
	last := c.refusal.Load()
	return last != nil && same(last.key, key) && time.Since(last.at) < firstBackoff
}

// refreshKey asks the sidecar for a newer key, and reads the file.
func (c *Connector) refreshKey() {
	c.trigger.refresh()
	c.watch.Poll()
}

// newest returns the key that is at the path now, or the Watcher's key if no valid one is there.
func (c *Connector) newest(ctx context.Context) *keyfile.Key {
	if key, err := keyfile.ReadContext(ctx, c.path); err == nil {
		return key
	}
	return c.watch.Key()
}

// loginCandidate logs in with a key that does not serve yet. When ctx ends, the login goes on without its caller, and still
// occupies its slot.
func (c *Connector) loginCandidate(ctx context.Context, key *keyfile.Key, timeout time.Duration) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	select {
	case c.candidateSlots <- struct{}{}:
	case <-ctx.Done():
		return nil, c.network.explain(ctx.Err())
	}
	done := make(chan loginResult)
	started := c.pool.run(func() {
		defer func() { <-c.candidateSlots }()
		own, cancel := context.WithTimeout(c.loginsCtx, loginTimeout)
		defer cancel()
		s, err := c.open(own, key, true)
		select {
		case done <- loginResult{s, err}:
		case <-ctx.Done():
			if err == nil {
				c.pool.addSpare(s)
			}
		}
	})
	if !started {
		<-c.candidateSlots
		return nil, ErrClosed
	}
	select {
	case r := <-done:
		return r.session, r.err
	case <-ctx.Done():
		return nil, c.network.explain(ctx.Err())
	}
}

// open logs in with the driver, and prepares the session for use. WithQuietDriver does not log a refusal that is expected.
func (c *Connector) open(ctx context.Context, key *keyfile.Key, refusalExpected bool) (*session, error) {
	s, err := c.openDriver(ctx, key, refusalExpected)
	if err == nil {
		err = c.initSession(ctx, s)
	}
	if err != nil {
		c.stats.loginFailed(refused(err))
		return nil, err
	}
	c.stats.loggedIn()
	return s, nil
}

func (c *Connector) openDriver(ctx context.Context, key *keyfile.Key, refusalExpected bool) (*session, error) {
	s := &session{key: key, tokens: new(tokens), muted: new(atomic.Bool)}
	s.muted.Store(refusalExpected)
	defer s.muted.Store(false)
	if c.options.quietDriver {
		ctx = quietContext(ctx, s.muted)
	}
	ctx, traced := c.network.watch(ctx)
	cfg := c.cfg
	cfg.Params = maps.Clone(c.cfg.Params) // the driver writes into what it is given
	cfg.Authenticator = gosnowflake.AuthTypeJwt
	cfg.PrivateKey = key.RSA()
	cfg.TokenAccessor = s.tokens
	opened, err := gosnowflake.NewConnector(gosnowflake.SnowflakeDriver{}, cfg).Connect(ctx)
	if refused(err) {
		return nil, kindError{err, ErrKeyRefused}
	}
	if err != nil {
		return nil, c.network.explain(err)
	}
	inner, ok := opened.(snowflakeConn)
	if !ok {
		_ = opened.Close()
		return nil, fmt.Errorf("snowkey: gosnowflake's %T lacks a method that this package passes on: update snowkey", opened)
	}
	s.snowflakeConn, s.traced = inner, traced.Load()
	return s, nil
}

// An initError is an error of the function given to WithSessionInit.
type initError struct{ err error }

func (e *initError) Error() string {
	return fmt.Sprintf("snowkey: the function given to WithSessionInit failed: %v", e.err)
}

func (e *initError) Unwrap() error { return e.err }

func (c *Connector) initSession(ctx context.Context, s *session) error {
	if c.options.sessionInit == nil {
		return nil
	}
	if err := c.options.sessionInit(ctx, s.snowflakeConn); err != nil {
		c.pool.discard(s)
		return &initError{err}
	}
	return nil
}

// A network records how far the latest login got on its way to Snowflake. The driver retries without an error, so all that
// a caller would see is that its context has ended.
type network struct {
	mu    sync.Mutex
	state networkState
}

type networkState struct {
	host      string
	connected bool
	err       error // of the last attempt to connect
}

// watch returns a context whose requests report to n. traced becomes true if the transport reports to net/http/httptrace.
func (n *network) watch(ctx context.Context) (_ context.Context, traced *atomic.Bool) {
	traced = new(atomic.Bool)
	failed := func(err error) {
		if err != nil {
			n.update(func(s *networkState) { s.err = err })
		}
	}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(hostPort string) {
			traced.Store(true)
			n.update(func(s *networkState) { s.host, s.connected = hostPort, false })
		},
		DNSDone:          func(info httptrace.DNSDoneInfo) { failed(info.Err) },
		ConnectDone:      func(_, _ string, err error) { failed(err) },
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) { failed(err) },
		GotConn: func(httptrace.GotConnInfo) {
			n.update(func(s *networkState) { s.connected, s.err = true, nil })
		},
	}), traced
}

func (n *network) update(change func(*networkState)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(&n.state)
}

// explain adds the host and the cause to an error of a login, unless it is Snowflake's answer.
func (n *network) explain(err error) error {
	if _, answered := errors.AsType[*gosnowflake.SnowflakeError](err); answered {
		return err
	}
	n.mu.Lock()
	state := n.state
	n.mu.Unlock()
	switch {
	case state.host == "":
		return fmt.Errorf("snowkey: login: %w", err)
	case state.connected:
		return fmt.Errorf("snowkey: no answer to a login from Snowflake at %s: %w; see status.snowflake.com, or allow more time", state.host, err)
	case state.err == nil:
		return fmt.Errorf("snowkey: no connection to Snowflake at %s: %w; %s", state.host, err, checkNetwork)
	default:
		return fmt.Errorf("snowkey: no connection to Snowflake at %s (%w): %w; %s", state.host, state.err, err, checkNetwork)
	}
}

const checkNetwork = "check the account, DNS, the proxy and the security group"
