package snowkey_test

import (
	"bytes"
	"context"
	"crypto/rsa"
	"database/sql"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/shared/snowkey"
)

// waitLimit bounds every wait for something that has to happen.
const waitLimit = time.Minute

func TestMain(m *testing.M) {
	// The driver's detection of the cloud and the C library takes a while, and no test needs it.
	os.Setenv("SNOWFLAKE_DISABLE_PLATFORM_DETECTION", "true")
	os.Setenv("SF_DISABLE_MINICORE", "true")
	testenv.Parallel(12)
	os.Exit(m.Run())
}

// A fixture is a local Snowflake with one user, and the key file of a task.
type fixture struct {
	t         *testing.T
	snowflake *localsnowflake.Server // nil in a portable fixture
	cfg       gosnowflake.Config
	path      string
	stages    string // directory of Snowflake's stages, if it has any
}

func newFixture(t *testing.T, opts ...localsnowflake.Option) *fixture {
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
	s := &fixture{
		t:         t,
		snowflake: server,
		cfg:       gosnowflake.Config{Account: "LOCAL", User: "ETL", Protocol: "http", Host: u.Hostname(), Port: port},
		path:      filepath.Join(t.TempDir(), "rsa_key.der"),
	}
	s.publish(0)
	s.assign(1, 0)
	return s
}

// assign gives the user's slot the public key n.
func (s *fixture) assign(slot, n int) {
	if s.snowflake != nil {
		s.snowflake.SetPublicKey("ETL", slot, public(n))
	}
}

func public(n int) *rsa.PublicKey { return &testkey.Key(n).RSA().PublicKey }

// publish replaces the key file with key n.
func (s *fixture) publish(n int) {
	s.t.Helper()
	temp := s.path + ".temp"
	if err := os.WriteFile(temp, keyfile.DER.Encode(testkey.Key(n)), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(temp, s.path); err != nil {
		s.t.Fatal(err)
	}
}

func (s *fixture) open() *sql.DB {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), waitLimit)
	defer cancel()
	db, err := snowkey.Open(ctx, s.path, s.cfg, snowkey.WithJitter(0))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { db.Close() })
	return db
}

// query runs one statement and returns the fingerprint of the key that its session logged in with.
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

// expectKey waits until queries run on key n. None of them may fail.
func (s *fixture) expectKey(db *sql.DB, n int) {
	s.t.Helper()
	want := testkey.Key(n).Fingerprint()
	for deadline := time.Now().Add(waitLimit); ; time.Sleep(5 * time.Millisecond) {
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

// connector opens a pool for tests that read Stats or events.
func (s *fixture) connector(opts ...snowkey.Option) (*snowkey.Connector, *sql.DB) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), waitLimit)
	defer cancel()
	opts = append([]snowkey.Option{snowkey.WithJitter(0), snowkey.WithQuietDriver()}, opts...)
	c, err := snowkey.NewConnector(ctx, s.path, s.cfg, opts...)
	if err != nil {
		s.t.Fatal(err)
	}
	db := sql.OpenDB(c)
	s.t.Cleanup(func() { db.Close() })
	return c, db
}

// eventually waits until ok returns true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(waitLimit); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", waitLimit, what)
		}
	}
}

// A load runs queries from several goroutines until it is stopped, and then lets them finish: a login that is cut off
// leaves a session behind.
type load struct {
	stopped atomic.Bool
	workers sync.WaitGroup
	queries atomic.Int64
	worst   atomic.Int64 // longest query, in nanoseconds
	keys    sync.Map     // fingerprints of the keys that queries ran on
}

func startLoad(t *testing.T, db *sql.DB, workers int) *load {
	return startLoadOf(t, workers, func() (string, error) { return query(context.Background(), db) })
}

func startLoadOf(t *testing.T, workers int, run func() (key string, err error)) *load {
	l := new(load)
	for range workers {
		l.workers.Go(func() {
			for !l.stopped.Load() {
				began := time.Now()
				key, err := run()
				if err != nil {
					t.Error(err)
					return
				}
				l.queries.Add(1)
				l.keys.Store(key, true)
				for took := int64(time.Since(began)); ; {
					worst := l.worst.Load()
					if took <= worst || l.worst.CompareAndSwap(worst, took) {
						break
					}
				}
			}
		})
	}
	t.Cleanup(l.end)
	return l
}

func (l *load) end() {
	l.stopped.Store(true)
	l.workers.Wait()
}

// ran reports whether a query ran on key n.
func (l *load) ran(n int) bool {
	_, ok := l.keys.Load(testkey.Key(n).Fingerprint())
	return ok
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// driverLogsTo redirects the driver's logger until the test ends. The logger is one for the program, and its
// output must not change while it writes: call driverLogsTo before the first login, and never in a parallel
// test.
func driverLogsTo(t *testing.T, w *syncBuffer) {
	gosnowflake.GetLogger().SetOutput(w)
	t.Cleanup(func() { gosnowflake.GetLogger().SetOutput(os.Stderr) })
}

func (s *fixture) sessionsOf(n int) (count int) {
	for _, session := range s.snowflake.Sessions() {
		if session.Fingerprint == testkey.Key(n).Fingerprint() {
			count++
		}
	}
	return count
}

// withSpares opens a pool and rotates it to key 1 while n of its connections are idle.
func (s *fixture) withSpares(n int, opts ...snowkey.Option) (*snowkey.Connector, *sql.DB) {
	s.t.Helper()
	c, db := s.connector(opts...)
	db.SetMaxIdleConns(n)
	l := startLoad(s.t, db, n)
	eventually(s.t, "connections", func() bool { return c.Stats().OpenConnections >= n })
	l.end()
	s.assign(2, 1)
	s.publish(1)
	eventually(s.t, "spare sessions", func() bool { return c.Stats().SpareSessions >= n })
	return c, db
}

// finishAbandonedLogins makes Snowflake finish a login whose client has gone, as the real one does.
func (s *fixture) finishAbandonedLogins() {
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.snowflake.ServeHTTP(w, r.WithContext(context.WithoutCancel(r.Context())))
	}))
	s.t.Cleanup(endpoint.Close)
	u, _ := url.Parse(endpoint.URL)
	s.cfg.Port, _ = strconv.Atoi(u.Port())
}

// hold takes n connections out of the pool.
func hold(t *testing.T, db *sql.DB, n int) []*sql.Conn {
	var conns []*sql.Conn
	for range n {
		conn, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	return conns
}

// bare opens gosnowflake's own pool, with the same key.
func (s *fixture) bare() *sql.DB {
	cfg := s.cfg
	cfg.Authenticator = gosnowflake.AuthTypeJwt
	cfg.PrivateKey = testkey.Key(0).RSA()
	db := sql.OpenDB(gosnowflake.NewConnector(gosnowflake.SnowflakeDriver{}, cfg))
	s.t.Cleanup(func() { db.Close() })
	return db
}
