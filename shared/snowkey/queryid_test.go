package snowkey_test

import (
	"testing"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/tools/testenv"
)

// The driver closes the channel with the first answer, even if that only says that the session has ended.
func TestQueryIDChannel_GetsIDOfExecutedStatement(t *testing.T) {
	for _, code := range endings {
		t.Run(code.String(), func(t *testing.T) {
			s := newFixture(t)
			_, db := s.connector()
			s.expectKey(db, 0)
			s.snowflake.EndSessions(code)
			ids := make(chan string, 1)
			if _, err := db.ExecContext(gosnowflake.WithQueryIDChan(t.Context(), ids), marked); err != nil {
				t.Error(err)
			}
			expectIDs(t, ids, s.idOf(marked))
		})
	}
}

// The channel is closed if the statement does not run, so that no reader waits forever.
func TestQueryIDChannel_ClosedForRefusedStatement(t *testing.T) {
	s := newFixture(t)
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

// An unbuffered channel blocks the statement until its reader takes the ID, as it does with the driver.
func TestQueryIDChannel_GetsIDWhileStatementRuns(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
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

func (s *fixture) idOf(text string) string {
	for _, statement := range s.snowflake.Statements() {
		if statement.Text == text && statement.Executions > 0 {
			return statement.QueryID
		}
	}
	return "no such statement has run"
}
