package snowkey_test

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/shared/snowkey"
)

func TestNewestKey_TriedAtOnceAfterRevocation(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
	c, db := s.connector(snowkey.WithPollInterval(time.Hour))
	db.SetMaxIdleConns(0)
	s.expectKey(db, 0)
	// Snowflake refuses the new key at first, so that its next try is some time away.
	s.publish(1)
	eventually(t, "refusals", func() bool { return c.Stats().RefusedLogins >= 4 })
	s.assign(1, 1) // replaces the old key by the new one
	for range 20 {
		key, err := query(t.Context(), db)
		if err != nil || key != testkey.Key(1).Fingerprint() {
			t.Fatalf("key %s, error %v", key, err)
		}
	}
}

func TestNewestKey_RevocationTriggersSidecar(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
	socket := filepath.Join(filepath.Dir(s.path), keyfile.RefreshSocketName)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	triggered := make(chan struct{}, 10)
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			c.Close()
			triggered <- struct{}{}
		}
	}()
	_, db := s.connector()
	db.SetMaxIdleConns(0)
	s.expectKey(db, 0)
	s.assign(1, 1)
	if _, err := query(t.Context(), db); err == nil || !strings.Contains(err.Error(), "394304") {
		t.Errorf("error %v", err)
	}
	select {
	case <-triggered:
	case <-time.After(waitLimit):
		t.Error("the sidecar was not triggered")
	}
	s.publish(1)
	eventually(t, "a query on the new key", func() bool {
		key, err := query(t.Context(), db)
		return err == nil && key == testkey.Key(1).Fingerprint()
	})
}

// Queries that find the serving key refused log in with the newest key at the same time.
func TestNewestKey_CallersLogInConcurrently(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
	_, db := s.connector(snowkey.WithPollInterval(time.Hour), snowkey.WithoutEvents())
	s.expectKey(db, 0)
	s.snowflake.SetLoginLatency(3 * time.Second)
	s.publish(1)
	s.assign(1, 1)
	began := time.Now()
	var workers sync.WaitGroup
	for range 12 {
		workers.Go(func() {
			conn, err := db.Conn(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = conn.ExecContext(t.Context(), "SELECT SYSTEM$WAIT(10)")
		})
	}
	eventually(t, "12 connections", func() bool { return db.Stats().InUse == 12 })
	workers.Wait()
	took := time.Since(began) - 10*time.Second
	t.Logf("12 connections after %v; a login takes three seconds", took)
	if took > 18*time.Second {
		t.Errorf("logins one after the other: %v", took)
	}
}

// A query that logs in with the newest key must not cost other callers their sessions. The second case is the
// control.
func TestNewestKey_LoginTakesNoSessionInUse(t *testing.T) {
	t.Parallel()
	const login = 6 * time.Second // on a busy machine a query takes a second
	for name, unset := range map[string]bool{"old key unset at once": true, "old key kept": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newFixture(t)
			_, db := s.connector()
			db.SetMaxIdleConns(20)
			inUse := hold(t, db, 8)
			s.snowflake.SetLoginLatency(login)
			s.snowflake.SetQueryLatency(5 * time.Millisecond)
			s.assign(2, 1)
			s.publish(1)
			time.Sleep(50 * time.Millisecond)
			if unset {
				s.snowflake.UnsetPublicKey("ETL", 1)
			}
			var another sync.WaitGroup
			another.Go(func() {
				if err := db.PingContext(t.Context()); err != nil {
					t.Error(err)
				}
			})
			// Free the eight sessions only now: before, the ping could have got one of them.
			eventually(t, "one more connection is being opened", func() bool { return db.Stats().OpenConnections == 9 })
			for _, conn := range inUse {
				conn.Close()
			}
			l := startLoad(t, db, 8)
			another.Wait()
			time.Sleep(login)
			l.end()
			if worst := time.Duration(l.worst.Load()); worst > login/2 {
				t.Errorf("a query took %v though there were sessions, a login takes %v", worst, login)
			}
		})
	}
}

// slowKey delays the logins with key n.
func (s *fixture) slowKey(n int, d time.Duration) {
	fp := testkey.Key(n).Fingerprint()
	s.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
		if r.Endpoint == localsnowflake.EndpointLogin && r.Fingerprint == fp {
			return &localsnowflake.Fault{Delay: d}
		}
		return nil
	})
}

// Snowflake refuses the serving key, so that a query logs in with key 1 from the file, slowly. Meanwhile key 2
// is published and activated. The query must not make key 1 the serving key again.
func TestNewestKey_SlowLoginDoesNotRestoreOlderKey(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
	c, db := s.connector(snowkey.WithPollInterval(50 * time.Millisecond))
	db.SetMaxIdleConns(0)
	s.expectKey(db, 0)
	s.slowKey(1, time.Second)
	s.assign(1, 1) // key 0 is revoked
	s.assign(2, 2)
	s.publish(1)
	var querying sync.WaitGroup
	querying.Go(func() {
		if _, err := query(context.Background(), db); err != nil {
			t.Error(err)
		}
	})
	time.Sleep(200 * time.Millisecond)
	s.publish(2)
	eventually(t, "key 2", func() bool { return c.Stats().ServingFingerprint == testkey.Key(2).Fingerprint() })
	time.Sleep(200 * time.Millisecond)
	querying.Wait()
	time.Sleep(200 * time.Millisecond) // longer than the poll interval
	if got := c.Stats().ServingFingerprint; got != testkey.Key(2).Fingerprint() {
		t.Errorf("serving the older key %s; the file holds %s: %+v", got, testkey.Key(2).Fingerprint(), c.Stats())
	}
}

// A new key causes one rotation and one event, even if many queries find it at the same time.
func TestNewestKey_ManyCallersMakeOneRotation(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
	var activated atomic.Int64
	c, db := s.connector(snowkey.WithPollInterval(time.Hour), snowkey.WithEvents(func(e snowkey.Event) {
		if e.Kind == snowkey.KeyActivated {
			activated.Add(1)
		}
	}))
	db.SetMaxIdleConns(0)
	s.expectKey(db, 0)
	eventually(t, "the first key's event", func() bool { return activated.Load() == 1 })
	s.publish(1)
	eventually(t, "refusals", func() bool { return c.Stats().RefusedLogins >= 4 })
	s.snowflake.SetLoginLatency(100 * time.Millisecond)
	s.assign(1, 1)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := query(context.Background(), db); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	eventually(t, "the rotation", func() bool { return c.Stats().Rotations > 0 && activated.Load() > 1 })
	if st := c.Stats(); st.Rotations != 1 || activated.Load() != 2 {
		t.Errorf("%d rotations, %d events", st.Rotations, activated.Load()-1)
	}
}

// An event reports that Snowflake no longer accepts the serving key.
func TestNewestKey_RevocationIsReported(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	events := make(chan snowkey.Event, 10)
	c, db := s.connector(snowkey.WithEvents(func(e snowkey.Event) { events <- e }))
	db.SetMaxIdleConns(0)
	s.expectKey(db, 0)
	<-events
	s.assign(1, 1) // key 0 is revoked, and the file still holds it
	if _, err := query(t.Context(), db); err == nil {
		t.Fatal("no error")
	}
	if st := c.Stats(); st.LastErr == nil {
		t.Errorf("no last error: %+v", st)
	}
	select {
	case e := <-events:
		t.Log(e)
	case <-time.After(time.Second):
		t.Error("no event")
	}
}

// A candidate's refusal is expected, also if a query has tried it.
func TestNewestKey_RefusalIsQuiet(t *testing.T) {
	s := newFixture(t)
	var log syncBuffer
	driverLogsTo(t, &log)
	c, db := s.connector()
	db.SetMaxIdleConns(0)
	s.expectKey(db, 0)
	s.publish(1)
	eventually(t, "a refusal", func() bool {
		return c.Stats().CandidateFingerprint == testkey.Key(1).Fingerprint() && c.Stats().RefusedLogins > 1
	})
	s.assign(1, 2) // neither is accepted
	before, refusals := len(log.String()), c.Stats().RefusedLogins
	_, _ = query(t.Context(), db)
	// One login with the serving key, one with the candidate. The driver logs two lines, about the first only.
	if n := c.Stats().RefusedLogins - refusals; n > 2 {
		t.Errorf("one query made %d logins", n)
	}
	if lines := strings.Count(log.String()[before:], "\n"); lines > 2 {
		t.Errorf("%d lines:\n%s", lines, log.String()[before:])
	}
}
