package snowkey_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/localsnowflake"
	"github.com/snowkey/snowkey/shared/snowkey"
)

var endings = []localsnowflake.Code{390104, 390111, 390112, 390113, 390114, 390115, 390195}

// However the sessions end, no query fails, and no statement runs twice.
func TestEndedSessionsAreNotNoticed(t *testing.T) {
	for _, code := range endings {
		t.Run(code.String(), func(t *testing.T) {
			s := newSetting(t)
			_, db := s.connector()
			db.SetMaxIdleConns(8)
			l := startLoad(t, db, 8)
			for range 3 {
				ran := l.queries.Load()
				eventually(t, "queries", func() bool { return l.queries.Load() > ran+50 })
				s.snowflake.EndSessions(code)
			}
			ran := l.queries.Load()
			eventually(t, "queries", func() bool { return l.queries.Load() > ran+50 })
			l.end()
			s.expectNothingTwice()
		})
	}
}

func (s *setting) expectNothingTwice() {
	s.t.Helper()
	for _, statement := range s.snowflake.Statements() {
		if statement.Executions > 1 {
			s.t.Errorf("executed %d times: %+v", statement.Executions, statement)
		}
	}
}

// The ways to send a statement, each of which meets an ended session.
func TestEveryWayToAskMeetsAnEndedSessionUnharmed(t *testing.T) {
	for _, code := range endings {
		for name, ask := range map[string]func(ctx context.Context, db *sql.DB) error{
			"query": func(ctx context.Context, db *sql.DB) error {
				var v string
				return db.QueryRowContext(ctx, "SELECT 1").Scan(&v)
			},
			"exec": func(ctx context.Context, db *sql.DB) error {
				_, err := db.ExecContext(ctx, "ALTER SESSION SET QUERY_TAG='x'")
				return err
			},
			"ping": func(ctx context.Context, db *sql.DB) error {
				return db.PingContext(ctx)
			},
			"sql.Conn": func(ctx context.Context, db *sql.DB) error {
				_, err := query(ctx, db)
				return err
			},
			"transaction": func(ctx context.Context, db *sql.DB) error {
				tx, err := db.BeginTx(ctx, nil)
				if err != nil {
					return err
				}
				if _, err := tx.ExecContext(ctx, "SELECT 1"); err != nil {
					return err
				}
				return tx.Commit()
			},
			"statement": func(ctx context.Context, db *sql.DB) error {
				stmt, err := db.PrepareContext(ctx, "SELECT 1")
				if err != nil {
					return err
				}
				defer stmt.Close()
				var v string
				return stmt.QueryRowContext(ctx).Scan(&v)
			},
		} {
			t.Run(code.String()+" "+name, func(t *testing.T) {
				s := newSetting(t)
				_, db := s.connector()
				if err := ask(t.Context(), db); err != nil {
					t.Fatal(err)
				}
				s.snowflake.EndSessions(code)
				if err := ask(t.Context(), db); err != nil {
					t.Error(err)
				}
				s.expectNothingTwice()
			})
		}
	}
}

func TestATransactionWhoseSessionEndedFailsAsItDoesWithTheDriver(t *testing.T) {
	s := newSetting(t)
	_, db := s.connector()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.snowflake.EndSessions(390111)
	_, err = tx.ExecContext(t.Context(), "SELECT 1")
	var se *gosnowflake.SnowflakeError
	if !errors.As(err, &se) || se.Number != 390111 || errors.Is(err, driver.ErrBadConn) {
		t.Errorf("error %v", err)
	}
	_ = tx.Rollback()
	s.expectKey(db, 0)
}

// A statement that is running when its session ends may have run: it is an error, and not run again.
func TestAStatementThatMayHaveRunIsNotRunAgain(t *testing.T) {
	for name, interrupt := range map[string]func(s *setting){
		"session ends while its progress is asked for": func(s *setting) {
			s.snowflake.SetInProgressAfter(50 * time.Millisecond)
			s.snowflake.SetQueryLatency(500 * time.Millisecond)
			time.AfterFunc(200*time.Millisecond, func() { s.snowflake.EndSessions(390111) })
		},
		"token cannot be renewed while its progress is asked for": func(s *setting) {
			s.snowflake.SetInProgressAfter(50 * time.Millisecond)
			s.snowflake.SetQueryLatency(500 * time.Millisecond)
			time.AfterFunc(200*time.Millisecond, func() { s.snowflake.EndSessions(390114) })
		},
		"the answer is lost and the session ends": func(s *setting) {
			var lost atomic.Bool
			s.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
				if r.Statement != marked {
					return nil
				}
				if lost.CompareAndSwap(false, true) {
					return &localsnowflake.Fault{After: true, Drop: true}
				}
				return &localsnowflake.Fault{Code: 390111, Message: "session gone"}
			})
		},
		"an answer of the gateway is lost and the session ends": func(s *setting) {
			var lost atomic.Bool
			s.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
				if r.Statement != marked {
					return nil
				}
				if lost.CompareAndSwap(false, true) {
					return &localsnowflake.Fault{After: true, Status: 503}
				}
				return &localsnowflake.Fault{Code: 390111, Message: "session gone"}
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSetting(t)
			_, db := s.connector()
			s.expectKey(db, 0)
			interrupt(s)
			_, err := db.ExecContext(t.Context(), marked)
			if err == nil {
				t.Error("no error")
			}
			s.snowflake.Intercept(nil)
			s.snowflake.SetQueryLatency(0)
			if n := s.ran(marked); n > 1 {
				t.Errorf("ran %d times", n)
			}
			s.expectKey(db, 0)
		})
	}
}

const marked = "SELECT 'once and never again'"

// ran is how often a statement was begun.
func (s *setting) ran(text string) (n int) {
	for _, statement := range s.snowflake.Statements() {
		if statement.Text == text {
			n++
		}
	}
	return n
}

func TestASessionThatIdledTooLongIsNotUsed(t *testing.T) {
	s := newSetting(t)
	_, db := s.connector(snowkey.WithMaxIdle(50 * time.Millisecond))
	s.expectKey(db, 0)
	logins := len(s.snowflake.Logins())
	s.expectKey(db, 0)
	if n := len(s.snowflake.Logins()); n != logins {
		t.Errorf("%d logins, there were %d", n, logins)
	}
	time.Sleep(60 * time.Millisecond)
	s.expectKey(db, 0)
	if n := len(s.snowflake.Logins()); n != logins+1 {
		t.Errorf("%d logins, there were %d", n, logins)
	}
}

// The first requests of a renewed session are refused as expired and sent again by the driver.
func TestExpiredTokensAreRenewedByTheDriver(t *testing.T) {
	s := newSetting(t)
	_, db := s.connector()
	s.expectKey(db, 0)
	logins := len(s.snowflake.Logins())
	s.snowflake.EndSessions(390112)
	s.expectKey(db, 0)
	if n := len(s.snowflake.Logins()); n != logins || s.snowflake.Counters().Renewals != 1 {
		t.Errorf("%d logins, there were %d; %d renewals", n, logins, s.snowflake.Counters().Renewals)
	}
}

// The driver closes the channel when the first session refuses the statement: sent again, it would write
// to a closed channel. So this one statement comes back as an error.
func TestAQueryIDChannelIsWrittenToOnce(t *testing.T) {
	for _, code := range endings {
		s := newSetting(t)
		_, db := s.connector()
		s.expectKey(db, 0)
		s.snowflake.EndSessions(code)
		ids := make(chan string, 1)
		ctx := gosnowflake.WithQueryIDChan(t.Context(), ids)
		_, err := db.ExecContext(ctx, "SELECT 1")
		if renewable := code == 390112; (err == nil) != renewable {
			t.Errorf("%v: error %v", code, err)
		}
		s.expectKey(db, 0)
	}
}

func TestOtherErrorsAreTheDriversOwn(t *testing.T) {
	s := newSetting(t)
	_, db := s.connector()
	_, err := db.ExecContext(t.Context(), "SELEC 1")
	var se *gosnowflake.SnowflakeError
	if !errors.As(err, &se) || se.Number != 1003 || se.QueryID == "" {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := db.ExecContext(ctx, "SELECT SYSTEM$WAIT(5)"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	s.expectKey(db, 0)
}

func TestAPinnedConnectionSaysWhatSnowflakeSaid(t *testing.T) {
	s := newSetting(t)
	_, db := s.connector()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(t.Context(), "SELECT 1"); err != nil {
		t.Fatal(err)
	}
	s.snowflake.EndSessions(390111) // and with it whatever the first statement did to the session
	if _, err := conn.ExecContext(t.Context(), "SELECT 1"); err == nil || !strings.Contains(fmt.Sprint(err), "390111") {
		t.Errorf("error %v", err)
	}
	s.expectKey(db, 0)
}
