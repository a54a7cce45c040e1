package snowkey

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/testkey"
)

// counted is a session whose log-outs are counted.
type counted struct {
	snowflakeConn
	n *atomic.Int32
}

func (c counted) Close() error { time.Sleep(time.Millisecond); c.n.Add(1); return nil }

func fakeSession(n *atomic.Int32) *session {
	return &session{snowflakeConn: counted{n: n}, tokens: new(tokens), silence: new(atomic.Bool), key: testkey.Key(0)}
}

// The timer of a lingering session and close must not both log it out.
func TestALingeringSessionIsLoggedOutOnce(t *testing.T) {
	var n atomic.Int32
	p := newPool(options{keep: time.Hour, maxIdle: 20 * time.Millisecond})
	s := fakeSession(&n)
	s.async.Store(true)
	p.discard([]*session{s}) // lingers
	p.mu.Lock()
	done := make(chan struct{})
	go func() { p.close(func() {}); close(done) }() // waits for the lock first
	time.Sleep(100 * time.Millisecond)              // and then the timer does
	p.mu.Unlock()
	<-done
	time.Sleep(50 * time.Millisecond)
	if got := n.Load(); got != 1 {
		t.Errorf("logged out %d times", got)
	}
}

// What the timer logs out belongs to what close waits for.
func TestCloseWaitsForTheTimer(t *testing.T) {
	early := 0
	for range 300 {
		var n atomic.Int32
		p := newPool(options{maxIdle: time.Hour})
		p.key.Store(testkey.Key(0))
		p.welcome(fakeSession(&n))
		started := make(chan struct{})
		go func() { close(started); p.drop() }() // as the timer does
		<-started
		p.close(func() {})
		if n.Load() != 1 {
			early++
		}
	}
	if early > 0 {
		t.Errorf("close returned %d of 300 times before the session was logged out", early)
	}
}

// A timer that was set for the sessions of the rotation before must not take those of this one.
func TestTheTimerTakesNoNewerSessions(t *testing.T) {
	var n atomic.Int32
	p := newPool(options{keep: 50 * time.Millisecond, maxIdle: time.Hour})
	p.serve(testkey.Key(0), []*session{fakeSession(&n)})
	p.mu.Lock()
	served := make(chan struct{})
	b := fakeSession(&n)
	b.key = testkey.Key(1)
	go func() { p.serve(b.key, []*session{b}); close(served) }() // waits for the lock first
	time.Sleep(100 * time.Millisecond)                           // and then the timer does
	p.mu.Unlock()
	<-served
	time.Sleep(20 * time.Millisecond)
	if _, aside := p.sizes(); aside != 1 {
		t.Errorf("%d set aside 20ms after the switch, want 1 for 50ms", aside)
	}
	p.close(func() {})
}
