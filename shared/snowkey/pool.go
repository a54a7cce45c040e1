package snowkey

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
)

const (
	// logOutsAtOnce bounds the log-outs that run at the same time in the background.
	logOutsAtOnce = 8

	// closeTimeout bounds how long Close waits for logins and log-outs. After half of it Close cancels the logins that
	// still run: a login that is cancelled may leave a session.
	closeTimeout = 10 * time.Second
)

// A pool knows the serving key, the connections that database/sql has, and the spare sessions.
type pool struct {
	key      atomic.Pointer[keyfile.Key]
	spareTTL time.Duration  // after that, unused spare sessions log out
	work     sync.WaitGroup // goroutines that close waits for
	logOuts  chan struct{}  // a slot for each log-out that runs in the background

	mu          sync.Mutex
	conns       map[*conn]struct{}
	mostConns   int        // the most connections at a time so far
	spares      []*session // of the serving key
	spareTimer  *time.Timer
	sparesUntil time.Time
	loggingOut  int                   // sessions that log out, or wait for it, in the background
	kept        map[*session]struct{} // for asynchronous statements
	closed      bool
}

func newPool(spareTTL time.Duration) *pool {
	return &pool{
		spareTTL: spareTTL, logOuts: make(chan struct{}, logOutsAtOnce),
		conns: map[*conn]struct{}{}, kept: map[*session]struct{}{},
	}
}

// run runs f in a goroutine that close waits for. It reports whether it did so: a closed pool starts none.
func (p *pool) run(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.work.Go(f)
	return true
}

// serving returns the key for new logins.
func (p *pool) serving() *keyfile.Key { return p.key.Load() }

func same(a, b *keyfile.Key) bool { return a == b || a.Fingerprint() == b.Fingerprint() }

// add records a connection that database/sql is about to have.
func (p *pool) add(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = struct{}{}
	p.mostConns = max(p.mostConns, len(p.conns))
}

func (p *pool) remove(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// takeSpare returns a spare session, nil if there is none.
func (p *pool) takeSpare() *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.spares) - 1
	if last < 0 {
		return nil
	}
	s := p.spares[last]
	p.spares = p.spares[:last]
	return s
}

// sessions counts the connections that have a session.
func (p *pool) sessions() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if s := c.currentState(); s == connIdle || s == connInUse {
			n++
		}
	}
	return n
}

// count fills in the pool's part of Stats.
func (p *pool) count(s *Stats) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.OpenConnections, s.SpareSessions, s.LoggingOutSessions, s.AsyncSessions = len(p.conns), len(p.spares), p.loggingOut, len(p.kept)
}

// hasIdleSession reports whether a connection other than c is idle and has a session.
func (p *pool) hasIdleSession(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for other := range p.conns {
		if other != c && other.currentState() == connIdle {
			return true
		}
	}
	return false
}

// serve makes key the serving key, with spare sessions of it. Idle connections of any other key lose their sessions now,
// those in use when they are put back.
func (p *pool) serve(key *keyfile.Key, spares []*session) {
	p.mu.Lock()
	excess := p.spares
	p.spares = nil
	if p.closed {
		excess, spares = append(excess, spares...), nil
	}
	p.key.Store(key)
	p.addSpares(spares)
	conns := make([]*conn, 0, len(p.conns))
	for c := range p.conns {
		conns = append(conns, c)
	}
	p.mu.Unlock()
	for _, c := range conns {
		c.closeIfIdle()
	}
	p.discard(excess...)
}

// addSpares is called with mu held. Spare sessions that no connection has taken after spareTTL log out.
func (p *pool) addSpares(sessions []*session) {
	if len(sessions) == 0 {
		return
	}
	p.spares = append(p.spares, sessions...)
	p.sparesUntil = time.Now().Add(p.spareTTL)
	if p.spareTimer == nil {
		p.spareTimer = time.AfterFunc(p.spareTTL, p.expireSpares)
	}
	p.spareTimer.Reset(p.spareTTL)
}

// addSpare adds the session of a login whose caller no longer waits.
func (p *pool) addSpare(s *session) {
	p.mu.Lock()
	useful := !p.closed && p.serving() != nil && s.fits(p.serving()) && len(p.spares) < maxSpares
	if useful {
		p.addSpares([]*session{s})
	}
	p.mu.Unlock()
	if !useful {
		p.discard(s)
	}
}

// expireSpares logs out the spare sessions that no connection has taken. The timer that calls it may be late: there may be
// newer sessions, or the pool may be closed.
func (p *pool) expireSpares() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || time.Now().Before(p.sparesUntil) {
		return
	}
	dropped := p.spares
	p.spares = nil
	p.work.Go(func() { p.discard(dropped...) })
}

// discard logs sessions out in the background. If mostConns log-outs are pending (at least logOutsAtOnce), it logs out
// before it returns, which slows down a caller that makes too many sessions. A session with an asynchronous statement logs
// out when the statement has ended. A nil session is ignored.
func (p *pool) discard(sessions ...*session) {
	for _, s := range sessions {
		if s != nil && !p.keepForAsync(s) && !p.logOutInBackground(s) {
			logOut(s)
		}
	}
}

func (p *pool) logOutInBackground(s *session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.loggingOut >= max(logOutsAtOnce, p.mostConns) {
		return false
	}
	p.startLogOut(s)
	return true
}

// startLogOut is called with mu held.
func (p *pool) startLogOut(s *session) {
	p.loggingOut++
	p.work.Go(func() {
		p.logOuts <- struct{}{}
		logOut(s)
		<-p.logOuts
		p.mu.Lock()
		defer p.mu.Unlock()
		p.loggingOut--
	})
}

// logOut ends a session. The driver logs an error, and nothing else can be done about it.
func logOut(s *session) { _ = s.Close() }

// asyncStarted records an asynchronous statement on a session.
func (p *pool) asyncStarted(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.asyncRunning++
}

// asyncEnded logs the session out if it was only kept for the statement.
func (p *pool) asyncEnded(s *session) {
	p.mu.Lock()
	s.asyncRunning--
	_, kept := p.kept[s]
	done := kept && s.asyncRunning == 0
	if done {
		delete(p.kept, s)
	}
	p.mu.Unlock()
	if done {
		p.discard(s)
	}
}

// keepForAsync keeps a session on which an asynchronous statement runs, since its result would be lost. It reports whether
// it did so.
func (p *pool) keepForAsync(s *session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.asyncRunning == 0 || p.closed {
		return false
	}
	p.kept[s] = struct{}{}
	return true
}

// close logs out the sessions that database/sql does not have, and waits for every goroutine of the connector. It calls
// cancelLogins to end the logins that take too long.
func (p *pool) close(cancelLogins func()) error {
	p.mu.Lock()
	p.closed = true
	left := p.spares
	p.spares = nil
	for s := range p.kept {
		left = append(left, s)
	}
	clear(p.kept)
	if p.spareTimer != nil {
		p.spareTimer.Stop()
	}
	for _, s := range left {
		p.startLogOut(s)
	}
	p.mu.Unlock()

	done := make(chan struct{})
	go func() { p.work.Wait(); close(done) }()
	timeout := time.NewTimer(closeTimeout)
	defer timeout.Stop()
	defer time.AfterFunc(closeTimeout/2, cancelLogins).Stop()
	defer cancelLogins()
	select {
	case <-done:
		return nil
	case <-timeout.C:
		return ErrCloseTimeout
	}
}
