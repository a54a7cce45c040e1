package snowkey_test

import (
	"testing"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
)

// An asynchronous statement runs on after its connection is idle, so its session outlives a rotation.
func TestAsyncExec_OutlivesRotation(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
	c, db := s.connector()
	s.snowflake.SetInProgressAfter(100 * time.Millisecond)
	result, err := db.ExecContext(gosnowflake.WithAsyncMode(t.Context()), "SELECT SYSTEM$WAIT(2)")
	if err != nil {
		t.Fatal(err)
	}
	s.assign(2, 1)
	s.publish(1)
	eventually(t, "key 1", func() bool { return c.Stats().ServingFingerprint == testkey.Key(1).Fingerprint() })
	if _, err := result.RowsAffected(); err != nil {
		t.Error(err)
	}
}

// The asynchronous statements of a busy pool do not each leave a session.
func TestAsyncQuery_SessionsDoNotPileUp(t *testing.T) {
	s := newFixture(t)
	_, db := s.connector()
	db.SetMaxIdleConns(-1)
	for range 40 {
		rows, err := db.QueryContext(gosnowflake.WithAsyncMode(t.Context()), "SELECT 1")
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
		}
		rows.Close() // all rows were read
	}
	eventually(t, "at most five sessions", func() bool { return len(s.snowflake.Sessions()) <= 5 })
}
