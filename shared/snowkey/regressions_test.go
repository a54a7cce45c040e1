package snowkey_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/localsnowflake"
	"github.com/snowkey/snowkey/internal/testkey"
	"github.com/snowkey/snowkey/shared/snowkey"
)

func (s *setting) openTransactions() (n int) {
	for _, session := range s.snowflake.Sessions() {
		if session.InTransaction {
			n++
		}
	}
	return n
}

// endsTransactions waits until none is open: a session that had one may be logged out in the background.
func (s *setting) endsTransactions() {
	s.t.Helper()
	eventually(s.t, "no transaction is open", func() bool { return s.openTransactions() == 0 })
}

// A transaction whose context ends must not stay open under the next user of the connection.
func TestACanceledTransactionIsNotLeftOpenInThePool(t *testing.T) {
	for name, open := range map[string]func(*setting) *sql.DB{
		"snowkey": func(s *setting) *sql.DB { return s.open() },
		"plain": func(s *setting) *sql.DB {
			cfg := s.cfg
			cfg.Authenticator, cfg.PrivateKey = gosnowflake.AuthTypeJwt, testkey.Key(0).RSA()
			db := sql.OpenDB(gosnowflake.NewConnector(gosnowflake.SnowflakeDriver{}, cfg))
			s.t.Cleanup(func() { db.Close() })
			return db
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSetting(t)
			s.t = t
			db := open(s)
			ctx, cancel := context.WithCancel(t.Context())
			if _, err := db.BeginTx(ctx, nil); err != nil {
				t.Fatal(err)
			}
			cancel()
			eventually(t, "connection back", func() bool { return db.Stats().InUse == 0 })
			time.Sleep(100 * time.Millisecond)
			if _, err := db.ExecContext(t.Context(), marked); err != nil {
				t.Fatal(err)
			}
			s.endsTransactions()
		})
	}
}

// Asking for a result by id must not pass for a strange driver.
func TestFetchByIDIsAKnownUseOfTheDriver(t *testing.T) {
	s := newSetting(t)
	c, db := s.connector()
	if _, err := db.ExecContext(t.Context(), marked); err != nil {
		t.Fatal(err)
	}
	ctx := gosnowflake.WithFetchResultByID(t.Context(), s.idOf(marked))
	if err := db.QueryRowContext(ctx, "").Scan(new(string)); err != nil {
		t.Fatal(err)
	}
	if !c.KnowsDriver() {
		t.Error("the driver counts as strange from now on: no statement is sent again")
	}
	s.snowflake.EndSessions(390111)
	if _, err := db.ExecContext(t.Context(), "SELECT 2"); err != nil {
		t.Error(err)
	}
}

// hold takes n connections out.
func hold(t *testing.T, db *sql.DB, n int) []*sql.Conn {
	var conns []*sql.Conn
	for range n {
		conn, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	return conns
}

// A rotation superseded between two logins must end.
func TestARotationSupersededBetweenTwoLogins(t *testing.T) {
	s := newSetting(t)
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
		eventually(t, "the candidate is given up", func() bool { return c.Stats().Candidate == "" })
		s.publish(0)
		if c.Stats().Serving == testkey.Key(1).Fingerprint() {
			eventually(t, "back on 0", func() bool { return c.Stats().Serving == testkey.Key(0).Fingerprint() })
		}
	}
}

// Close during the same, while connections are in use.
func TestCloseBetweenTwoLogins(t *testing.T) {
	for range 6 {
		s := newSetting(t)
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

// Events that come while the callback runs and Close is called are delivered, too.
func TestEventsBeforeCloseAreNotLost(t *testing.T) {
	s := newSetting(t)
	var mu sync.Mutex
	var got []snowkey.Event
	in, goOn := make(chan struct{}, 10), make(chan struct{})
	c, db := s.connector(snowkey.WithEvents(func(e snowkey.Event) {
		in <- struct{}{}
		<-goOn
		mu.Lock()
		got = append(got, e)
		mu.Unlock()
	}))
	<-in // the first adoption is being told
	s.assign(2, 1)
	s.publish(1)
	eventually(t, "rotation", func() bool { return c.Stats().Rotations == 1 })
	time.AfterFunc(200*time.Millisecond, func() { close(goOn) })
	db.Close()
	mu.Lock()
	defer mu.Unlock()
	if len(got) != 2 {
		t.Errorf("%d events: %+v", len(got), got)
	}
}

// A connection that the opener of database/sql put into the pool is idle, though IsValid was not asked.
func TestAConnectionThatNobodyTookFromTheOpenerRetires(t *testing.T) {
	s := newSetting(t)
	c, db := s.connector()
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.snowflake.SetLoginLatency(300 * time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	waiting := make(chan error)
	go func() { _, err := db.Conn(ctx); waiting <- err }()
	eventually(t, "a waiter", func() bool { return db.Stats().WaitCount == 1 })
	_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // the opener opens another
	if err := <-waiting; !errors.Is(err, context.DeadlineExceeded) {
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

// Queries that find the serving key refused use what one of them found out, at the same time.
func TestARescueIsForAllAtOnce(t *testing.T) {
	s := newSetting(t)
	_, db := s.connector(snowkey.WithPollInterval(time.Hour), snowkey.WithoutEvents())
	s.expectKey(db, 0)
	s.snowflake.SetLoginLatency(time.Second)
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
			_, _ = conn.ExecContext(t.Context(), "SELECT SYSTEM$WAIT(4)")

		})
	}
	eventually(t, "12 connections", func() bool { return db.Stats().InUse == 12 })
	workers.Wait()
	took := time.Since(began) - 4*time.Second
	t.Logf("12 connections after %v; a login takes a second", took)
	if took > 6*time.Second {
		t.Errorf("logins one after the other: %v", took)
	}
}

// Open follows its context when Snowflake does not answer.
func TestOpenFollowsItsContext(t *testing.T) {
	s := newSetting(t)
	s.snowflake.SetLoginLatency(30 * time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := snowkey.Open(ctx, s.path, s.cfg)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("Open returned after %v: %v", took, err)
	}
}

// Asynchronous statements of a busy pool leave no session each.
func TestAsyncSessionsDoNotPileUp(t *testing.T) {
	s := newSetting(t)
	_, db := s.connector()
	db.SetMaxIdleConns(-1)
	for range 40 {
		rows, err := db.QueryContext(gosnowflake.WithAsyncMode(t.Context()), "SELECT 1")
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
		}
		rows.Close() // all of it was read
	}
	eventually(t, "at most five sessions", func() bool { return len(s.snowflake.Sessions()) <= 5 })
}

// A rescue must not take good sessions from those who have them. The second case is the control.
func TestARescueTakesNoGoodSession(t *testing.T) {
	const login = 2 * time.Second
	for name, unset := range map[string]bool{"old key unset at once": true, "old key kept": false} {
		t.Run(name, func(t *testing.T) {
			s := newSetting(t)
			_, db := s.connector()
			db.SetMaxIdleConns(20)
			good := hold(t, db, 8)
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
			// Only now do the eight take queries: before, the ping could have had one of them.
			eventually(t, "one more connection is being opened", func() bool { return db.Stats().OpenConnections == 9 })
			for _, conn := range good {
				conn.Close()
			}
			l := startLoad(t, db, 8)
			another.Wait()
			time.Sleep(2 * login)
			l.end()
			if worst := time.Duration(l.worst.Load()); worst > login/2 {
				t.Errorf("a query of those who had a session took %v, a login %v", worst, login)
			}
		})
	}
}

// A sql.Conn whose transaction was canceled must not go on inside of it.
func TestASQLConnAfterACanceledTransaction(t *testing.T) {
	s := newSetting(t)
	_, db := s.connector()
	conn := hold(t, db, 1)[0]
	defer conn.Close()
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := conn.BeginTx(ctx, nil); err != nil {
		t.Fatal(err)
	}
	cancel()
	time.Sleep(100 * time.Millisecond)
	_, err := conn.ExecContext(t.Context(), marked)
	if err == nil {
		s.endsTransactions()
	}
}

// An explicit Rollback that cannot be sent leaves no transaction either.
func TestARollbackThatFailsLeavesNoTransaction(t *testing.T) {
	s := newSetting(t)
	_, db := s.connector()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
		if r.Statement == "ROLLBACK" {
			return &localsnowflake.Fault{Code: 604, Message: "refused"}
		}
		return nil
	})
	if err := tx.Rollback(); err == nil {
		t.Fatal("no error")
	}
	s.snowflake.Intercept(nil)
	if _, err := db.ExecContext(t.Context(), marked); err != nil {
		t.Fatal(err)
	}
	s.endsTransactions()
}
