package snowkey

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
)

const (
	// logOutsAtOnce bounds how many connections log out at the same time.
	logOutsAtOnce = 8

	// closePatience bounds how long Close waits for logins and log-outs. Half of it is for logins under
	// way: one that is cut off may leave a session.
	closePatience = 10 * time.Second
)

var (
	errClosed       = errors.New("the pool is closed")
	errNotLoggedOut = errors.New("snowkey: Snowflake did not answer all log-outs; the sessions that are left end when they have idled for some hours")
)

// A pool knows the serving key, the connections that database/sql has, and the sessions that are set
// aside for it.
type pool struct {
	key     atomic.Pointer[keyfile.Key]
	keep    time.Duration  // how long sessions are kept aside
	linger  time.Duration  // how long a session with an asynchronous statement is kept
	work    sync.WaitGroup // all goroutines of the connector
	logOuts chan struct{}

	mu        sync.Mutex
	open      map[*conn]struct{}
	setAside  []*session // of the serving key
	surplus   *time.Timer
	keepUntil time.Time // for what is set aside
	lingering map[*session]*time.Timer
	closed    bool
}

func newPool(o options) *pool {
	return &pool{
		keep: o.keep, linger: o.maxIdle, logOuts: make(chan struct{}, logOutsAtOnce),
		open: map[*conn]struct{}{}, lingering: map[*session]*time.Timer{},
	}
}

// run starts a goroutine that close waits for. It reports whether it did: a closed pool starts none.
func (p *pool) run(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.work.Go(f)
	return true
}

// serving is the key for new logins.
func (p *pool) serving() *keyfile.Key { return p.key.Load() }

// serves reports whether the connection is of the serving key.
func (p *pool) serves(c *conn) bool { return same(c.session.Load().key, p.key.Load()) }

func same(a, b *keyfile.Key) bool { return a == b || a.Fingerprint() == b.Fingerprint() }

// add notes a connection that database/sql is about to have.
func (p *pool) add(c *conn) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[c] = struct{}{}
	return c
}

// remove forgets a connection.
func (p *pool) remove(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
}

// take gives a session that was set aside, nil if there is none.
func (p *pool) take() *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.setAside) - 1
	if last < 0 {
		return nil
	}
	s := p.setAside[last]
	p.setAside = p.setAside[:last]
	return s
}

// sizes are how many connections are open and how many sessions are set aside.
func (p *pool) sizes() (open, setAside int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open), len(p.setAside)
}

// serve makes key the serving key and sets sessions of it aside. Idle connections of any other key
// retire; those in use do so as they are put back.
func (p *pool) serve(key *keyfile.Key, prepared []*session) {
	p.mu.Lock()
	surplus := p.setAside
	p.setAside = nil
	if p.closed {
		surplus, prepared = append(surplus, prepared...), nil
	}
	p.key.Store(key)
	p.putAside(prepared)
	var old []*conn
	for c := range p.open {
		if !p.serves(c) {
			old = append(old, c)
		}
	}
	p.mu.Unlock()
	for _, c := range old {
		c.retire()
	}
	p.discard(surplus)
}

// putAside is called with the lock held. What nobody has taken after a while is logged out.
func (p *pool) putAside(sessions []*session) {
	if len(sessions) == 0 {
		return
	}
	p.setAside = append(p.setAside, sessions...)
	p.keepUntil = time.Now().Add(p.keep)
	if p.surplus == nil {
		p.surplus = time.AfterFunc(p.keep, p.drop)
	}
	p.surplus.Reset(p.keep)
}

// welcome takes a session whose login nobody waits for any more: set aside if it can be of use.
func (p *pool) welcome(s *session) {
	p.mu.Lock()
	useful := !p.closed && p.serving() != nil && same(s.key, p.serving()) && len(p.setAside) < mostSetAside
	if useful {
		p.putAside([]*session{s})
	}
	p.mu.Unlock()
	if !useful {
		p.discard([]*session{s})
	}
}

// drop logs out what was set aside and is not wanted any more. A timer calls it that may be late: when
// there are newer sessions, or when the pool is closed.
func (p *pool) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || time.Now().Before(p.keepUntil) {
		return
	}
	for _, s := range p.setAside {
		p.work.Go(func() { p.logOut(s) })
	}
	p.setAside = nil
}

// discard logs sessions out: in the background, or, when the pool is closed, before it returns.
func (p *pool) discard(sessions []*session) {
	var late sync.WaitGroup
	for _, s := range sessions {
		if !p.lingers(s) && !p.run(func() { p.logOut(s) }) {
			late.Go(func() { p.logOut(s) })
		}
	}
	late.Wait()
}

func (p *pool) logOut(s *session) {
	p.logOuts <- struct{}{}
	defer func() { <-p.logOuts }()
	_ = s.Close() // the driver has logged it, and there is nothing else to do
}

// lingers keeps a session on which an asynchronous statement may still be running, for its result would
// be lost with it.
func (p *pool) lingers(s *session) bool {
	if !s.async.Load() {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.lingering[s] = time.AfterFunc(p.linger, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.closed {
			delete(p.lingering, s)
			p.work.Go(func() { p.logOut(s) })
		}
	})
	return true
}

// close logs out what database/sql does not have and waits for every goroutine of the connector. cut is
// called for the logins that take too long.
func (p *pool) close(cut func()) error {
	p.mu.Lock()
	p.closed = true
	left := p.setAside
	p.setAside = nil
	for s, timer := range p.lingering {
		timer.Stop()
		left = append(left, s)
	}
	clear(p.lingering)
	if p.surplus != nil {
		p.surplus.Stop()
	}
	for _, s := range left {
		p.work.Go(func() { p.logOut(s) })
	}
	p.mu.Unlock()

	done := make(chan struct{})
	go func() { p.work.Wait(); close(done) }()
	patience := time.NewTimer(closePatience)
	defer patience.Stop()
	defer time.AfterFunc(closePatience/2, cut).Stop()
	defer cut()
	select {
	case <-done:
		return nil
	case <-patience.C:
		return errNotLoggedOut
	}
}
