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
				t.Errorf("the driver complained about sessions that are known to be over:\n%s", log.String())
			}
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
			"Arrow": func(ctx context.Context, db *sql.DB) error { return waysToAsk["Arrow"](ctx, db, "SELECT 1") },
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
		"session has ended when its progress is asked for the first time": func(s *setting) {
			s.snowflake.SetInProgressAfter(10 * time.Millisecond)
			s.snowflake.SetQueryLatency(200 * time.Millisecond)
			s.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
				if r.Endpoint == localsnowflake.EndpointResult {
					return &localsnowflake.Fault{Code: 390111, Message: "session gone"}
				}
				return nil
			})
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
		for way, ask := range waysToAsk {
			t.Run(name+" "+way, func(t *testing.T) {
				t.Parallel()
				s := newSetting(t)
				_, db := s.connector()
				s.expectKey(db, 0)
				interrupt(s)
				if err := ask(t.Context(), db, marked); err == nil {
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

// waysToAsk are the driver's ways of sending a statement, each with its own path to the first request.
var waysToAsk = map[string]func(ctx context.Context, db *sql.DB, text string) error{
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

// The driver closes the channel with the first answer, also when that only says that the session is over.
func TestAQueryIDChannelGetsTheIDOfTheStatementThatRan(t *testing.T) {
	for _, code := range endings {
		s := newSetting(t)
		_, db := s.connector()
		s.expectKey(db, 0)
		s.snowflake.EndSessions(code)
		ids := make(chan string, 1)
		if _, err := db.ExecContext(gosnowflake.WithQueryIDChan(t.Context(), ids), marked); err != nil {
			t.Errorf("%v: %v", code, err)
		}
		expectIDs(t, ids, s.idOf(marked))
	}
}

// Nobody waits for the id of a statement that does not run.
func TestAQueryIDChannelIsClosedWhenAStatementIsRefusedForGood(t *testing.T) {
	s := newSetting(t)
	_, db := s.connector()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.snowflake.EndSessions(390111)
	ids := make(chan string, 1)
	if _, err := tx.ExecContext(gosnowflake.WithQueryIDChan(t.Context(), ids), marked); err == nil {
		t.Error("no error")
	}
	expectIDs(t, ids, "")
	_ = tx.Rollback()
}

// A channel without a buffer holds the statement up until the id is taken, as it does with the driver.
func TestAQueryIDArrivesWhileTheStatementRuns(t *testing.T) {
	s := newSetting(t)
	s.snowflake.SetInProgressAfter(20 * time.Millisecond)
	_, db := s.connector()
	ids := make(chan string)
	done := make(chan error, 1)
	go func() {
		_, err := db.ExecContext(gosnowflake.WithQueryIDChan(t.Context(), ids), "SELECT SYSTEM$WAIT(1)")
		done <- err
	}()
	if id := <-ids; id == "" {
		t.Error("no id")
	}
	select {
	case <-done:
		t.Error("the id came after the statement")
	default:
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func expectIDs(t *testing.T, ids <-chan string, want string) {
	t.Helper()
	if got := <-ids; got != want {
		t.Errorf("id %q, want %q", got, want)
	}
	if got, open := <-ids; open {
		t.Errorf("a second id: %q", got)
	}
}

func (s *setting) idOf(text string) string {
	for _, statement := range s.snowflake.Statements() {
		if statement.Text == text && statement.Executions > 0 {
			return statement.QueryID
		}
	}
	return "none has run"
}

// What became of a query is asked for with another request, whose refusal the driver does not pass on. So
// this fails once, and not with every connection that is taken out again.
func TestAskingForAQueryHealsThePoolToo(t *testing.T) {
	for name, ask := range map[string]func(ctx context.Context, db *sql.DB, id string) error{
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
			s := newSetting(t)
			_, db := s.connector()
			if _, err := db.ExecContext(t.Context(), marked); err != nil {
				t.Fatal(err)
			}
			id := s.idOf(marked)
			s.snowflake.EndSessions(390111)
			_ = ask(t.Context(), db, id)
			if err := ask(t.Context(), db, id); err != nil {
				t.Error(err)
			}
		})
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
