package snowkey_test

import (
	"context"
	"crypto/rsa"
	"database/sql"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/localsnowflake"
	"github.com/snowkey/snowkey/internal/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/shared/snowkey"
)

const patience = time.Minute

func TestMain(m *testing.M) {
	// What the driver finds out about the cloud and the C library takes a while and matters to nobody here.
	os.Setenv("SNOWFLAKE_DISABLE_PLATFORM_DETECTION", "true")
	os.Setenv("SF_DISABLE_MINICORE", "true")
	os.Exit(m.Run())
}

// A setting is Snowflake with a user, and a key file.
type setting struct {
	t         *testing.T
	snowflake *localsnowflake.Server
	cfg       gosnowflake.Config
	path      string
	stages    string // if Snowflake has any
}

func newSetting(t *testing.T, opts ...localsnowflake.Option) *setting {
	t.Helper()
	server := localsnowflake.New(opts...)
	server.CreateUser("ETL")
	endpoint := httptest.NewServer(server)
	t.Cleanup(endpoint.Close)
	u, err := url.Parse(endpoint.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	s := &setting{
		t:         t,
		snowflake: server,
		cfg:       gosnowflake.Config{Account: "LOCAL", User: "ETL", Protocol: "http", Host: u.Hostname(), Port: port},
		path:      filepath.Join(t.TempDir(), "rsa_key.der"),
	}
	s.publish(0)
	s.assign(1, 0)
	return s
}

func (s *setting) assign(slot, n int) {
	s.snowflake.SetPublicKey("ETL", slot, public(n))
}

func public(n int) *rsa.PublicKey { return &testkey.Key(n).RSA().PublicKey }

func (s *setting) publish(n int) {
	s.t.Helper()
	temp := s.path + ".temp"
	if err := os.WriteFile(temp, keyfile.DER.Encode(testkey.Key(n)), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(temp, s.path); err != nil {
		s.t.Fatal(err)
	}
}

func (s *setting) open() *sql.DB {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	db, err := snowkey.Open(ctx, s.path, s.cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { db.Close() })
	return db
}

// query runs one statement and tells on which key.
func query(ctx context.Context, db *sql.DB) (fingerprint string, err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	var version string
	if err := conn.QueryRowContext(ctx, "SELECT current_version()").Scan(&version); err != nil {
		return "", err
	}
	return snowkey.Fingerprint(conn)
}

func (s *setting) expectKey(db *sql.DB, n int) {
	s.t.Helper()
	want := testkey.Key(n).Fingerprint()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		got, err := query(s.t.Context(), db)
		if err != nil {
			s.t.Fatal(err)
		}
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("queries run on %s, want %s", got, want)
		}
	}
}

func TestQueriesRunAndFollowTheKey(t *testing.T) {
	s := newSetting(t)
	db := s.open()
	s.expectKey(db, 0)
	s.assign(2, 1)
	s.publish(1)
	s.expectKey(db, 1)
	s.snowflake.UnsetPublicKey("ETL", 1)
	s.expectKey(db, 1)
}

func TestARotationUnderLoadFailsNoQuery(t *testing.T) {
	s := newSetting(t)
	s.snowflake.SetLoginLatency(20 * time.Millisecond)
	db := s.open()
	ctx, stop := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for ctx.Err() == nil {
				if _, err := query(ctx, db); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	for n := 1; n <= 4; n++ {
		s.assign(1+n%2, n%3)
		s.publish(n % 3)
		s.expectKey(db, n%3)
		time.Sleep(50 * time.Millisecond)
	}
	stop()
	workers.Wait()
}

func TestATransactionFinishesOnTheKeyItBeganWith(t *testing.T) {
	s := newSetting(t)
	db := s.open()
	s.expectKey(db, 0)
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.assign(2, 1)
	s.publish(1)
	s.expectKey(db, 1)
	var one int
	if err := tx.QueryRowContext(t.Context(), "SELECT 1").Scan(&one); err != nil || one != 1 {
		t.Errorf("%d, %v", one, err)
	}
	if err := tx.Commit(); err != nil {
		t.Error(err)
	}
	s.expectKey(db, 1)
	for _, session := range s.snowflake.Sessions() {
		if session.Fingerprint == testkey.Key(0).Fingerprint() && session.InTransaction {
			t.Errorf("left: %+v", session)
		}
	}
}

func TestOpenWaitsForTheFirstKey(t *testing.T) {
	s := newSetting(t)
	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := snowkey.Open(ctx, s.path, s.cfg); err == nil || !strings.Contains(err.Error(), s.path) {
		t.Errorf("error %v", err)
	}
	time.AfterFunc(50*time.Millisecond, func() { s.publish(0) })
	s.expectKey(s.open(), 0)
}

func TestTheConfigurationIsNotChanged(t *testing.T) {
	s := newSetting(t)
	value := "test"
	s.cfg.Params = map[string]*string{"query_tag": &value}
	db := s.open()
	s.expectKey(db, 0)
	if len(s.cfg.Params) != 1 || s.cfg.PrivateKey != nil {
		t.Errorf("%d params, key %v", len(s.cfg.Params), s.cfg.PrivateKey != nil)
	}
	// Nor does a change after Open reach it.
	delete(s.cfg.Params, "query_tag")
	if _, err := db.ExecContext(t.Context(), "SELECT 1"); err != nil {
		t.Error(err)
	}
}

func TestRawGivesGosnowflakesOwnConnection(t *testing.T) {
	s := newSetting(t)
	conn, err := s.open().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	err = conn.Raw(func(raw any) error {
		if _, ok := raw.(gosnowflake.SnowflakeConnection); !ok {
			t.Errorf("%T is no SnowflakeConnection", raw)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestCloseStopsEverything(t *testing.T) {
	s := newSetting(t)
	db := s.open()
	s.expectKey(db, 0)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if left := s.snowflake.Sessions(); len(left) > 0 {
		t.Errorf("sessions left: %+v", left)
	}
}

func ExampleOpen() {
	ctx := context.Background()
	db, err := snowkey.Open(ctx, "/run/snowflake/rsa_key.der", gosnowflake.Config{
		Account: "myorg-myaccount",
		User:    "ETL",
	})
	if err != nil {
		return
	}
	defer db.Close()
	// From here on db is an ordinary *sql.DB. Keep it for as long as the program runs.
	_ = db.PingContext(ctx)
}
