package snowkey_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/localsnowflake"
	"github.com/snowkey/snowkey/internal/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/shared/snowkey"
)

// connector is for tests that read Stats or events.
func (s *setting) connector(opts ...snowkey.Option) (*snowkey.Connector, *sql.DB) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	c, err := snowkey.NewConnector(ctx, s.path, s.cfg, opts...)
	if err != nil {
		s.t.Fatal(err)
	}
	db := sql.OpenDB(c)
	s.t.Cleanup(func() { db.Close() })
	return c, db
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// load runs queries on db from several goroutines until it is stopped, and then lets them finish: a
// login that is cut off leaves a session that nobody knows.
type load struct {
	stopped atomic.Bool
	workers sync.WaitGroup
	queries atomic.Int64
	worst   atomic.Int64
	keys    sync.Map
}

func startLoad(t *testing.T, db *sql.DB, workers int) *load {
	return startLoadOf(t, workers, func() (string, error) { return query(context.Background(), db) })
}

func startLoadOf(t *testing.T, workers int, ask func() (key string, err error)) *load {
	l := new(load)
	for range workers {
		l.workers.Go(func() {
			for !l.stopped.Load() {
				began := time.Now()
				key, err := ask()
				if err != nil {
					t.Error(err)
					return
				}
				l.queries.Add(1)
				l.keys.Store(key, true)
				for took := int64(time.Since(began)); ; {
					worst := l.worst.Load()
					if took <= worst || l.worst.CompareAndSwap(worst, took) {
						break
					}
				}
			}
		})
	}
	t.Cleanup(l.end)
	return l
}

func (l *load) end() {
	l.stopped.Store(true)
	l.workers.Wait()
}

func (l *load) ran(n int) bool {
	_, ok := l.keys.Load(testkey.Key(n).Fingerprint())
	return ok
}

func TestNoQueryWaitsForALoginDuringARotation(t *testing.T) {
	const login = 3 * time.Second // far more than a loaded machine needs for a query
	s := newSetting(t)
	c, db := s.connector()
	db.SetMaxIdleConns(8)
	l := startLoad(t, db, 8)
	eventually(t, "8 connections", func() bool { return c.Stats().Open >= 8 })
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

func TestARefusedKeyIsAdoptedWhenItIsAcceptedAndTheOldOneServesUntilThen(t *testing.T) {
	s := newSetting(t)
	var log syncBuffer
	driverLogsTo(t, &log)
	events := make(chan snowkey.Event, 100)
	c, db := s.connector(snowkey.WithEvents(func(e snowkey.Event) { events <- e }))
	db.SetMaxIdleConns(0) // each query logs in: new connections go on, too
	l := startLoad(t, db, 2)
	s.publish(1)
	eventually(t, "a refusal", func() bool { return c.Stats().Refusals > 1 })
	st := c.Stats()
	if st.Serving != testkey.Key(0).Fingerprint() || st.Candidate != testkey.Key(1).Fingerprint() || st.LastError == nil {
		t.Errorf("stats %+v", st)
	}
	ran := l.queries.Load()
	eventually(t, "queries meanwhile", func() bool { return l.queries.Load() > ran+10 })
	s.assign(2, 1)
	eventually(t, "a query on the new key", func() bool { return l.ran(1) })
	l.end()
	if st := c.Stats(); st.Candidate != "" || st.Rotations != 1 || st.LastError != nil {
		t.Errorf("stats %+v", st)
	}
	var kinds []string
	for len(events) > 0 {
		kinds = append(kinds, string((<-events).Kind))
	}
	if len(kinds) < 3 || kinds[0] != "adopted" || kinds[1] != "refused" || kinds[len(kinds)-1] != "adopted" {
		t.Errorf("events %v", kinds)
	}
	if text := log.String(); text != "" {
		t.Errorf("the driver complained about an expected refusal:\n%s", text)
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// driverLogsTo is called before anything logs in and undone after everything has stopped: the driver's
// logger is one for the program, and its output must not be changed while it writes.
func driverLogsTo(t *testing.T, w *syncBuffer) {
	gosnowflake.GetLogger().SetOutput(w)
	t.Cleanup(func() { gosnowflake.GetLogger().SetOutput(os.Stderr) })
}

func TestGarbageAndRemovalChangeNothing(t *testing.T) {
	s := newSetting(t)
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

func TestANewerKeySupersedesOneUnderWay(t *testing.T) {
	s := newSetting(t)
	c, db := s.connector()
	l := startLoad(t, db, 2)
	eventually(t, "queries", func() bool { return l.queries.Load() > 10 })
	s.snowflake.SetLoginLatency(time.Second)
	s.assign(2, 1)
	s.publish(1)
	eventually(t, "a candidate", func() bool { return c.Stats().Candidate == testkey.Key(1).Fingerprint() })
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

func TestManyRotations(t *testing.T) {
	s := newSetting(t)
	s.snowflake.SetLoginLatency(5 * time.Millisecond)
	c, db := s.connector()
	db.SetMaxIdleConns(8)
	l := startLoad(t, db, 8)
	for n := 1; n <= 40; n++ {
		s.assign(1+n%2, n%4)
		s.publish(n % 4)
		eventually(t, "the new key", func() bool { return c.Stats().Serving == testkey.Key(n%4).Fingerprint() })
	}
	ran := l.queries.Load()
	eventually(t, "queries", func() bool { return l.queries.Load() > ran+50 })
}

func TestWhenTheServingKeyIsRevokedTheNewestIsTriedAtOnce(t *testing.T) {
	s := newSetting(t)
	c, db := s.connector(snowkey.WithPollInterval(time.Hour))
	db.SetMaxIdleConns(0)
	s.expectKey(db, 0)
	// The new key is in the file and refused at first, so that its next try is some time away.
	s.publish(1)
	eventually(t, "refusals", func() bool { return c.Stats().Refusals >= 4 })
	s.assign(1, 1) // at once: the old one is out, the new one in
	for range 20 {
		key, err := query(t.Context(), db)
		if err != nil || key != testkey.Key(1).Fingerprint() {
			t.Fatalf("key %s, error %v", key, err)
		}
	}
}

func TestWhenTheServingKeyIsRevokedTheSidecarIsAsked(t *testing.T) {
	s := newSetting(t)
	socket := filepath.Join(filepath.Dir(s.path), keyfile.SocketName)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	asked := make(chan struct{}, 10)
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			c.Close()
			asked <- struct{}{}
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
	case <-asked:
	case <-time.After(patience):
		t.Error("the sidecar was not asked")
	}
	s.publish(1)
	eventually(t, "a query on the new key", func() bool {
		key, err := query(t.Context(), db)
		return err == nil && key == testkey.Key(1).Fingerprint()
	})
}

func TestOpenWaitsUntilTheKeyIsAccepted(t *testing.T) {
	s := newSetting(t)
	s.snowflake.UnsetPublicKey("ETL", 1)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := snowkey.Open(ctx, s.path, s.cfg)
	if err == nil || !strings.Contains(err.Error(), "394304") || !strings.Contains(err.Error(), testkey.Key(0).Fingerprint()) {
		t.Errorf("error %v", err)
	}
	time.AfterFunc(100*time.Millisecond, func() { s.assign(1, 0) })
	s.expectKey(s.open(), 0)
}

func TestOpenDoesNotWaitForASnowflakeThatCannotBeAsked(t *testing.T) {
	s := newSetting(t)
	s.snowflake.Intercept(func(localsnowflake.Request) *localsnowflake.Fault {
		return &localsnowflake.Fault{Code: 390100, Message: "Incorrect username or password was specified."}
	})
	db := s.open()
	if _, err := query(t.Context(), db); err == nil {
		t.Error("a query ran")
	}
	s.snowflake.Intercept(nil)
	s.expectKey(db, 0)
}

func TestIdleConnectionsOfTheOldKeyAreLoggedOut(t *testing.T) {
	s := newSetting(t)
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

func (s *setting) sessionsOf(n int) (count int) {
	for _, session := range s.snowflake.Sessions() {
		if session.Fingerprint == testkey.Key(n).Fingerprint() {
			count++
		}
	}
	return count
}

func TestLoggingOutHoldsUpNoQuery(t *testing.T) {
	s := newSetting(t)
	_, db := s.connector()
	db.SetMaxIdleConns(4)
	l := startLoad(t, db, 4)
	eventually(t, "queries", func() bool { return l.queries.Load() > 20 })
	s.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
		if r.Endpoint == localsnowflake.EndpointClose {
			return &localsnowflake.Fault{Delay: 2 * time.Second}
		}
		return nil
	})
	l.worst.Store(0)
	s.assign(2, 1)
	s.publish(1)
	eventually(t, "a query on the new key", func() bool { return l.ran(1) })
	time.Sleep(100 * time.Millisecond)
	l.end()
	if worst := time.Duration(l.worst.Load()); worst > time.Second {
		t.Errorf("a query took %v", worst)
	}
	s.snowflake.Intercept(nil)
}

// Statements, rows, transactions and connections that are in use finish on the old key.
func TestWhatIsUnderWayFinishesOnTheOldKey(t *testing.T) {
	s := newSetting(t)
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

// withSetAside is a pool that was rotated to key 1 while n of its connections were idle.
func (s *setting) withSetAside(n int, opts ...snowkey.Option) (*snowkey.Connector, *sql.DB) {
	s.t.Helper()
	c, db := s.connector(opts...)
	db.SetMaxIdleConns(n)
	l := startLoad(s.t, db, n)
	eventually(s.t, "connections", func() bool { return c.Stats().Open >= n })
	l.end()
	s.assign(2, 1)
	s.publish(1)
	eventually(s.t, "sessions set aside", func() bool { return c.Stats().SetAside >= n })
	return c, db
}

func TestLoginsPreparedAndNotUsedAreClosed(t *testing.T) {
	s := newSetting(t)
	c, db := s.withSetAside(8)
	s.assign(1, 2)
	s.publish(2) // the next rotation leaves none of them over
	eventually(t, "the next rotation", func() bool { return c.Stats().Rotations == 2 })
	eventually(t, "no session but those of the newest key", func() bool { return s.sessionsOf(1) == 0 && s.sessionsOf(0) == 0 })
	db.Close()
	if left := s.snowflake.Sessions(); len(left) > 0 {
		t.Errorf("sessions left: %+v", left)
	}
}

func TestSessionsSetAsideAreKeptForAWhile(t *testing.T) {
	s := newSetting(t)
	c, db := s.withSetAside(4, snowkey.WithKeep(300*time.Millisecond))
	eventually(t, "none any more", func() bool { return c.Stats().SetAside == 0 && len(s.snowflake.Sessions()) == 0 })
	s.expectKey(db, 1)
}

func TestPausesBetweenTriesGrowAndAreBounded(t *testing.T) {
	var last time.Duration
	for tries := range 20 {
		var longest time.Duration
		for range 2000 {
			longest = max(longest, snowkey.Pause(tries+1))
		}
		if longest > snowkey.LongestPause || tries < 5 && longest < last {
			t.Errorf("after %d tries up to %v, before that %v", tries+1, longest, last)
		}
		last = longest
	}
}

// What is set aside can end like any other session, and the query that gets it must not notice.
func TestSessionsSetAsideThatEnded(t *testing.T) {
	s := newSetting(t)
	_, db := s.withSetAside(4)
	s.snowflake.EndSessions(390111)
	l := startLoad(t, db, 8)
	eventually(t, "queries", func() bool { return l.queries.Load() > 50 })
}

func TestEventsPrintNoKey(t *testing.T) {
	s := newSetting(t)
	var out syncBuffer
	c, db := s.connector(snowkey.WithEvents(func(e snowkey.Event) { fmt.Fprintf(&out, "%v %+v %#v\n", e, e, e) }))
	s.assign(2, 1)
	s.publish(1)
	s.expectKey(db, 1)
	fmt.Fprintf(&out, "%+v %#v\n", c.Stats(), c.Stats())
	for n := range 2 {
		d := testkey.Key(n).RSA().D
		if strings.Contains(out.String(), d.String()) || strings.Contains(out.String(), d.Text(16)) {
			t.Error("a key is in the output")
		}
	}
}

// A rotation while Snowflake answers logins with an error that is no refusal, after the probe.
func TestARotationDuringALoginOutageBreaksNothing(t *testing.T) {
	s := newSetting(t)
	c, db := s.connector()
	db.SetMaxIdleConns(8)
	db.SetMaxOpenConns(8)
	l := startLoad(t, db, 8)
	eventually(t, "8 connections", func() bool { return c.Stats().Open >= 8 })
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

// Sessions set aside and not used go after a while, whatever the next candidate does.
func TestSessionsSetAsideGoWhileACandidateIsRefused(t *testing.T) {
	s := newSetting(t)
	c, _ := s.withSetAside(4, snowkey.WithKeep(300*time.Millisecond))
	s.publish(2) // never assigned
	eventually(t, "a refusal", func() bool { return c.Stats().Refusals > 0 })
	eventually(t, "none set aside", func() bool { return c.Stats().SetAside == 0 })
}

// What was begun asynchronously on a connection that is idle since is under way, too.
func TestAnAsynchronousStatementOutlivesARotation(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	c, db := s.connector()
	s.snowflake.SetInProgressAfter(100 * time.Millisecond)
	result, err := db.ExecContext(gosnowflake.WithAsyncMode(t.Context()), "SELECT SYSTEM$WAIT(2)")
	if err != nil {
		t.Fatal(err)
	}
	s.assign(2, 1)
	s.publish(1)
	eventually(t, "key 1", func() bool { return c.Stats().Serving == testkey.Key(1).Fingerprint() })
	if _, err := result.RowsAffected(); err != nil {
		t.Error(err)
	}
}

// Rotation upon rotation with a small pool: no query sees driver.ErrBadConn.
func TestRotationsWithASmallPool(t *testing.T) {
	s := newSetting(t)
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
	for k := 1; k <= 100; k++ {
		s.assign(1+k%2, k%3)
		s.publish(k % 3)
		eventually(t, "the key", func() bool { return c.Stats().Serving == testkey.Key(k%3).Fingerprint() })
	}
	stop()
	workers.Wait()
	t.Log(n, "queries")
	if len(failures) > 0 {
		t.Error(failures)
	}
}
