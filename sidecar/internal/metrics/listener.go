package metrics

import (
	"net"
	"slices"
	"sync"
	"time"
)

// minHold is how long a connection may stay when others wait for its place. A client has sent its request before its
// connection is accepted, mostly, and is answered within milliseconds. With maxConnections it bounds how many
// connections are accepted in a second while all are taken.
const minHold = 100 * time.Millisecond

// A boundedListener has a few connections open at most. When all are taken, a new one replaces the oldest, so that a
// program that holds its connections keeps no other out: all come from the same address, the task's loopback.
type boundedListener struct {
	net.Listener
	freed  chan struct{} // has one element after a connection was closed
	closed chan struct{}
	close  func()

	mu   sync.Mutex
	open []*boundedConn // the oldest first
}

func bound(l net.Listener) *boundedListener {
	closed := make(chan struct{})
	return &boundedListener{
		Listener: l, freed: make(chan struct{}, 1),
		closed: closed, close: sync.OnceFunc(func() { close(closed) }),
	}
}

type boundedConn struct {
	net.Conn
	listener *boundedListener
	since    time.Time
}

func (l *boundedListener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if err := l.makeRoom(); err != nil {
		_ = accepted.Close()
		return nil, err
	}
	conn := &boundedConn{accepted, l, time.Now()}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = append(l.open, conn)
	return conn, nil
}

// makeRoom waits until a connection is closed or the oldest has had its time, which it then closes.
func (l *boundedListener) makeRoom() error {
	for {
		oldest := l.oldestOfAll()
		if oldest == nil {
			return nil
		}
		left := minHold - time.Since(oldest.since)
		if left <= 0 {
			_ = oldest.Close()
			continue
		}
		select {
		case <-l.freed:
		case <-time.After(left):
		case <-l.closed:
			return net.ErrClosed
		}
	}
}

// oldestOfAll is the oldest connection if all that may be open are.
func (l *boundedListener) oldestOfAll() *boundedConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) < maxConnections {
		return nil
	}
	return l.open[0]
}

func (l *boundedListener) Close() error {
	l.close()
	return l.Listener.Close()
}

func (c *boundedConn) Close() error {
	c.listener.remove(c)
	return c.Conn.Close()
}

func (l *boundedListener) remove(c *boundedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = slices.DeleteFunc(l.open, func(o *boundedConn) bool { return o == c })
	select {
	case l.freed <- struct{}{}:
	default:
	}
}
