package snowkey_test

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/snowkey"
)

// countingLogins counts the logins in flight.
type countingLogins struct {
	begun, inFlight, most atomic.Int64
	close                 func()
}

func (s *fixture) countLogins() *countingLogins {
	c := new(countingLogins)
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "login-request") {
			c.begun.Add(1)
			n := c.inFlight.Add(1)
			defer c.inFlight.Add(-1)
			for most := c.most.Load(); n > most; most = c.most.Load() {
				if c.most.CompareAndSwap(most, n) {
					break
				}
			}
		}
		s.snowflake.ServeHTTP(w, r)
	}))
	c.close = func() { endpoint.CloseClientConnections(); endpoint.Close() }
	s.t.Cleanup(c.close)
	u, _ := url.Parse(endpoint.URL)
	s.cfg.Port, _ = strconv.Atoi(u.Port())
	return c
}

// Queries that give up do not start one login each.
func TestLogins_NeverMoreThanSlots(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	const slots = 2
	s := newFixture(t)
	logins := s.countLogins()
	_, db := s.connector()
	db.SetMaxOpenConns(slots)
	db.SetMaxIdleConns(-1)
	s.expectKey(db, 0)
	logins.most.Store(0)
	s.snowflake.SetLoginLatency(2 * time.Second)
	var workers sync.WaitGroup
	for range slots {
		workers.Go(func() {
			for range 50 {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				_, _ = db.ExecContext(ctx, "SELECT 1")
				cancel()
			}
		})
	}
	workers.Wait()
	if most := logins.most.Load(); most < 1 || most > slots {
		t.Errorf("%d logins at the same time, with %d slots", most, slots)
	}
	s.snowflake.SetLoginLatency(0)
	s.expectKey(db, 0)
}

// A caller waits for a login for which an earlier caller no longer waits.
func TestLogins_LaterCallerTakesRunningLogin(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
	logins := s.countLogins()
	_, db := s.connector()
	db.SetMaxIdleConns(-1)
	s.expectKey(db, 0)
	s.snowflake.SetLoginLatency(time.Second)
	begun := logins.begun.Load()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := query(ctx, db); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if _, err := query(t.Context(), db); err != nil {
		t.Error(err)
	}
	if n := logins.begun.Load() - begun; n != 1 {
		t.Errorf("%d logins", n)
	}
}

// One query makes one login, also if that fails.
func TestLogins_OneForAQueryThatFails(t *testing.T) {
	disabled := func(s *fixture) {
		s.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
			if r.Endpoint == localsnowflake.EndpointLogin {
				return &localsnowflake.Fault{Code: localsnowflake.UserDisabled, Message: "disabled"}
			}
			return nil
		})
	}
	for name, prepare := range map[string]func(s *fixture, db *sql.DB){
		"new connection":         func(_ *fixture, db *sql.DB) { db.SetMaxIdleConns(-1) },
		"session has ended":      func(s *fixture, _ *sql.DB) { s.snowflake.EndSessions(390111) },
		"session idled too long": func(*fixture, *sql.DB) { time.Sleep(60 * time.Millisecond) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newFixture(t)
			c, db := s.connector(snowkey.WithMaxTokenAge(50 * time.Millisecond))
			s.expectKey(db, 0)
			disabled(s)
			prepare(s, db)
			before := c.Stats().FailedLogins
			if _, err := db.ExecContext(t.Context(), "SELECT 1"); err == nil || !strings.Contains(err.Error(), "disabled") {
				t.Errorf("error %v", err)
			}
			if n := c.Stats().FailedLogins - before; n != 1 {
				t.Errorf("%d logins failed", n)
			}
			s.snowflake.Intercept(nil)
			s.expectKey(db, 0)
		})
	}
}

// Slow log-outs slow down the queries that make sessions, so that sessions do not pile up.
func TestLogOuts_AreBounded(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	const workers = 4
	s := newFixture(t)
	c, db := s.connector()
	db.SetMaxOpenConns(workers)
	db.SetMaxIdleConns(-1)
	s.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
		if r.Endpoint == localsnowflake.EndpointClose {
			return &localsnowflake.Fault{Delay: time.Second}
		}
		return nil
	})
	deadline := time.Now().Add(3 * time.Second)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for time.Now().Before(deadline) {
				if _, err := db.ExecContext(t.Context(), "SELECT 1"); err != nil {
					t.Error(err)
				}
				if n := len(s.snowflake.Sessions()); n > 8+2*workers {
					t.Errorf("%d sessions of a pool of %d", n, workers)
				}
				if n := c.Stats().LoggingOutSessions; n > 8 {
					t.Errorf("%d sessions wait for their log-out", n)
				}
			}
		})
	}
	group.Wait()
	s.snowflake.Intercept(nil)
}

func TestAsyncExec_SessionEndsWithItsStatement(t *testing.T) {
	s := newFixture(t)
	c, db := s.connector()
	db.SetMaxIdleConns(-1)
	for range 30 {
		if _, err := db.ExecContext(gosnowflake.WithAsyncMode(t.Context()), "ALTER SESSION SET QUERY_TAG='x'"); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "no session is left", func() bool { return len(s.snowflake.Sessions()) == 0 })
	if kept := c.Stats().AsyncSessions; kept != 0 {
		t.Errorf("%d sessions kept", kept)
	}
}

// The result of an asynchronous Exec arrives although its connection has left the pool.
func TestAsyncExec_ResultAfterTheConnection(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
	c, db := s.connector()
	db.SetMaxIdleConns(-1)
	s.snowflake.SetInProgressAfter(10 * time.Millisecond)
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	result, err := conn.ExecContext(gosnowflake.WithAsyncMode(t.Context()), "SELECT SYSTEM$WAIT(1)")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if kept := c.Stats().AsyncSessions; kept != 1 {
		t.Errorf("%d sessions kept", kept)
	}
	if _, err := result.RowsAffected(); err != nil {
		t.Error(err)
	}
	eventually(t, "no session is left", func() bool { return len(s.snowflake.Sessions()) == 0 })
}

// The channel for the query ID is closed in every way in which a statement can end.
func TestQueryIDChannel_IsClosed(t *testing.T) {
	disableLogins := func(s *fixture) {
		s.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
			if r.Endpoint == localsnowflake.EndpointLogin {
				return &localsnowflake.Fault{Code: localsnowflake.UserDisabled, Message: "disabled"}
			}
			return nil
		})
	}
	for name, run := range map[string]func(ctx context.Context, s *fixture, db *sql.DB) error{
		"session ended on a sql.Conn": func(ctx context.Context, s *fixture, db *sql.DB) error {
			conn, err := db.Conn(context.Background())
			if err != nil {
				return err
			}
			defer conn.Close()
			if err := conn.PingContext(context.Background()); err != nil {
				return err
			}
			s.snowflake.EndSessions(390111)
			_, err = conn.ExecContext(ctx, "SELECT 1")
			return err
		},
		"healing fails": func(ctx context.Context, s *fixture, db *sql.DB) error {
			s.snowflake.EndSessions(390111)
			disableLogins(s)
			_, err := db.ExecContext(ctx, "SELECT 1")
			return err
		},
		"no session can be had": func(ctx context.Context, s *fixture, db *sql.DB) error {
			s.assign(2, 1)
			s.publish(1)
			eventually(s.t, "rotation", func() bool { return s.sessionsOf(0) == 0 })
			s.snowflake.EndSessions(390111)
			disableLogins(s)
			_, err := db.ExecContext(ctx, "SELECT 1")
			return err
		},
		"deadline": func(ctx context.Context, s *fixture, db *sql.DB) error {
			s.snowflake.SetQueryLatency(time.Minute)
			ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			defer cancel()
			_, err := db.ExecContext(ctx, "SELECT 1")
			return err
		},
		"SQL error": func(ctx context.Context, _ *fixture, db *sql.DB) error {
			_, err := db.ExecContext(ctx, "SELEC 1")
			return err
		},
		"result of an unknown ID": func(ctx context.Context, _ *fixture, db *sql.DB) error {
			return db.QueryRowContext(gosnowflake.WithFetchResultByID(ctx, "01234567-89ab-cdef-0123-456789abcdef"), "").Scan(new(string))
		},
		"broken connection": func(ctx context.Context, s *fixture, db *sql.DB) error {
			conn, err := db.Conn(context.Background())
			if err != nil {
				return err
			}
			defer conn.Close()
			s.loseBegin(conn)
			_, err = conn.ExecContext(ctx, "SELECT 1")
			return err
		},
		"transaction": func(ctx context.Context, _ *fixture, db *sql.DB) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			return errors.Join(tx.Commit(), errors.New("none"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newFixture(t)
			_, db := s.connector()
			db.SetMaxOpenConns(1)
			s.expectKey(db, 0)
			ids := make(chan string, 1)
			if err := run(gosnowflake.WithQueryIDChan(t.Context(), ids), s, db); err == nil {
				t.Error("no error")
			}
			for range 2 {
				select {
				case _, open := <-ids:
					if !open {
						return
					}
				case <-time.After(time.Minute):
					t.Fatal("the channel is not closed")
				}
			}
			t.Error("two IDs")
		})
	}
}

// loseBegin begins a transaction whose caller does not wait for the answer.
func (s *fixture) loseBegin(conn *sql.Conn) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	var lost atomic.Bool
	s.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
		if r.Statement == "BEGIN" && lost.CompareAndSwap(false, true) {
			return &localsnowflake.Fault{Poll: true}
		}
		if r.Endpoint == localsnowflake.EndpointResult {
			cancel()
			return &localsnowflake.Fault{Delay: 300 * time.Millisecond}
		}
		return nil
	})
	if _, err := conn.BeginTx(ctx, nil); err == nil {
		s.t.Error("BEGIN was answered")
	}
	s.snowflake.Intercept(nil)
}

// No statement runs in a transaction of which its caller does not know.
func TestBeginTx_UnknownOutcomeBreaksConnection(t *testing.T) {
	s := newFixture(t)
	_, db := s.connector()
	conn := hold(t, db, 1)[0]
	s.loseBegin(conn)
	if _, err := conn.ExecContext(t.Context(), marked); err == nil || !strings.Contains(err.Error(), "is broken") {
		t.Errorf("error %v", err)
	}
	conn.Close()
	s.expectNoTransaction()
	if n := s.executions(marked); n != 0 {
		t.Errorf("executed %d times", n)
	}
	s.expectKey(db, 0)
}

func TestCommit_FailureBreaksConnection(t *testing.T) {
	s := newFixture(t)
	_, db := s.connector()
	conn := hold(t, db, 1)[0]
	defer conn.Close()
	tx, err := conn.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.snowflake.Intercept(once(func(r localsnowflake.Request) bool { return r.Statement == "COMMIT" },
		localsnowflake.Fault{Code: 604, Message: "refused"}))
	if err := tx.Commit(); err == nil {
		t.Fatal("no error")
	}
	if _, err := conn.ExecContext(t.Context(), marked); err == nil {
		t.Error("a statement ran in the transaction")
	}
	s.expectNoTransaction()
}

// If the driver refuses an option before it sends anything, the connection stays.
func TestBeginTx_DriversRefusalKeepsConnection(t *testing.T) {
	s := newFixture(t)
	_, db := s.connector()
	conn := hold(t, db, 1)[0]
	defer conn.Close()
	if _, err := conn.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true}); err == nil {
		t.Fatal("no error")
	}
	if _, err := conn.ExecContext(t.Context(), marked); err != nil {
		t.Error(err)
	}
}

func TestMaxTokenAge_ZeroIsTheDefault(t *testing.T) {
	s := newFixture(t)
	c, db := s.connector(snowkey.WithMaxTokenAge(0))
	s.expectKey(db, 0)
	before := c.Stats().Logins
	for range 5 {
		s.expectKey(db, 0)
	}
	if n := c.Stats().Logins - before; n != 0 {
		t.Errorf("%d logins", n)
	}
}

// Ten pools that see the same change of the key do not all log in at once. go test -v prints when they did.
func TestJitter_SpreadsTheFirstLogins(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	const jitter = 2 * time.Second
	s := newFixture(t)
	var mu sync.Mutex
	var first []time.Time
	s.assign(2, 1)
	for range 10 {
		_, db := s.connector(snowkey.WithJitter(jitter))
		s.expectKey(db, 0)
	}
	s.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
		if r.Endpoint == localsnowflake.EndpointLogin && r.Fingerprint == testkey.Key(1).Fingerprint() {
			mu.Lock()
			defer mu.Unlock()
			first = append(first, time.Now())
		}
		return nil
	})
	began := time.Now()
	s.publish(1)
	logins := func() []time.Time { mu.Lock(); defer mu.Unlock(); return first }
	eventually(t, "ten first logins", func() bool { return len(logins()) >= 10 })
	var after []time.Duration
	for _, at := range logins() {
		after = append(after, at.Sub(began).Round(time.Millisecond))
	}
	t.Logf("first logins after %v, with a jitter of %v", after, jitter)
	if spread := after[9] - after[0]; spread < jitter/4 {
		t.Errorf("ten first logins within %v, with a jitter of %v", spread, jitter)
	}
}

// The 257th asynchronous statement waits. When its context ends, its channel is closed.
func TestAsyncExec_WaitsForASlot(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
	s.snowflake.SetInProgressAfter(time.Millisecond)
	_, db := s.connector()
	conn := hold(t, db, 1)[0]
	defer conn.Close()
	for range snowkey.MaxAsync {
		if _, err := conn.ExecContext(gosnowflake.WithAsyncMode(t.Context()), "SELECT SYSTEM$WAIT(200)"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	ids := make(chan string, 1)
	_, err := conn.ExecContext(gosnowflake.WithAsyncMode(gosnowflake.WithQueryIDChan(ctx, ids)), marked)
	if !errors.Is(err, context.DeadlineExceeded) || s.executions(marked) != 0 {
		t.Errorf("error %v, executed %d times", err, s.executions(marked))
	}
	expectIDs(t, ids, "")
}

// The same context for BEGIN and for a statement must not panic.
func TestQueryIDChannel_UsedTwice(t *testing.T) {
	s := newFixture(t)
	_, db := s.connector()
	ctx := gosnowflake.WithQueryIDChan(t.Context(), make(chan string, 1))
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(ctx, marked); err != nil {
		t.Error(err)
	}
	if err := tx.Commit(); err != nil {
		t.Error(err)
	}
}

// Connections without a session need no spare one.
func TestRotation_EmptyConnectionsGetNoLogin(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
	c, db := s.withSpares(8, snowkey.WithSpareTTL(200*time.Millisecond))
	eventually(t, "no session at all", func() bool { return len(s.snowflake.Sessions()) == 0 })
	before := c.Stats().Logins
	s.assign(1, 2)
	s.publish(2)
	eventually(t, "rotation", func() bool { return c.Stats().Rotations == 2 })
	if n := c.Stats().Logins - before; n != 1 {
		t.Errorf("%d logins", n)
	}
	s.expectKey(db, 2)
}

// After a key without jitter, the next key has jitter again.
func TestJitter_ReturnsAfterRevokedKey(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
	c, db := s.connector(snowkey.WithJitter(time.Hour))
	db.SetMaxIdleConns(-1)
	s.expectKey(db, 0)
	s.publish(1)
	s.assign(1, 1) // key 0 is revoked
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			if _, err := query(t.Context(), db); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	eventually(t, "rotation", func() bool { return c.Stats().Rotations == 1 })
	s.assign(2, 2)
	s.publish(2)
	eventually(t, "the next candidate", func() bool { return c.Stats().CandidateFingerprint == testkey.Key(2).Fingerprint() })
	time.Sleep(300 * time.Millisecond) // the jitter is ten thousand times as long
	if n := c.Stats().Rotations; n != 1 {
		t.Error("no jitter")
	}
}

// A ping waits for its own answer.
func TestPing_UnderAsyncMode(t *testing.T) {
	s := newFixture(t)
	_, db := s.connector()
	s.expectKey(db, 0)
	before := runtime.NumGoroutine()
	for range 20 {
		if err := db.PingContext(gosnowflake.WithAsyncMode(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() < before+10 })
}
