package snowkey_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/snowkey"
)

func TestRotation_QueriesFollowKey(t *testing.T) {
	onEachSnowflake(t, func(t *testing.T, s *fixture) {
		db := s.open()
		s.expectKey(db, 0)
		s.assign(2, 1)
		s.publish(1)
		s.expectKey(db, 1)
		s.unassign(1)
		s.expectKey(db, 1)
	})
}

func TestRotation_UnderLoadFailsNoQuery(t *testing.T) {
	testenv.Slow(t)
	onEachSnowflake(t, func(t *testing.T, s *fixture) {
		s.setLoginLatency(20 * time.Millisecond)
		db := s.open()
		ctx, stop := context.WithCancel(t.Context())
		var workers sync.WaitGroup
		for range 8 {
			workers.Go(func() {
				for ctx.Err() == nil {
					if _, err := query(ctx, db); err != nil && ctx.Err() == nil {
						t.Error(err)
					}
				}
			})
		}
		for n := 1; n <= 4; n++ {
			s.assign(1+n%2, n%3)
			s.publish(n % 3)
			s.expectKey(db, n%3)
			time.Sleep(50 * time.Millisecond)
		}
		stop()
		workers.Wait()
	})
}

func TestRotation_TransactionFinishesOnItsKey(t *testing.T) {
	onEachSnowflake(t, func(t *testing.T, s *fixture) {
		db := s.open()
		s.expectKey(db, 0)
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		s.assign(2, 1)
		s.publish(1)
		s.expectKey(db, 1)
		var one int
		if err := tx.QueryRowContext(t.Context(), "SELECT 1").Scan(&one); err != nil || one != 1 {
			t.Errorf("%d, %v", one, err)
		}
		if err := tx.Commit(); err != nil {
			t.Error(err)
		}
		s.expectKey(db, 1)
		for _, session := range s.sessions() {
			if session.Fingerprint == testkey.Key(0).Fingerprint() && session.InTransaction {
				t.Errorf("still in a transaction: %+v", session)
			}
		}
	})
}

func TestRotation_QueriesDoNotWaitForLogins(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	const login = 9 * time.Second // a busy machine needs far less for a query
	s := newFixture(t)
	c, db := s.connector()
	db.SetMaxIdleConns(8)
	l := startLoad(t, db, 8)
	eventually(t, "8 connections", func() bool { return c.Stats().OpenConnections >= 8 })
	s.snowflake.SetLoginLatency(login)
	s.snowflake.SetQueryLatency(5 * time.Millisecond)
	l.worst.Store(0)
	s.assign(2, 1)
	s.publish(1)
	eventually(t, "a query on the new key", func() bool { return l.ran(1) })
	time.Sleep(200 * time.Millisecond)
	l.end()
	if worst := time.Duration(l.worst.Load()); worst > login/3 {
		t.Errorf("a query took %v, a login %v", worst, login)
	}
}

func TestRotation_RefusedCandidateKeepsServingKey(t *testing.T) {
	testenv.Slow(t)
	s := newFixture(t)
	var log syncBuffer
	driverLogsTo(t, &log)
	events := make(chan snowkey.Event, 100)
	c, db := s.connector(snowkey.WithEvents(func(e snowkey.Event) { events <- e }))
	db.SetMaxIdleConns(0) // each query logs in, so new connections are tested, too
	l := startLoad(t, db, 2)
	s.publish(1)
	eventually(t, "a refusal", func() bool { return c.Stats().RefusedLogins > 1 })
	st := c.Stats()
	if st.ServingFingerprint != testkey.Key(0).Fingerprint() || st.CandidateFingerprint != testkey.Key(1).Fingerprint() || st.LastErr == nil {
		t.Errorf("stats %+v", st)
	}
	ran := l.queries.Load()
	eventually(t, "queries meanwhile", func() bool { return l.queries.Load() > ran+10 })
	s.assign(2, 1)
	eventually(t, "a query on the new key", func() bool { return l.ran(1) })
	l.end()
	if st := c.Stats(); st.CandidateFingerprint != "" || st.Rotations != 1 || st.LastErr != nil {
		t.Errorf("stats %+v", st)
	}
	var kinds []string
	for len(events) > 0 {
		kinds = append(kinds, string((<-events).Kind))
	}
	if len(kinds) < 3 || kinds[0] != "activated" || kinds[1] != "refused" || kinds[len(kinds)-1] != "activated" {
		t.Errorf("events %v", kinds)
	}
	if text := log.String(); text != "" {
		t.Errorf("the driver complained about an expected refusal:\n%s", text)
	}
}

func TestRotation_GarbageAndRemovalChangeNothing(t *testing.T) {
	testenv.Slow(t)
	s := newFixture(t)
	_, db := s.connector(snowkey.WithPollInterval(20 * time.Millisecond))
	l := startLoad(t, db, 4)
	for _, spoil := range []func() error{
		func() error { return os.WriteFile(s.path, []byte("garbage"), 0o600) },
		func() error { return os.Remove(s.path) },
		func() error { return os.WriteFile(s.path, nil, 0o600) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		ran := l.queries.Load()
		time.Sleep(50 * time.Millisecond)
		eventually(t, "queries", func() bool { return l.queries.Load() > ran+20 })
	}
	s.assign(2, 1)
	s.publish(1)
	eventually(t, "a query on the new key", func() bool { return l.ran(1) })
}

func TestRotation_NewerKeySupersedesCandidate(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
	c, db := s.connector()
	l := startLoad(t, db, 2)
	eventually(t, "queries", func() bool { return l.queries.Load() > 10 })
	s.snowflake.SetLoginLatency(time.Second)
	s.assign(2, 1)
	s.publish(1)
	eventually(t, "a candidate", func() bool { return c.Stats().CandidateFingerprint == testkey.Key(1).Fingerprint() })
	s.assign(2, 2)
	s.publish(2)
	eventually(t, "a query on the newest key", func() bool { return l.ran(2) })
	l.end()
	if l.ran(1) {
		t.Error("a query ran on the superseded key")
	}
	if st := c.Stats(); st.Rotations != 1 {
		t.Errorf("stats %+v", st)
	}
}

func TestRotation_Repeated(t *testing.T) {
	testenv.Slow(t)
	s := newFixture(t)
	s.snowflake.SetLoginLatency(5 * time.Millisecond)
	c, db := s.connector()
	db.SetMaxIdleConns(8)
	l := startLoad(t, db, 8)
	for n := 1; n <= testenv.Times(5, 40); n++ {
		s.assign(1+n%2, n%4)
		s.publish(n % 4)
		eventually(t, "the new key", func() bool { return c.Stats().ServingFingerprint == testkey.Key(n%4).Fingerprint() })
	}
	ran := l.queries.Load()
	eventually(t, "queries", func() bool { return l.queries.Load() > ran+50 })
}

func TestRotation_IdleConnectionsOfOldKeyLogOut(t *testing.T) {
	s := newFixture(t)
	_, db := s.connector()
	db.SetMaxIdleConns(8)
	l := startLoad(t, db, 8)
	eventually(t, "8 sessions", func() bool { return len(s.snowflake.Sessions()) >= 8 })
	l.end()
	s.assign(2, 1)
	s.publish(1)
	eventually(t, "no session of the old key", func() bool { return s.sessionsOf(0) == 0 && s.sessionsOf(1) > 0 })
	s.expectKey(db, 1)
}

func TestRotation_QueriesDoNotWaitForLogOuts(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
	_, db := s.connector()
	db.SetMaxIdleConns(4)
	l := startLoad(t, db, 4)
	eventually(t, "queries", func() bool { return l.queries.Load() > 20 })
	s.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
		if r.Endpoint == localsnowflake.EndpointClose {
			return &localsnowflake.Fault{Delay: 10 * time.Second}
		}
		return nil
	})
	l.worst.Store(0)
	s.assign(2, 1)
	s.publish(1)
	eventually(t, "a query on the new key", func() bool { return l.ran(1) })
	time.Sleep(100 * time.Millisecond)
	l.end()
	if worst := time.Duration(l.worst.Load()); worst > 5*time.Second {
		t.Errorf("a query took %v, a logout 10s", worst)
	}
	s.snowflake.Intercept(nil)
}

// Statements, rows, transactions and connections in use finish on the old key.
func TestRotation_WorkInUseFinishesOnOldKey(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	_, db := s.connector()
	ctx := t.Context()
	pinned, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pinned.ExecContext(ctx, "SELECT 1"); err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	stmt, err := tx.PrepareContext(ctx, "SELECT current_session()")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := db.QueryContext(ctx, "SELECT 1")
	if err != nil {
		t.Fatal(err)
	}
	s.assign(2, 1)
	s.publish(1)
	s.expectKey(db, 1)
	s.snowflake.UnsetPublicKey("ETL", 1)

	var text string
	if err := stmt.QueryRowContext(ctx).Scan(&text); err != nil {
		t.Errorf("statement: %v", err)
	}
	if err := tx.Commit(); err != nil {
		t.Errorf("transaction: %v", err)
	}
	if !rows.Next() || rows.Scan(&text) != nil || rows.Close() != nil {
		t.Errorf("rows: %v", rows.Err())
	}
	if err := pinned.QueryRowContext(ctx, "SELECT 1").Scan(&text); err != nil {
		t.Errorf("connection: %v", err)
	}
	if key, err := snowkey.Fingerprint(pinned); err != nil || key != testkey.Key(0).Fingerprint() {
		t.Errorf("connection on %s, %v", key, err)
	}
	pinned.Close()
	eventually(t, "no session of the old key", func() bool { return s.sessionsOf(0) == 0 })
}

func TestBackoff_GrowsAndIsBounded(t *testing.T) {
	var last time.Duration
	for tries := range 20 {
		var longest time.Duration
		for range 2000 {
			longest = max(longest, snowkey.Backoff(tries+1))
		}
		if longest > snowkey.LongestBackoff || tries < 5 && longest < last {
			t.Errorf("after %d tries up to %v, before that %v", tries+1, longest, last)
		}
		last = longest
	}
}

// Snowflake accepts the candidate's first login, and answers the others with an error that is not a refusal.
func TestRotation_LoginOutageFailsNoQuery(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
	c, db := s.connector()
	db.SetMaxIdleConns(8)
	db.SetMaxOpenConns(8)
	l := startLoad(t, db, 8)
	eventually(t, "8 connections", func() bool { return c.Stats().OpenConnections >= 8 })
	var logins atomic.Int64
	s.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
		if r.Endpoint == localsnowflake.EndpointLogin && logins.Add(1) > 1 {
			return &localsnowflake.Fault{Code: 390189, Message: "temporarily out of order"}
		}
		return nil
	})
	s.assign(2, 1)
	s.publish(1)
	time.Sleep(time.Second)
	s.snowflake.Intercept(nil)
	l.end()
}

// No query sees driver.ErrBadConn when rotations follow each other and the pool is small.
func TestRotation_RepeatedWithSmallPool(t *testing.T) {
	testenv.Slow(t)
	s := newFixture(t)
	c, db := s.connector()
	db.SetMaxIdleConns(3)
	db.SetMaxOpenConns(3)
	ctx, stop := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	var mu sync.Mutex
	failures := map[string]int{}
	n := 0
	for range 24 {
		workers.Go(func() {
			for ctx.Err() == nil {
				_, err := db.ExecContext(context.Background(), "SELECT 1")
				mu.Lock()
				n++
				if err != nil {
					failures[err.Error()]++
				}
				mu.Unlock()
			}
		})
	}
	for k := 1; k <= testenv.Times(10, 100); k++ {
		s.assign(1+k%2, k%3)
		s.publish(k % 3)
		eventually(t, "the key", func() bool { return c.Stats().ServingFingerprint == testkey.Key(k%3).Fingerprint() })
	}
	stop()
	workers.Wait()
	t.Log(n, "queries")
	if len(failures) > 0 {
		t.Error(failures)
	}
}

// A newer key ends the rotation between two logins for it.
func TestRotation_SupersededBetweenLogins(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
	c, db := s.connector()
	for _, conn := range hold(t, db, 30) {
		defer conn.Close()
	}
	s.assign(2, 1)
	for round := range 12 {
		t.Log("round", round)
		before := c.Stats().Logins
		s.publish(1)
		for c.Stats().Logins < before+5 {
			time.Sleep(time.Millisecond)
		}
		s.publish(0) // back
		if round%2 == 0 {
			time.Sleep(time.Duration(round) * 3 * time.Millisecond)
		}
		eventually(t, "no candidate", func() bool { return c.Stats().CandidateFingerprint == "" })
		s.publish(0)
		if c.Stats().ServingFingerprint == testkey.Key(1).Fingerprint() {
			eventually(t, "back on 0", func() bool { return c.Stats().ServingFingerprint == testkey.Key(0).Fingerprint() })
		}
	}
}

// If the caller has gone, database/sql puts a new connection into the pool without a call of IsValid. The connection is
// idle all the same.
func TestRotation_UnclaimedConnectionLogsOut(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	c, db := s.connector()
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.snowflake.SetLoginLatency(300 * time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	waiting := make(chan error)
	go func() { _, err := db.Conn(ctx); waiting <- err }()
	eventually(t, "a waiter", func() bool { return db.Stats().WaitCount == 1 })
	_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // the opener opens another
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	eventually(t, "idle", func() bool { return db.Stats().Idle == 1 })
	s.snowflake.SetLoginLatency(0)
	s.assign(2, 1)
	s.publish(1)
	eventually(t, "rotation", func() bool { return c.Stats().Rotations == 1 })
	eventually(t, "no idle session of the old key", func() bool {
		return !slices.ContainsFunc(s.snowflake.Sessions(), func(session localsnowflake.Session) bool {
			return session.Fingerprint == testkey.Key(0).Fingerprint()
		})
	})
	if got, err := query(t.Context(), db); err != nil || got != testkey.Key(1).Fingerprint() {
		t.Errorf("the next query runs on %s, %v", got, err)
	}
}
