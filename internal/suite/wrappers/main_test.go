package wrappers

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/shared/snowkey"
)

// driverSettings are the variables that keep the driver from detecting the cloud and loading a C library.
var driverSettings = []string{"SNOWFLAKE_DISABLE_PLATFORM_DETECTION", "SF_DISABLE_MINICORE"}

func TestMain(m *testing.M) {
	for _, name := range driverSettings {
		if err := os.Setenv(name, "true"); err != nil {
			panic(err)
		}
	}
	// The tests end sessions, and the driver would log each end.
	if err := gosnowflake.GetLogger().SetLogLevel("fatal"); err != nil {
		panic(err)
	}
	status := m.Run()
	os.RemoveAll(bothDrivers.dir)
	os.Exit(status)
}

// timeout bounds each wait for an event.
const timeout = time.Minute

// user is the name of each account's only user.
const user = "ETL"

// An account is a local Snowflake with one user, and that user's key file. Keys are testkey's, by number. At
// first key 0 is in the file and assigned.
type account struct {
	t         *testing.T
	snowflake *localsnowflake.Server
	host      string
	port      int
	keyFile   string
}

// newAccount starts an account. A middleware is called between the local Snowflake and its clients.
func newAccount(t *testing.T, middleware ...func(http.Handler) http.Handler) *account {
	t.Helper()
	server := localsnowflake.New(localsnowflake.WithStages(t.TempDir())) // with stages it accepts INSERT
	server.CreateUser(user)
	var handler http.Handler = server
	for _, wrap := range middleware {
		handler = wrap(handler)
	}
	endpoint := httptest.NewServer(handler)
	t.Cleanup(func() {
		endpoint.CloseClientConnections()
		endpoint.Close()
	})
	address, err := url.Parse(endpoint.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(address.Port())
	if err != nil {
		t.Fatal(err)
	}
	a := &account{
		t: t, snowflake: server, host: address.Hostname(), port: port,
		keyFile: filepath.Join(t.TempDir(), "rsa_key.der"),
	}
	a.assign(1, 0)
	a.publish(0)
	return a
}

func (a *account) assign(slot, key int) {
	a.snowflake.SetPublicKey(user, slot, &testkey.Key(key).RSA().PublicKey)
}

// publish replaces the key file as the sidecar does.
func (a *account) publish(key int) {
	a.t.Helper()
	temporary := a.keyFile + ".new"
	if err := os.WriteFile(temporary, keyfile.DER.Encode(testkey.Key(key)), 0o600); err != nil {
		a.t.Fatal(err)
	}
	if err := os.Rename(temporary, a.keyFile); err != nil {
		a.t.Fatal(err)
	}
}

func (a *account) config() gosnowflake.Config {
	return gosnowflake.Config{Account: "LOCAL", User: user, Database: "DB", Protocol: "http", Host: a.host, Port: a.port}
}

// dataSourceName is what sql.Open takes for the driver "snowkey".
func (a *account) dataSourceName() string {
	return fmt.Sprintf("%s@%s:%d/DB?account=LOCAL&protocol=http&privateKeyFile=%s", user, a.host, a.port, url.QueryEscape(a.keyFile))
}

func (a *account) connector(opts ...snowkey.Option) *snowkey.Connector {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), timeout)
	defer cancel()
	c, err := snowkey.NewConnector(ctx, a.keyFile, a.config(), append([]snowkey.Option{snowkey.WithJitter(0)}, opts...)...)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { c.Close() })
	return c
}

// rotate assigns the key to the second slot, publishes it, and waits until it serves.
func (a *account) rotate(c *snowkey.Connector, key int) {
	a.t.Helper()
	a.assign(2, key)
	a.publish(key)
	testenv.Eventually(a.t, "the new key serves", func() bool { return c.Stats().ServingFingerprint == testkey.Key(key).Fingerprint() })
}

// executions returns the statements with this text.
func (a *account) executions(text string) []localsnowflake.Statement {
	var found []localsnowflake.Statement
	for _, st := range a.snowflake.Statements() {
		if st.Text == text {
			found = append(found, st)
		}
	}
	return found
}

// expectOnKey fails the test unless the statement ran n times, each time on a session of the key.
func (a *account) expectOnKey(text string, n, key int) {
	a.t.Helper()
	ran := 0
	for _, st := range a.executions(text) {
		ran += st.Executions
		if st.Executions > 0 && st.Fingerprint != testkey.Key(key).Fingerprint() {
			a.t.Errorf("%s ran on a session of another key than key %d", text, key)
		}
	}
	if ran != n {
		a.t.Errorf("%s ran %d times, want %d", text, ran, n)
	}
}

func queryString(t *testing.T, db interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}, query string, args ...any) string {
	t.Helper()
	var value string
	if err := db.QueryRowContext(t.Context(), query, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value
}

func mustExec(t *testing.T, db interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, statement string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}
