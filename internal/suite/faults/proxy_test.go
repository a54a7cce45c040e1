//go:build faults

package faults

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// A proxy stands before an endpoint and breaks the way to it. Toxiproxy does not answer garbage, and would
// bring a dozen modules for the rest of this file.
type proxy struct {
	t       *testing.T
	address string
	behind  string

	mu       sync.Mutex
	way      way
	listener net.Listener
	conns    map[net.Conn]bool
}

// A way is what happens to connections. The zero way is a good one.
type way struct {
	refuse  bool          // no listener
	reset   bool          // accepted, then reset
	silent  bool          // accepted, then nothing
	slow    time.Duration // before each piece of an answer
	cut     int           // an answer is cut after so many bytes
	garbage string        // is the answer, whatever was asked
	endless bool          // which goes on for ever
}

func newProxy(t *testing.T, behind string) *proxy {
	t.Helper()
	p := &proxy{t: t, behind: behind, conns: map[net.Conn]bool{}}
	p.listen("127.0.0.1:0")
	p.address = p.listener.Addr().String()
	t.Cleanup(func() { p.set(way{refuse: true}) })
	return p
}

// set ends the connections there are: what is broken is broken for them, too.
func (p *proxy) set(w way) {
	p.t.Helper()
	p.mu.Lock()
	p.way = w
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	if w.refuse && p.listener != nil {
		p.listener.Close()
		p.listener = nil
	}
	if !w.refuse && p.listener == nil {
		p.listen(p.address)
	}
}

// mend is a good way for new connections. Those that there are stay as they are: who waits for an answer on one waits on.
func (p *proxy) mend() {
	p.t.Helper()
	p.mu.Lock()
	p.way = way{}
	p.mu.Unlock()
	if p.listener == nil {
		p.listen(p.address)
	}
}

func (p *proxy) listen(address string) {
	p.t.Helper()
	var err error
	if p.listener, err = net.Listen("tcp", address); err != nil {
		p.t.Fatal(err)
	}
	go func(l net.Listener) {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(conn)
		}
	}(p.listener)
}

func (p *proxy) serve(client net.Conn) {
	w := p.enter(client)
	defer p.leave(client)
	switch {
	case w.refuse: // accepted just before the listener closed
	case w.reset:
		_ = client.(*net.TCPConn).SetLinger(0)
	case w.silent:
		_, _ = io.Copy(io.Discard, client)
	case w.garbage != "":
		_, _ = client.Read(make([]byte, 64<<10))
		_, err := io.WriteString(client, w.garbage)
		for more := make([]byte, 64<<10); w.endless && err == nil; {
			_, err = client.Write(more)
		}
	default:
		p.pass(client, w)
	}
}

func (p *proxy) pass(client net.Conn, w way) {
	server, err := net.Dial("tcp", p.behind)
	if err != nil {
		return
	}
	p.enter(server)
	defer p.leave(server)
	go func() {
		_, _ = io.Copy(server, client)
		server.Close()
	}()
	var answer io.Reader = server
	if w.cut > 0 {
		answer = io.LimitReader(server, int64(w.cut))
	}
	_, _ = io.Copy(late{client, w.slow}, answer)
}

func (p *proxy) enter(c net.Conn) way {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = true
	return p.way
}

func (p *proxy) leave(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// late writes each piece some time later.
type late struct {
	io.Writer
	by time.Duration
}

func (l late) Write(b []byte) (int, error) {
	time.Sleep(l.by)
	return l.Writer.Write(b)
}
