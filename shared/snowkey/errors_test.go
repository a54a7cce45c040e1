package snowkey_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/shared/snowkey"
)

func TestOpen_ErrorsTellWhatWasMissing(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	s.snowflake.UnsetPublicKey("ETL", 1)
	garbage := filepath.Join(t.TempDir(), "garbage.der")
	if err := os.WriteFile(garbage, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		path string
		want error
	}{
		"no file":   {filepath.Join(t.TempDir(), "none.der"), fs.ErrNotExist},
		"not a key": {garbage, keyfile.ErrNotKey},
		"refused":   {s.path, snowkey.ErrKeyRefused},
	} {
		t.Run(name, func(t *testing.T) {
			cause := errors.New("the program ends")
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if tc.path != s.path {
				time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
			}
			_, err := snowkey.Open(ctx, tc.path, s.cfg, snowkey.WithEvents(func(snowkey.Event) { cancel(cause) }))
			for _, want := range []error{tc.want, cause} {
				if !errors.Is(err, want) {
					t.Errorf("error %v is not %q", err, want)
				}
			}
			if errors.Is(err, snowkey.ErrInvalidConfig) {
				t.Errorf("error %v is about the configuration", err)
			}
			var answer *gosnowflake.SnowflakeError
			if name == "refused" && (!errors.As(err, &answer) || answer.Number != 394304) {
				t.Errorf("error %v is without Snowflake's answer", err)
			}
		})
	}
}

// Like sql.Open, Open does not wait if the configuration can never work.
func TestOpen_InvalidConfigIsToldApart(t *testing.T) {
	s := newFixture(t)
	for name, change := range map[string]func(*gosnowflake.Config){
		"another login": func(c *gosnowflake.Config) { c.Authenticator = gosnowflake.AuthTypeOAuth },
		"no account":    func(c *gosnowflake.Config) { c.Account, c.Host = "", "" },
		"no user":       func(c *gosnowflake.Config) { c.User = "" },
		"an account":    func(c *gosnowflake.Config) { c.Account = "https://example.com" },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := s.cfg
			change(&cfg)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, err := snowkey.Open(ctx, s.path, cfg); !errors.Is(err, snowkey.ErrInvalidConfig) {
				t.Errorf("error %v", err)
			}
		})
	}
	if _, err := sql.Open("snowkey", "ETL@myorg-myaccount/DB"); !errors.Is(err, snowkey.ErrInvalidConfig) {
		t.Errorf("a data source name without a key file: error %v", err)
	}
}

func TestQuery_RefusedKeyIsToldApart(t *testing.T) {
	s := newFixture(t)
	c, db := s.connector()
	db.SetMaxIdleConns(-1)
	s.expectKey(db, 0)
	s.snowflake.UnsetPublicKey("ETL", 1)
	if _, err := query(t.Context(), db); !errors.Is(err, snowkey.ErrKeyRefused) {
		t.Errorf("error %v", err)
	}
	if err := c.Health(); !errors.Is(err, snowkey.ErrKeyRefused) {
		t.Errorf("health: %v", err)
	}
}

func TestStatement_EndedSessionIsToldApart(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	_, db := s.connector()
	expect := func(t *testing.T, err error) {
		t.Helper()
		var answer *gosnowflake.SnowflakeError
		if !errors.Is(err, snowkey.ErrSessionEnded) || !errors.As(err, &answer) {
			t.Errorf("error %v", err)
		}
	}
	begin := func(t *testing.T) *sql.Tx {
		t.Helper()
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = tx.Rollback() })
		return tx
	}
	t.Run("statement in a transaction", func(t *testing.T) {
		tx := begin(t)
		s.snowflake.EndSessions(localsnowflake.SessionGone)
		_, err := tx.ExecContext(t.Context(), "SELECT 1")
		expect(t, err)
	})
	t.Run("commit", func(t *testing.T) {
		tx := begin(t)
		s.snowflake.EndSessions(localsnowflake.SessionGone)
		expect(t, tx.Commit())
	})
	t.Run("later statement on a connection", func(t *testing.T) {
		conn, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.ExecContext(t.Context(), "SELECT 1"); err != nil {
			t.Fatal(err)
		}
		s.snowflake.EndSessions(localsnowflake.SessionGone)
		_, err = conn.ExecContext(t.Context(), "SELECT 1")
		expect(t, err)
	})
	t.Run("other errors", func(t *testing.T) {
		if _, err := db.ExecContext(t.Context(), "SELEC 1"); err == nil || errors.Is(err, snowkey.ErrSessionEnded) {
			t.Errorf("error %v", err)
		}
	})
}

func TestConnector_ClosedIsToldApart(t *testing.T) {
	s := newFixture(t)
	c, db := s.connector()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Connect(t.Context()); !errors.Is(err, snowkey.ErrClosed) || errors.Is(err, driver.ErrBadConn) {
		t.Errorf("error %v", err)
	}
}
