package snowkey_test

import (
	"context"
	"math/rand/v2"
	"os"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/shared/snowkey"
)

func TestClose_LogsOutAllSessions(t *testing.T) {
	onEachSnowflake(t, func(t *testing.T, s *fixture) {
		db := s.open()
		s.expectKey(db, 0)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if err := db.PingContext(t.Context()); err == nil {
			t.Error("a ping after Close")
		}
		if left := s.sessions(); len(left) > 0 {
			t.Errorf("sessions left: %+v", left)
		}
	})
}

// Close leaves no goroutine, no descriptor and no session.
func TestClose_LeavesNothing(t *testing.T) {
	for name, during := range map[string]func(s *fixture, c *snowkey.Connector){
		"at rest": func(*fixture, *snowkey.Connector) {},
		"during a rotation": func(s *fixture, c *snowkey.Connector) {
			s.snowflake.SetLoginLatency(300 * time.Millisecond)
			s.assign(2, 1)
			s.publish(1)
			eventually(s.t, "a candidate", func() bool { return c.Stats().CandidateFingerprint != "" })
		},
		"while a candidate is refused": func(s *fixture, c *snowkey.Connector) {
			s.publish(1)
			eventually(s.t, "a refusal", func() bool { return c.Stats().RefusedLogins > 0 })
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newFixture(t)
			s.finishAbandonedLogins()
			// Start the test's own server, and what the driver starts once for the whole program.
			first := s.open()
			s.expectKey(first, 0)
			first.Close()
			before, descriptors := goleak.IgnoreCurrent(), openDescriptors(t)

			c, db := s.connector()
			db.SetMaxIdleConns(4)
			l := startLoad(t, db, 4)
			eventually(t, "4 connections", func() bool { return c.Stats().OpenConnections >= 4 })
			l.end()
			during(s, c)
			if err := db.Close(); err != nil {
				t.Error(err)
			}
			goleak.VerifyNone(t, before, serverSide)
			eventually(t, "no descriptor left", func() bool { return openDescriptors(t) <= descriptors })
			if left := s.snowflake.Sessions(); len(left) > 0 {
				t.Errorf("sessions left: %+v", left)
			}
		})
	}
}

// serverSide ignores the goroutines of the test's HTTP server, one for each connection that is going away.
var serverSide = goleak.IgnoreAnyFunction("net/http.(*conn).serve")

func openDescriptors(t *testing.T) int {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("descriptors are counted in /proc, which only Linux has")
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// Close leaves no session at any moment around an activation. No login is cut off: Snowflake has answered the last one
// before Close is called.
func TestClose_AroundActivationLeavesNoSession(t *testing.T) {
	leaks := 0
	rounds := testenv.Times(15, 150)
	for range rounds {
		s := newFixture(t)
		c, db := s.connector()
		s.assign(2, 1)
		s.publish(1)
		for c.Stats().Logins < 2 {
			runtime.Gosched()
		}
		for began, d := time.Now(), time.Duration(rand.N(1000))*time.Microsecond; time.Since(began) < d; {
			runtime.Gosched()
		}
		db.Close()
		if left := s.snowflake.Sessions(); len(left) > 0 {
			leaks++
		}
	}
	if leaks > 0 {
		t.Errorf("%d of %d Closes left a session", leaks, rounds)
	}
}

// A query that stops waiting for a login leaves no session behind.
func TestLogins_AbandonedLoginLeavesNoSession(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
	s.finishAbandonedLogins()
	c, db := s.connector()
	s.expectKey(db, 0)
	s.snowflake.SetLoginLatency(300 * time.Millisecond)
	s.snowflake.EndSessions(390111)
	failed := 0
	for range 10 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if _, err := query(ctx, db); err != nil {
			failed++
		}
		cancel()
	}
	t.Logf("%d of 10 queries failed, %d logins succeeded", failed, c.Stats().Logins)
	time.Sleep(time.Second)
	db.Close()
	if left := s.snowflake.Sessions(); len(left) > 0 {
		t.Errorf("%d sessions left", len(left))
	}
}

// A superseded rotation leaves no session behind.
func TestRotation_SupersededLeavesNoSession(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
	s.finishAbandonedLogins()
	_, db := s.connector()
	s.expectKey(db, 0)
	s.snowflake.SetLoginLatency(300 * time.Millisecond)
	s.assign(2, 1)
	for n := 1; n <= 6; n++ { // key 0 serves, and is back in the file before key 1 has logged in
		s.publish(n % 2)
		time.Sleep(100 * time.Millisecond)
	}
	time.Sleep(time.Second)
	db.Close()
	if left := s.snowflake.Sessions(); len(left) > 0 {
		t.Errorf("%d sessions left", len(left))
	}
}

// Close ends a rotation between two logins, while connections are in use.
func TestClose_BetweenLogins(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	for range 6 {
		s := newFixture(t)
		c, db := s.connector()
		conns := hold(t, db, 30)
		s.assign(2, 1)
		before := c.Stats().Logins
		s.publish(1)
		for c.Stats().Logins < before+5 {
			time.Sleep(time.Millisecond)
		}
		began := time.Now()
		err := db.Close()
		if took := time.Since(began); took > 5*time.Second || err != nil {
			t.Errorf("Close took %v: %v", took, err)
		}
		for _, conn := range conns {
			conn.Close()
		}
		if t.Failed() {
			return
		}
	}
}
