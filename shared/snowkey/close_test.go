package snowkey_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/snowkey/snowkey/shared/snowkey"
)

// After Close there is nothing left: no goroutine, no descriptor, no session.
func TestAfterCloseNothingIsLeft(t *testing.T) {
	for name, during := range map[string]func(s *setting, c *snowkey.Connector){
		"at rest": func(*setting, *snowkey.Connector) {},
		"during a rotation": func(s *setting, c *snowkey.Connector) {
			s.snowflake.SetLoginLatency(300 * time.Millisecond)
			s.assign(2, 1)
			s.publish(1)
			eventually(s.t, "a candidate", func() bool { return c.Stats().Candidate != "" })
		},
		"while a candidate is refused": func(s *setting, c *snowkey.Connector) {
			s.publish(1)
			eventually(s.t, "a refusal", func() bool { return c.Stats().Refusals > 0 })
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSetting(t)
			s.unhurried()
			// The test's own server, and what the driver starts once for the whole program.
			first := s.open()
			s.expectKey(first, 0)
			first.Close()
			before, descriptors := goleak.IgnoreCurrent(), openDescriptors(t)

			c, db := s.connector()
			db.SetMaxIdleConns(4)
			l := startLoad(t, db, 4)
			eventually(t, "4 connections", func() bool { return c.Stats().Open >= 4 })
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

// serverSide are the goroutines of the test's HTTP server, one for each connection that is going away.
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

func TestOpenThatFailsLeavesNothing(t *testing.T) {
	s := newSetting(t)
	s.snowflake.UnsetPublicKey("ETL", 1)
	open := func() {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := snowkey.Open(ctx, s.path, s.cfg); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	}
	open()
	before := goleak.IgnoreCurrent()
	open()
	goleak.VerifyNone(t, before, serverSide)
}

// Close at any moment around the switch leaves no session. No login is cut off here: the last one has
// been answered when Close is called.
func TestCloseAroundTheSwitchLeavesNoSession(t *testing.T) {
	leaks := 0
	const rounds = 150
	for range rounds {
		s := newSetting(t)
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

// unhurried is Snowflake that finishes a login whose client has gone, as the real one does.
func (s *setting) unhurried() {
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.snowflake.ServeHTTP(w, r.WithContext(context.WithoutCancel(r.Context())))
	}))
	s.t.Cleanup(endpoint.Close)
	u, _ := url.Parse(endpoint.URL)
	s.cfg.Port, _ = strconv.Atoi(u.Port())
}

// A query that cannot wait for a login must not leave a session behind, nor go without one forever.
func TestALoginThatACallerGaveUpLeavesNoSession(t *testing.T) {
	s := newSetting(t)
	s.unhurried()
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
	t.Logf("%d of 10 queries failed, %d logins came to something", failed, c.Stats().Logins)
	time.Sleep(time.Second)
	db.Close()
	if left := s.snowflake.Sessions(); len(left) > 0 {
		t.Errorf("%d sessions left", len(left))
	}
}

// Nor may a rotation that is superseded.
func TestASupersededRotationLeavesNoSession(t *testing.T) {
	s := newSetting(t)
	s.unhurried()
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
