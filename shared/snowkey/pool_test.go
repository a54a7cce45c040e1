package snowkey

import (
	"database/sql/driver"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testkey"
)

// counted is a session that counts its log-outs.
type counted struct {
	snowflakeConn
	n *atomic.Int32
}

func (c counted) Close() error { time.Sleep(time.Millisecond); c.n.Add(1); return nil }

func fakeSession(n *atomic.Int32) *session {
	return &session{snowflakeConn: counted{n: n}, tokens: new(tokens), muted: new(atomic.Bool), key: testkey.Key(0)}
}

// The end of an asynchronous statement and close must not both log its session out.
func TestPool_KeptSessionLogsOutOnce(t *testing.T) {
	for range 100 {
		var n atomic.Int32
		p := newPool(time.Hour)
		s := fakeSession(&n)
		p.asyncStarted(s)
		p.discard(s)
		if n.Load() != 0 {
			t.Fatal("logged out while the statement runs")
		}
		ended := make(chan struct{})
		go func() { p.asyncEnded(s); close(ended) }()
		p.close(func() {})
		<-ended
		if got := n.Load(); got != 1 {
			t.Fatalf("logged out %d times", got)
		}
	}
}

// close waits for the log-outs that the timer starts.
func TestPool_CloseWaitsForTheTimer(t *testing.T) {
	early := 0
	for range 300 {
		var n atomic.Int32
		p := newPool(time.Hour)
		p.key.Store(testkey.Key(0))
		p.addSpare(fakeSession(&n))
		started := make(chan struct{})
		go func() { close(started); p.expireSpares() }() // as the timer does
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

// The timer of the previous rotation must not log out the spare sessions of this one.
func TestPool_TimerLeavesNewerSpares(t *testing.T) {
	var n atomic.Int32
	p := newPool(50 * time.Millisecond)
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
	var stats Stats
	if p.count(&stats); stats.SpareSessions != 1 {
		t.Errorf("%d spare sessions 20ms after the switch, want 1 for 50ms", stats.SpareSessions)
	}
	p.close(func() {})
}

func TestPool_CloseGivesUpAfterTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(time.Hour)
		release := make(chan struct{})
		p.run(func() { <-release })
		began := time.Now()
		if err := p.close(func() {}); !errors.Is(err, ErrCloseTimeout) || time.Since(began) != closeTimeout {
			t.Errorf("after %v: error %v", time.Since(began), err)
		}
		close(release)
	})
}

func TestFinalError_IsAllButErrBadConn(t *testing.T) {
	err := error(finalError{notExecutedError{kindError{errors.New("gone"), ErrSessionEnded}}})
	if !errors.Is(err, ErrSessionEnded) || errors.Is(err, driver.ErrBadConn) {
		t.Errorf("error %v", err)
	}
}
