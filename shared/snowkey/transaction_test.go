package snowkey_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testenv"
)

// openTransactions counts the sessions with an open transaction.
func (s *fixture) openTransactions() (n int) {
	for _, session := range s.snowflake.Sessions() {
		if session.InTransaction {
			n++
		}
	}
	return n
}

// expectNoTransaction waits until no transaction is open: a session that had one may log out in the background.
func (s *fixture) expectNoTransaction() {
	s.t.Helper()
	eventually(s.t, "no transaction is open", func() bool { return s.openTransactions() == 0 })
}

// A transaction whose context ends must not stay open under the next user of the connection.
func TestTransaction_CanceledDoesNotStayOpen(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	for name, open := range map[string]func(*fixture) *sql.DB{
		"snowkey": func(s *fixture) *sql.DB { return s.open() },
		"driver":  func(s *fixture) *sql.DB { return s.bare() },
	} {
		t.Run(name, func(t *testing.T) {
			s := newFixture(t)
			db := open(s)
			ctx, cancel := context.WithCancel(t.Context())
			if _, err := db.BeginTx(ctx, nil); err != nil {
				t.Fatal(err)
			}
			cancel()
			eventually(t, "the connection is back in the pool", func() bool { return db.Stats().InUse == 0 })
			time.Sleep(100 * time.Millisecond)
			if _, err := db.ExecContext(t.Context(), marked); err != nil {
				t.Fatal(err)
			}
			s.expectNoTransaction()
		})
	}
}

// Statements on a sql.Conn whose transaction was canceled must not run inside of it.
func TestTransaction_CanceledOnPinnedConnection(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
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
		s.expectNoTransaction()
	}
}

// A Rollback that fails leaves no transaction open.
func TestTransaction_FailedRollbackDoesNotStayOpen(t *testing.T) {
	s := newFixture(t)
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
	s.expectNoTransaction()
}
