package snowkey_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testenv"
)

// fakesnowEndpoint is where make test-fakesnow has started fakesnow.
func fakesnowEndpoint() string { return os.Getenv("FAKESNOW_ENDPOINT") }

// onEachSnowflake runs a test at the local Snowflake and, by make test-fakesnow, at fakesnow.
func onEachSnowflake(t *testing.T, test func(t *testing.T, s *fixture)) {
	t.Run("local", func(t *testing.T) { test(t, newFixture(t)) })
	if fakesnowEndpoint() != "" {
		t.Run("fakesnow", func(t *testing.T) { test(t, newPortableFixture(t)) })
	}
}

// newPortableFixture returns the key file of a task that uses fakesnow, and a database of its own. It has no local Snowflake.
// fakesnow knows no public keys and accepts each login, so refused logins are for tests with the local Snowflake only.
func newPortableFixture(t *testing.T) *fixture {
	t.Helper()
	u, err := url.Parse(fakesnowEndpoint())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	s := &fixture{t: t, path: filepath.Join(t.TempDir(), "rsa_key.der"), cfg: gosnowflake.Config{
		Account: "LOCAL", User: "ETL", Protocol: u.Scheme, Host: u.Hostname(), Port: port,
		Database: "T" + rand.Text(), Schema: "S",
	}}
	s.publish(0)
	return s
}

// unassign empties a slot of the user.
func (s *fixture) unassign(slot int) {
	if s.snowflake != nil {
		s.snowflake.UnsetPublicKey("ETL", slot)
	}
}

func (s *fixture) setLoginLatency(d time.Duration) {
	if s.snowflake != nil {
		s.snowflake.SetLoginLatency(d)
	}
}

// sessions returns the open sessions, if Snowflake tells them.
func (s *fixture) sessions() []localsnowflake.Session {
	if s.snowflake == nil {
		return nil
	}
	return s.snowflake.Sessions()
}

// Tables, and rows that are written while keys change, are there for each key. The local Snowflake has fakesnow behind
// it, as it has no tables of its own.
func TestTables_StayInARotation(t *testing.T) {
	testenv.Slow(t)
	if fakesnowEndpoint() == "" {
		t.Skip("there is no SQL engine: make test-fakesnow runs this")
	}
	t.Run("local", func(t *testing.T) {
		engine, err := url.Parse(fakesnowEndpoint())
		if err != nil {
			t.Fatal(err)
		}
		s := newFixture(t, localsnowflake.WithEngine(engine, waitLimit))
		t.Cleanup(s.snowflake.Close)
		s.cfg.Database, s.cfg.Schema = "T"+rand.Text(), "S"
		tablesStay(s)
	})
	t.Run("fakesnow", func(t *testing.T) { tablesStay(newPortableFixture(t)) })
}

func tablesStay(s *fixture) {
	t := s.t
	db := s.open()
	ctx, cancel := context.WithTimeout(t.Context(), 2*waitLimit)
	defer cancel()
	// A column called "at" is one to Snowflake, and to fakesnow a syntax error: DuckDB reserves the word.
	mustExec(ctx, t, db, "CREATE TABLE events (id INT, name VARCHAR, happened TIMESTAMP_NTZ)")
	at := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
	mustExec(ctx, t, db, "INSERT INTO events VALUES (?, ?, ?)", 0, "it's", at)

	written := 1
	for n := 1; n <= 3; n++ {
		l := startLoadOf(t, 2, func() (string, error) {
			var rows int
			return "", db.QueryRowContext(ctx, "SELECT COUNT(*) FROM events").Scan(&rows)
		})
		s.assign(1+n%2, n%3)
		s.publish(n % 3)
		for range 5 {
			mustExec(ctx, t, db, "INSERT INTO events (id, name) VALUES (?, ?)", written, "while keys change")
			written++
		}
		s.expectKey(db, n%3)
		l.end()
		var rows, highest int
		if err := db.QueryRowContext(ctx, "SELECT COUNT(*), MAX(id) FROM events").Scan(&rows, &highest); err != nil {
			t.Fatal(err)
		}
		if rows != written || highest != written-1 {
			t.Errorf("after %d rotations: %d rows up to %d, want %d", n, rows, highest, written)
		}
	}
	rolledBack(ctx, t, db)
	var name string
	var stored time.Time
	first := db.QueryRowContext(ctx, "SELECT name, happened FROM events WHERE id = ?", 0)
	if err := first.Scan(&name, &stored); err != nil {
		t.Fatal(err)
	}
	if name != "it's" || !stored.Equal(at) {
		t.Errorf("the first row is %q, %v", name, stored)
	}
}

// rolledBack deletes all rows, and rolls that back.
func rolledBack(ctx context.Context, t *testing.T, db *sql.DB) {
	t.Helper()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM events"); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
}

func mustExec(ctx context.Context, t *testing.T, db *sql.DB, text string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(ctx, text, args...); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}
