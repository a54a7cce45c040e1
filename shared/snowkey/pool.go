package snowkey

import (
	"sync"
	"sync/atomic"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// logOutsAtOnce bounds how many connections log out at the same time.
const logOutsAtOnce = 8

// A pool knows the serving key, the connections that database/sql has, and those that are set aside
// for it.
type pool struct {
	key      atomic.Pointer[keyfile.Key]
	work     sync.WaitGroup // all goroutines of the connector
	logOuts  chan struct{}
	mu       sync.Mutex
	open     map[*conn]struct{}
	setAside []*conn // of the serving key
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
	return c.key == key || c.key.Fingerprint() == key.Fingerprint()
}

// add notes a connection that database/sql is about to have.
func (p *pool) add(c *conn) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[c] = struct{}{}
	return c
}

// take gives a connection that was set aside, nil if there is none.
func (p *pool) take() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.setAside) - 1
	if last < 0 {
		return nil
	}
	c := p.setAside[last]
	p.setAside = p.setAside[:last]
	p.open[c] = struct{}{}
	return c
}

// sizes are how many connections are open and how many are set aside.
func (p *pool) sizes() (open, setAside int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open), len(p.setAside)
}

// serve makes key the serving key and sets connections of it aside. Idle connections of any other key
// are retired; those in use are as they are put back.
func (p *pool) serve(key *keyfile.Key, setAside []*conn) {
	p.mu.Lock()
	var surplus, old []*conn
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

// discard logs out connections that database/sql never had.
func (p *pool) discard(conns []*conn) {
	for _, c := range conns {
		_ = c.Close() // which never fails
	}
}

// logOut ends the session of a retired connection in the background; when the pool is closed, at once.
func (p *pool) logOut(c *conn) {
	p.mu.Lock()
	delete(p.open, c)
	closed := p.closed
	if !closed {
		p.work.Go(func() {
			p.logOuts <- struct{}{}
			defer func() { <-p.logOuts }()
			_ = c.snowflakeConn.Close() // the driver has logged it, and there is nothing else to do
		})
	}
	p.mu.Unlock()
	if closed {
		_ = c.snowflakeConn.Close()
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
