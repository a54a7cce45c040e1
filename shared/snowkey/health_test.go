package snowkey_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/shared/snowkey"
)

func TestHealth_TellsCandidateFromServingKey(t *testing.T) {
	s := newFixture(t)
	c, db := s.connector()
	db.SetMaxIdleConns(-1)
	s.expectKey(db, 0)
	if err := c.Health(); err != nil {
		t.Errorf("at rest: %v", err)
	}
	s.publish(1)
	eventually(t, "the candidate is refused", func() bool { return errors.Is(c.Health(), snowkey.ErrCandidateRefused) })
	if !strings.Contains(c.Health().Error(), "394304") {
		t.Errorf("without Snowflake's answer: %v", c.Health())
	}
	s.expectKey(db, 0)
	s.snowflake.UnsetPublicKey("ETL", 1)
	if _, err := query(t.Context(), db); err == nil {
		t.Error("no error")
	}
	if err := c.Health(); !errors.Is(err, snowkey.ErrServingKeyRefused) || errors.Is(err, snowkey.ErrCandidateRefused) {
		t.Errorf("the serving key is refused: %v", err)
	}
	s.assign(1, 0)
	s.expectKey(db, 0)
	if err := c.Health(); !errors.Is(err, snowkey.ErrCandidateRefused) {
		t.Errorf("the serving key is accepted again: %v", err)
	}
	s.assign(2, 1)
	s.expectKey(db, 1)
	if err := c.Health(); err != nil {
		t.Errorf("after the rotation: %v", err)
	}
}

func TestStats_CountsFailuresAndHeals(t *testing.T) {
	s := newFixture(t)
	c, db := s.connector()
	s.expectKey(db, 0)
	s.snowflake.EndSessions(390111)
	s.expectKey(db, 0)
	if st := c.Stats(); st.ReplacedSessions != 1 || st.Logins != 2 || st.FailedLogins != 0 {
		t.Errorf("%+v", st)
	}
	s.publish(1)
	eventually(t, "a refusal", func() bool { return c.Stats().RefusedLogins > 0 })
	if st := c.Stats(); st.FailedLogins < st.RefusedLogins {
		t.Errorf("%+v", st)
	}
}

// "context deadline exceeded" alone does not help a reader.
func TestErrors_NameHostAndCause(t *testing.T) {
	t.Parallel()
	const closedPort = 1 // another test's server cannot have it
	for name, c := range map[string]struct {
		breakIt func(s *fixture)
		want    []string
	}{
		"connection refused": {func(s *fixture) { s.cfg.Port = closedPort }, []string{"127.0.0.1:" + strconv.Itoa(closedPort), "connection refused"}},
		"unknown host":       {func(s *fixture) { s.cfg.Host = "account.invalid" }, []string{"no connection to Snowflake at account.invalid"}},
		"no answer":          {func(s *fixture) { s.snowflake.SetLoginLatency(time.Minute) }, []string{"no answer to a login", "127.0.0.1:"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newFixture(t)
			c.breakIt(s)
			_, db := s.connector()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			_, err := db.ExecContext(ctx, "SELECT 1")
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("error %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q, want %q in it", err, want)
				}
			}
		})
	}
}

// The TCP connection of the session is gone, and Snowflake can no longer be reached.
func TestErrors_NameTheHostOfAStatement(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
	logins := s.countLogins()
	s.cfg.MaxRetryCount = 1 // or the driver tries to cancel the statement for a minute
	_, db := s.connector()
	s.expectKey(db, 0)
	logins.close()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // the first retry comes after one to three
	defer cancel()
	_, err := db.ExecContext(ctx, "SELECT 1")
	t.Log(err)
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1:"+strconv.Itoa(s.cfg.Port)) {
		t.Errorf("error %v", err)
	}
}

func TestSessionInit_RunsOnEverySession(t *testing.T) {
	s := newFixture(t)
	c, db := s.connector(snowkey.WithSessionInit(func(ctx context.Context, conn driver.Conn) error {
		_, err := conn.(driver.ExecerContext).ExecContext(ctx, "USE WAREHOUSE REPORTING", nil)
		return err
	}))
	db.SetMaxIdleConns(4)
	expect := func(when string) {
		t.Helper()
		var warehouse string
		if err := db.QueryRow("SELECT current_warehouse()").Scan(&warehouse); err != nil || warehouse != "REPORTING" {
			t.Errorf("%s: warehouse %q, error %v", when, warehouse, err)
		}
	}
	expect("at first")
	for _, conn := range hold(t, db, 4) { // so that there are spare sessions
		defer conn.Close()
	}
	s.assign(2, 1)
	s.publish(1)
	eventually(t, "spare sessions", func() bool { return c.Stats().SpareSessions >= 4 })
	for range 4 {
		expect("after a rotation")
	}
	s.expectKey(db, 1)
	s.snowflake.EndSessions(390111)
	expect("after the sessions ended")
}

func TestSessionInit_FailingSessionIsNotUsed(t *testing.T) {
	s := newFixture(t)
	failing := errors.New("no such warehouse")
	if _, err := snowkey.Open(t.Context(), s.path, s.cfg, snowkey.WithSessionInit(func(context.Context, driver.Conn) error { return failing })); !errors.Is(err, failing) {
		t.Errorf("Open: %v", err)
	}
	fail := make(chan error, 1)
	fail <- nil
	c, db := s.connector(snowkey.WithSessionInit(func(context.Context, driver.Conn) error {
		err := <-fail
		fail <- err
		return err
	}))
	s.expectKey(db, 0)
	<-fail
	fail <- failing
	s.assign(2, 1)
	s.publish(1)
	eventually(t, "the candidate is tried", func() bool { return errors.Is(c.Stats().CandidateErr, failing) })
	s.expectKey(db, 0)
	s.snowflake.EndSessions(390111)
	if _, err := db.ExecContext(t.Context(), marked); !errors.Is(err, failing) {
		t.Errorf("error %v", err)
	}
	if n := s.executions(marked); n != 0 {
		t.Error("the statement ran on a session that was not initialized")
	}
	<-fail
	fail <- nil
	s.expectKey(db, 1)
	eventually(t, "no session is left that failed", func() bool { return s.sessionsOf(0) == 0 })
}

func TestFingerprint_Connections(t *testing.T) {
	s := newFixture(t)
	c, db := s.connector()
	want := c.Stats().ServingFingerprint
	conn := hold(t, db, 1)[0]
	defer conn.Close()
	if got, err := snowkey.Fingerprint(conn); err != nil || got != want {
		t.Errorf("sql.Conn: %q, %v", got, err)
	}
	raw, err := c.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if got, err := snowkey.Fingerprint(raw); err != nil || got != want {
		t.Errorf("driver.Conn: %q, %v", got, err)
	}
	if got, err := snowkey.Fingerprint(wrappedConn{raw}); err != nil || got != want {
		t.Errorf("wrapped: %q, %v", got, err)
	}
	for _, foreign := range []any{nil, "text", wrappedConn{nil}} {
		if _, err := snowkey.Fingerprint(foreign); err == nil {
			t.Errorf("no error for %v", foreign)
		}
	}
}

type wrappedConn struct{ driver.Conn }

func (w wrappedConn) Raw() driver.Conn { return w.Conn }

// The driver's logger belongs to the whole program.
func TestOpen_LeavesTheDriversLoggerAlone(t *testing.T) {
	s := newFixture(t)
	before := gosnowflake.GetLogger()
	db, err := snowkey.Open(t.Context(), s.path, s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if gosnowflake.GetLogger() != before {
		t.Error("Open has replaced it")
	}
}
