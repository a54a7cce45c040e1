package localsnowflake_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
)

// SF_DISABLE_MINICORE would be too late here: the driver reads it when it is initialised.
func TestMain(m *testing.M) {
	os.Setenv("SNOWFLAKE_DISABLE_PLATFORM_DETECTION", "true")
	if err := gosnowflake.GetLogger().SetLogLevel("fatal"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

var keys = sync.OnceValue(func() (keys [3]*rsa.PrivateKey) {
	for i := range keys {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		keys[i] = key
	}
	return keys
})

func oldKey() *rsa.PrivateKey   { return keys()[0] }
func newKey() *rsa.PrivateKey   { return keys()[1] }
func otherKey() *rsa.PrivateKey { return keys()[2] }

// clock is the server's, set against the real one that drivers use.
type clock struct {
	mu     sync.Mutex
	offset time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

// account is a running account with the user SVC, whose first key is oldKey.
type account struct {
	*localsnowflake.Server
	t     *testing.T
	url   string
	clock *clock
}

func newAccount(t *testing.T, opts ...localsnowflake.Option) *account {
	t.Helper()
	a := &account{t: t, clock: new(clock)}
	a.Server = localsnowflake.New(append([]localsnowflake.Option{localsnowflake.WithClock(a.clock.now)}, opts...)...)
	a.CreateUser("svc")
	a.SetPublicKey("svc", 1, &oldKey().PublicKey)
	listener := httptest.NewServer(a)
	t.Cleanup(listener.Close)
	a.url = listener.URL
	return a
}

func (a *account) config(key *rsa.PrivateKey) gosnowflake.Config {
	at, err := url.Parse(a.url)
	if err != nil {
		a.t.Fatal(err)
	}
	port, err := strconv.Atoi(at.Port())
	if err != nil {
		a.t.Fatal(err)
	}
	return gosnowflake.Config{
		Account: "local", User: "svc", Authenticator: gosnowflake.AuthTypeJwt, PrivateKey: key,
		Protocol: "http", Host: at.Hostname(), Port: port,
	}
}

func (a *account) open(cfg gosnowflake.Config) *sql.DB {
	db := sql.OpenDB(gosnowflake.NewConnector(gosnowflake.SnowflakeDriver{}, cfg))
	a.t.Cleanup(func() {
		db.Close()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	return db
}

// db is a pool of one connection, opened with the old key.
func (a *account) db() *sql.DB {
	db := a.open(a.config(oldKey()))
	db.SetMaxOpenConns(1)
	return db
}

func (a *account) mustPing(db *sql.DB) {
	a.t.Helper()
	if err := db.PingContext(a.t.Context()); err != nil {
		a.t.Fatal(err)
	}
}

// wantCode checks the code of a driver's error.
func wantCode(t *testing.T, err error, want localsnowflake.Code) *gosnowflake.SnowflakeError {
	t.Helper()
	var failure *gosnowflake.SnowflakeError
	if !errors.As(err, &failure) || failure.Number != int(want) {
		t.Fatalf("got %v, want code %v", err, want)
	}
	return failure
}

func queryString(t *testing.T, db interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}, query string, args ...any) string {
	t.Helper()
	var out string
	if err := db.QueryRowContext(t.Context(), query, args...).Scan(&out); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return out
}

func mustExec(t *testing.T, db *sql.DB, format string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), fmt.Sprintf(format, args...)); err != nil {
		t.Fatal(err)
	}
}
