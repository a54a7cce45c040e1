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

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/shared/snowkey"
)

// endings are Snowflake's codes for a session or token that has ended.
var endings = []localsnowflake.Code{390104, 390111, 390112, 390113, 390114, 390115, 390195}

// No query fails and no statement runs twice, with any code.
func TestHeal_EndedSessionsFailNoQuery(t *testing.T) {
	testenv.Slow(t)
	for _, code := range endings {
		t.Run(code.String(), func(t *testing.T) {
			s := newFixture(t)
			var log syncBuffer
			driverLogsTo(t, &log)
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
			db.Close()
			if strings.Contains(log.String(), "error while closing session") {
				t.Errorf("the driver logged errors about sessions that are known to have ended:\n%s", log.String())
			}
		})
	}
}

func (s *fixture) expectNothingTwice() {
	s.t.Helper()
	for _, statement := range s.snowflake.Statements() {
		if statement.Executions > 1 {
			s.t.Errorf("executed %d times: %+v", statement.Executions, statement)
		}
	}
}

// Each way to send a statement gets a new session in place of one that has ended.
func TestHeal_EndedSessionIsReplaced(t *testing.T) {
	testenv.Slow(t)
	for _, code := range endings {
		for name, run := range map[string]func(ctx context.Context, db *sql.DB) error{
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
			"Arrow": func(ctx context.Context, db *sql.DB) error { return waysToSend["Arrow"](ctx, db, "SELECT 1") },
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
				s := newFixture(t)
				_, db := s.connector()
				if err := run(t.Context(), db); err != nil {
					t.Fatal(err)
				}
				s.snowflake.EndSessions(code)
				if err := run(t.Context(), db); err != nil {
					t.Error(err)
				}
				s.expectNothingTwice()
			})
		}
	}
}

func TestHeal_EndedSessionFailsTransaction(t *testing.T) {
	s := newFixture(t)
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

// A statement that is running when its session ends may have run. Its caller gets an error.
func TestHeal_StatementThatMayHaveRunIsNotResent(t *testing.T) {
	t.Parallel()
	for name, interrupt := range map[string]func(s *fixture){
		"session ends while the driver polls": func(s *fixture) { s.endSessionsAtSecondPoll(390111) },
		"session has ended at the first poll": func(s *fixture) {
			s.snowflake.SetInProgressAfter(10 * time.Millisecond)
			s.snowflake.SetQueryLatency(200 * time.Millisecond)
			s.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
				if r.Endpoint == localsnowflake.EndpointResult {
					return &localsnowflake.Fault{Code: 390111, Message: "session gone"}
				}
				return nil
			})
		},
		"token cannot be renewed while the driver polls": func(s *fixture) { s.endSessionsAtSecondPoll(390114) },
		"answer is lost and session ends": func(s *fixture) {
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
		"gateway fails and session ends": func(s *fixture) {
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
		for way, run := range waysToSend {
			t.Run(name+" "+way, func(t *testing.T) {
				t.Parallel()
				s := newFixture(t)
				_, db := s.connector()
				s.expectKey(db, 0)
				interrupt(s)
				if err := run(t.Context(), db, marked); err == nil {
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
}

// endSessionsAtSecondPoll ends all sessions while the driver polls for the result of a statement.
func (s *fixture) endSessionsAtSecondPoll(code localsnowflake.Code) {
	s.snowflake.SetInProgressAfter(20 * time.Millisecond)
	s.snowflake.SetQueryLatency(time.Minute)
	var polls atomic.Int64
	s.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
		if r.Endpoint == localsnowflake.EndpointResult && polls.Add(1) == 2 {
			s.snowflake.EndSessions(code)
		}
		return nil
	})
}

// waysToSend are the driver's ways to send a statement. Each has its own path to the first request.
var waysToSend = map[string]func(ctx context.Context, db *sql.DB, text string) error{
	"exec": func(ctx context.Context, db *sql.DB, text string) error {
		_, err := db.ExecContext(ctx, text)
		return err
	},
	"query": func(ctx context.Context, db *sql.DB, text string) error {
		return db.QueryRowContext(ctx, text).Scan(new(string))
	},
	"prepared exec": func(ctx context.Context, db *sql.DB, text string) error {
		stmt, err := db.PrepareContext(ctx, text)
		if err != nil {
			return err
		}
		defer stmt.Close()
		_, err = stmt.ExecContext(ctx)
		return err
	},
	"prepared query": func(ctx context.Context, db *sql.DB, text string) error {
		stmt, err := db.PrepareContext(ctx, text)
		if err != nil {
			return err
		}
		defer stmt.Close()
		return stmt.QueryRowContext(ctx).Scan(new(string))
	},
	"Arrow": func(ctx context.Context, db *sql.DB, text string) error {
		_, err := raw(func(ctx context.Context, c any) (any, error) {
			return c.(arrowStreamer).QueryArrowStream(ctx, text)
		})(ctx, nil, db)
		return err
	},
}

type arrowStreamer interface {
	QueryArrowStream(ctx context.Context, query string, bindings ...driver.NamedValue) (gosnowflake.ArrowStreamLoader, error)
}

const marked = "SELECT 'once and never again'"

// ran counts the statements with this text that were begun.
func (s *fixture) ran(text string) (n int) {
	for _, statement := range s.snowflake.Statements() {
		if statement.Text == text {
			n++
		}
	}
	return n
}

// executions counts how often statements with this text were executed.
func (s *fixture) executions(text string) (n int) {
	for _, statement := range s.snowflake.Statements() {
		if statement.Text == text {
			n += statement.Executions
		}
	}
	return n
}

func TestMaxTokenAge_OlderSessionIsReplaced(t *testing.T) {
	s := newFixture(t)
	_, db := s.connector(snowkey.WithMaxTokenAge(50 * time.Millisecond))
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

// Snowflake refuses an expired token, and the driver renews it and sends the statement again.
func TestHeal_DriverRenewsExpiredToken(t *testing.T) {
	s := newFixture(t)
	_, db := s.connector()
	s.expectKey(db, 0)
	logins := len(s.snowflake.Logins())
	s.snowflake.EndSessions(390112)
	s.expectKey(db, 0)
	if n := len(s.snowflake.Logins()); n != logins || s.snowflake.Counters().Renewals != 1 {
		t.Errorf("%d logins, there were %d; %d renewals", n, logins, s.snowflake.Counters().Renewals)
	}
}

// The driver fetches the result or the status of an earlier query with a request whose refusal it does not
// pass on. Such a call may fail once after the session has ended, and not again.
func TestHeal_ResultAndStatusRequests(t *testing.T) {
	for name, run := range map[string]func(ctx context.Context, db *sql.DB, id string) error{
		"result": func(ctx context.Context, db *sql.DB, id string) error {
			return db.QueryRowContext(gosnowflake.WithFetchResultByID(ctx, id), "").Scan(new(string))
		},
		"status": func(ctx context.Context, db *sql.DB, id string) error {
			_, err := raw(func(ctx context.Context, c any) (any, error) {
				return c.(gosnowflake.SnowflakeConnection).GetQueryStatus(ctx, id)
			})(ctx, nil, db)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newFixture(t)
			_, db := s.connector()
			if _, err := db.ExecContext(t.Context(), marked); err != nil {
				t.Fatal(err)
			}
			id := s.idOf(marked)
			s.snowflake.EndSessions(390111)
			_ = run(t.Context(), db, id)
			if err := run(t.Context(), db, id); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestHeal_OtherErrorsPassThrough(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
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

func TestHeal_PinnedConnectionReturnsSnowflakeError(t *testing.T) {
	s := newFixture(t)
	_, db := s.connector()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(t.Context(), "SELECT 1"); err != nil {
		t.Fatal(err)
	}
	s.snowflake.EndSessions(390111) // and with them what the first statement did to its session
	if _, err := conn.ExecContext(t.Context(), "SELECT 1"); err == nil || !strings.Contains(fmt.Sprint(err), "390111") {
		t.Errorf("error %v", err)
	}
	s.expectKey(db, 0)
}
