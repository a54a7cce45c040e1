package snowkey

import (
	"sync"
	"sync/atomic"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// logOutsAtOnce bounds how many connections log out at the same time.
const logOutsAtOnce = 8

// A pool knows the serving key, the connections that database/sql has, and the sessions that are set
// aside for it.
type pool struct {
	key      atomic.Pointer[keyfile.Key]
	work     sync.WaitGroup // all goroutines of the connector
	logOuts  chan struct{}
	mu       sync.Mutex
	open     map[*conn]struct{}
	setAside []*session // of the serving key
	closed   bool
}

func newPool() *pool {
	return &pool{open: map[*conn]struct{}{}, logOuts: make(chan struct{}, logOutsAtOnce)}
}

// serving is the key for new logins.
func (p *pool) serving() *keyfile.Key { return p.key.Load() }

// serves reports whether the connection is of the serving key.
func (p *pool) serves(c *conn) bool {
	key := p.key.Load()
	own := c.session.Load().key
	return own == key || own.Fingerprint() == key.Fingerprint()
}

// add notes a connection that database/sql is about to have.
func (p *pool) add(c *conn) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[c] = struct{}{}
	return c
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
// are retired; those in use are as they are put back.
func (p *pool) serve(key *keyfile.Key, setAside []*session) {
	p.mu.Lock()
	var surplus []*session
	var old []*conn
	if current := p.key.Load(); current != nil && current.Fingerprint() == key.Fingerprint() {
		p.setAside = append(p.setAside, setAside...)
	} else {
		surplus, p.setAside = p.setAside, setAside
		p.key.Store(key)
	}
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

// drop logs out what is set aside.
func (p *pool) drop() {
	p.mu.Lock()
	surplus := p.setAside
	p.setAside = nil
	p.mu.Unlock()
	p.discard(surplus)
}

// discard logs out sessions that database/sql never had.
func (p *pool) discard(sessions []*session) {
	for _, s := range sessions {
		p.logOut(s)
	}
}

// remove forgets a retired connection and logs its session out.
func (p *pool) remove(c *conn) {
	p.mu.Lock()
	delete(p.open, c)
	p.mu.Unlock()
	p.logOut(c.session.Load())
}

// logOut ends a session in the background; when the pool is closed, at once.
func (p *pool) logOut(s *session) {
	p.mu.Lock()
	closed := p.closed
	if !closed {
		p.work.Go(func() {
			p.logOuts <- struct{}{}
			defer func() { <-p.logOuts }()
			_ = s.Close() // the driver has logged it, and there is nothing else to do
		})
	}
	p.mu.Unlock()
	if closed {
		_ = s.Close()
	}
}

// close logs out what is set aside and waits for every goroutine of the connector.
func (p *pool) close() {
	p.drop()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.work.Wait()
}
